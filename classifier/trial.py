"""One trial of a tuning: draw settings, train on the inner folds, report each look, tell the score."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.backbone_heads import DENOISER_NETWORKS
from classifier.config import ClassifierConfig
from classifier.data import LabeledImages, real_part
from classifier.encoder_file import find_record
from classifier.inner_folds import inner_folds
from classifier.search_space import SearchSpace, apply_choices, draw, first_choices
from classifier.tune_config import TuneConfig
from extract.archive import open_archive
from extract.cache import open_images
from extract.errors import SynthlabelError
from extract.json_values import json_value
from extract.progress import Progress, no_progress
from extract.seeds import derive_seed
from extract.split import read_split

if TYPE_CHECKING:
    import optuna

STORAGE = "tune.db"
STUDY = "tune"
LOCK_SEC = 120  # that a process waits for another one's write to the storage
PRUNE_AFTER = 0.3  # share of a training's steps before which no trial is judged: all begin badly


@dataclass(frozen=True)
class Order:
    """Everything that a worker process must know to run trials."""

    data: Path
    split_path: Path
    fold: int
    fraction: float
    config: ClassifierConfig  # what the space does not decide
    space: SearchSpace
    tune: TuneConfig
    outdir: Path


@dataclass(frozen=True)
class InnerData:
    """The labeled training part, and how it is divided."""

    images: LabeledImages
    classes: tuple[str, ...]
    folds: list[tuple[np.ndarray, np.ndarray]]


def open_inner_data(order: Order, progress: Progress = no_progress) -> InnerData:
    """The training part of the outer fold alone: no row of its validation or test part is read."""
    with open_archive(order.data) as archive:
        split = read_split(order.split_path, archive)
        split.subjects(order.fold, "train", order.fraction)  # refuses a wrong fold before anything is decoded
        images = open_images(archive, progress)
        train = real_part(archive, images, split, order.fold, "train", order.fraction)
        folds = inner_folds(
            train,
            archive.classes,
            num_folds=order.tune.inner_folds,
            share=order.tune.inner_share,
            seed=order.tune.seed,
            links=split.linked_subjects,
        )
        return InnerData(train, archive.classes, folds)


def open_study(order: Order) -> optuna.Study:
    """The study in the storage of the folder, made where there is none."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.RDBStorage(
        f"sqlite:///{(order.outdir / STORAGE).resolve()}",
        engine_kwargs={"connect_args": {"timeout": LOCK_SEC}},
    )
    pruner: optuna.pruners.BasePruner = optuna.pruners.NopPruner()
    if order.tune.prune:
        pruner = optuna.pruners.MedianPruner(
            n_startup_trials=order.tune.startup_trials,
            n_warmup_steps=round(PRUNE_AFTER * order.config.steps),
        )
    return optuna.create_study(
        study_name=STUDY,
        storage=storage,
        direction="minimize" if order.config.monitor == "nll" else "maximize",
        pruner=pruner,
        load_if_exists=True,
    )


def _sampler(order: Order, ordinal: int) -> optuna.samplers.BaseSampler:
    import optuna

    sampler: optuna.samplers.BaseSampler = optuna.samplers.TPESampler(
        seed=derive_seed(order.tune.seed, "trial", ordinal), n_startup_trials=order.tune.startup_trials
    )
    if ordinal > 0:
        return sampler
    arch = order.space["arch"]
    config = replace(order.config, arch=str(arch[0])) if isinstance(arch, tuple) else order.config
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.PartialFixedSampler(first_choices(order.space, config), sampler)


def starts_pretrained(config: ClassifierConfig) -> Callable[[str], bool]:
    """Whether a network (by its name; "" = that of the settings) starts from weights under these settings.

    An encoder of `classifier pretrain` fits our networks on it and no other; the weights of another file, and
    published ones, are asked of every network of timm.
    """
    from classifier.models import OWN_NETWORKS

    record = find_record(config.weights)
    is_encoder = record is not None and record.is_encoder

    def answer(arch: str) -> bool:
        arch = arch or config.arch
        if is_encoder:
            return arch in DENOISER_NETWORKS
        if config.weights is not None:
            return True
        return config.pretrained and arch not in OWN_NETWORKS

    return answer


def trial_config(
    config: ClassifierConfig, drawn: dict[str, Any], has_weights: Callable[[str], bool]
) -> ClassifierConfig:
    """The settings of a trial; a network that the weights are not for starts without them."""
    changed = apply_choices(config, drawn)
    if has_weights(changed.arch):
        return changed
    return replace(
        changed, weights=None, pretrained=False, trained_stages=None, frozen_share=0.0, freeze_norm=False
    )


def run_trial(
    order: Order,
    ordinal: int,
    inner: InnerData | None = None,
    study: optuna.Study | None = None,
    progress: Progress = no_progress,
) -> None:
    """Run the trial with this ordinal and tell the storage; a trial whose training fails says why.

    Args:
        inner, study: where the process has them open already.
        progress: told of the steps of this trial.
    """
    import optuna

    inner = open_inner_data(order) if inner is None else inner
    study = open_study(order) if study is None else study
    # Seeded by its ordinal, a trial that is run again after a kill draws what it drew before.
    study.sampler = _sampler(order, ordinal)
    started = time.monotonic()
    trial = study.ask()
    trial.set_user_attr("ordinal", ordinal)
    state, scores = optuna.trial.TrialState.COMPLETE, None
    try:
        has_weights = starts_pretrained(order.config)
        drawn = draw(trial, order.space, has_weights)
        config = trial_config(order.config, drawn, has_weights)
        trial.set_user_attr("settings", json.dumps(settings_json(config)))
        scores = _train_inner(trial, inner, config, order.tune.seed, progress)
    except optuna.TrialPruned:
        state = optuna.trial.TrialState.PRUNED
    except (SynthlabelError, RuntimeError, MemoryError) as error:  # torch's out-of-memory is a RuntimeError
        state = optuna.trial.TrialState.FAIL
        trial.set_user_attr("failure", " ".join(str(error).split())[:500] or type(error).__name__)
    trial.set_user_attr("seconds", round(time.monotonic() - started, 2))
    if scores is not None:
        trial.set_user_attr("fold_scores", scores)
    study.tell(trial, None if scores is None else float(np.mean(scores)), state=state)


def settings_json(config: ClassifierConfig) -> dict[str, Any]:
    """What differs from the defaults, as `classifier train --settings` reads it, without the seed."""
    plain = ClassifierConfig()
    changed: dict[str, Any] = {
        field.name: getattr(config, field.name)
        for field in fields(ClassifierConfig)
        if getattr(config, field.name) != getattr(plain, field.name)
        and field.name not in ("seed", "device", "threads", "calibrate", "preprocessing")
    }
    if config.preprocessing != plain.preprocessing:
        changed["preprocessing"] = config.preprocessing.differences()
    return json_value(changed)


def _train_inner(
    trial: optuna.Trial, inner: InnerData, config: ClassifierConfig, seed: int, progress: Progress
) -> list[float]:
    """The score of each inner fold; raises `TrialPruned` where going on has little chance."""
    import optuna

    from classifier.training import train_classifier

    scores: list[float] = []
    is_better = min if config.monitor == "nll" else max
    for number, (train, val) in enumerate(inner.folds):
        looks: list[float] = []

        def on_look(
            step: int, measured: dict[str, float], number: int = number, looks: list[float] = looks
        ) -> None:
            looks.append(measured[config.monitor])
            trial.report(float(np.mean([*scores, looks[-1]])), number * config.steps + step)
            if trial.should_prune():
                raise optuna.TrialPruned(f"below the median at step {step}")

        def on_step(done: int, total: int, message: str, number: int = number) -> None:
            progress(number * total + done, total * len(inner.folds), message)

        # The same seed in every trial: settings are compared on the same order of images.
        fold_config = replace(config, seed=derive_seed(seed, "inner", number), calibrate=False)
        train_classifier(
            inner.images.subset(train), inner.images.subset(val), inner.classes, fold_config,
            progress=on_step, on_look=on_look,
        )  # fmt: skip
        scores.append(is_better(looks) if config.keep == "best" else looks[-1])
    return scores
