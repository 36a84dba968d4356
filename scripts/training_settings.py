"""The options that are settings of a classifier training, for every command that trains one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from classifier.config import LOSSES, MONITORS, OPTIMIZERS, PRECISIONS, SCHEDULES, ClassifierConfig

DEFAULTS = {field.name: field.default for field in fields(ClassifierConfig)}
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def _setting(name: str, kind: Any, text: str, field: str = "") -> Callable[..., Any]:
    """An option that shows the default of its setting; a recipe or a file of settings may have another."""
    field = field or name.removeprefix("--").replace("-", "_")
    default = DEFAULTS[field]
    shown = f"  [default: {default}]" if default not in (None, ()) else ""
    return click.option(name, field, type=kind, default=None, help=text + shown)


def _flag(name: str, text: str) -> Callable[..., Any]:
    return click.option(name, is_flag=True, default=None, help=text)


def _widths(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    if value is None:
        return None
    parts = [part.strip() for part in value.split(",")] if value.strip() not in ("", "none") else []
    if not all(part.isdecimal() for part in parts):
        raise click.BadParameter(f"expected widths such as 1024,512, or none, got '{value}'")
    return tuple(map(int, parts))


SETTINGS = (
    # The network
    _setting("--arch", str, "small_resnet, another network of ours, or any timm name."),
    _flag("--pretrained/--no-pretrained", "Start from timm's published weights, fetched from its hub."),
    _setting("--weights", FILE, "Start from this file: published weights, or an encoder of `pretrain`."),
    click.option("--head", callback=_widths, metavar="WIDTHS", help="Hidden dense layers, such as 1024,512."),
    _setting("--dropout", float, "Before the last layer and after hidden ones."),
    # What learns, and when
    _setting("--trained-stages", int, "Last stages of the body that learn; 0 = head alone.  [default: all]"),
    _setting("--frozen-share", float, "Share of the steps, at the start, in which the head alone learns."),
    _flag("--freeze-norm/--no-freeze-norm", "BatchNorm of the body keeps the moments it has."),
    # How fast
    _setting("--steps", int, "Optimiser steps."),
    _setting("--batch", int, "Images a step.", "batch_size"),
    _setting("--optimizer", click.Choice(OPTIMIZERS), "sgd: with Nesterov momentum."),
    _setting("--momentum", float, "Of --optimizer sgd."),
    _setting(
        "--lr",
        float,
        "Peak learning rate.  [default: 0.005 for small_resnet, else 0.001, with published weights 0.0003]",
    ),
    _setting("--frozen-lr", float, "The same while the head alone learns.  [default: as --lr]"),
    _setting("--stage-lr-ratio", float, "Rate of the body's first stage over the head's."),
    _setting("--schedule", click.Choice(SCHEDULES), "plateau: the rate falls where the monitor rests."),
    _setting("--warmup", float, "one_cycle: share of the steps until the peak."),
    _setting("--plateau-patience", int, "plateau: looks without gain until the rate falls."),
    _setting("--plateau-factor", float, "plateau: by what it falls."),
    _setting("--weight-decay", float, "Biases and normalisation are spared."),
    # The loss
    _setting("--loss", click.Choice(LOSSES), "binary: one sigmoid a class."),
    _setting("--focal-gamma", float, "How much less an image counts that is classified well."),
    _setting("--label-smoothing", float, "Share of each label spread over all classes."),
    _flag("--balance-classes/--no-balance-classes", "Weigh classes inversely to their frequency."),
    # The images
    click.option(
        "--preprocessing",
        metavar="NAME|FILE.json",
        help="Steps before the network, kept in the model; see `extract preprocess`.  [default: plain]",
    ),
    _flag("--augment/--no-augment", "Small shifts, turns, zooms, brightness.  [default: augment]"),
    _flag("--mirror/--no-mirror", "Also mirror left-right; only where no label names a side."),
    _setting("--mixup", float, "Blend pairs of images: alpha of the Beta; 0 = never."),
    _setting("--cutmix", float, "Exchange rectangles between images: alpha of the Beta; 0 = never."),
    # Looking, keeping, predicting
    click.option(
        "--validate-every",
        type=int,
        metavar="STEPS",
        help=f"Steps between two looks at the validation part.  [default: {DEFAULTS['validate_every']}]",
    ),
    _setting("--monitor", click.Choice(MONITORS), "What a look is judged by."),
    _setting("--keep", click.Choice(["best", "last"]), "Checkpoint to keep."),
    _setting("--patience", int, "Stop after so many looks without gain.  [default: never]"),
    _setting("--ema", float, "Keep a moving average of the weights of this decay a step.  [default: none]"),
    _setting("--tta", int, "Changed views of an image to average with it when predicting."),
    _setting("--precision", click.Choice(PRECISIONS), "bf16: faster on processors that know it."),
    _setting("--seed", int, "All chance follows from it."),
    _setting("--device", str, "auto, cpu or cuda."),
)  # fmt: skip


def training_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """All settings of a training as options, in their order."""
    for option in reversed(SETTINGS):
        function = option(function)
    return function


def chosen_settings(ctx: click.Context, options: dict[str, Any], base: ClassifierConfig) -> ClassifierConfig:
    """The base with what was given on the command line in its place."""
    from extract.preprocessing import load_preprocessing

    given = {
        name: value
        for name, value in options.items()
        if name in DEFAULTS and ctx.get_parameter_source(name) is not ParameterSource.DEFAULT
    }
    if "preprocessing" in given:
        given["preprocessing"] = load_preprocessing(given["preprocessing"])
    if given.get("weights") is not None:
        given.setdefault("pretrained", False)
    elif given.get("pretrained"):
        given["weights"] = None
    return replace(base, **given)
