"""Options of commands that take pictures and volumes: how these become images, where a run is silent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from extract.errors import SettingsError
from scripts.number_lists import parse_angles

if TYPE_CHECKING:
    from classifier.preparation import InputSettings, Prepared

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def input_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """For runs that do not record how their archive was made, or for files that need another way."""
    for option in (
        click.option("--fov-mm", type=float, default=None, help="Side of the slices' field."),
        click.option("--step-mm", type=float, default=None, help="Distance between slices."),
        click.option("--slices-per-plane", type=int, default=None, help="Slices at each angle."),
        click.option("--angles", default=None, metavar="DEG", help="start:stop:step (inclusive) or a,b,c."),
        click.option("--planes", default=None, help="Some of sagittal,coronal,axial, for volumes."),
        click.option(
            "--fit",
            type=click.Choice(["pad", "crop", "squash"]),
            default=None,
            help="For pictures that are not square.  [default: as the training's]",
        ),
        click.option(
            "--like",
            type=FILE,
            default=None,
            help="Archive made as the training's; says how files become images.  [default: the run says it]",
        ),
    ):
        function = option(function)
    return function


def parse_input_settings(
    classifier: Prepared,
    like: Path | None,
    fit: str | None,
    planes: str | None,
    angles: str | None,
    slices_per_plane: int | None,
    step_mm: float | None,
    fov_mm: float | None,
) -> InputSettings:
    """What the options of `input_options` stand for."""
    from classifier.preparation import SliceChoice, input_settings

    if step_mm is not None and slices_per_plane is not None:
        raise SettingsError("give --step-mm or --slices-per-plane, not both")
    choice = SliceChoice(
        planes=None if planes is None else tuple(name.strip() for name in planes.split(",")),
        angles_deg=None if angles is None else parse_angles(angles),
        slices_per_plane=slices_per_plane,
        step_mm=step_mm,
        fov_mm=fov_mm,
    )
    return input_settings(classifier, like=like, fit=fit, slicing=choice)
