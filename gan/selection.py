"""Chosen images of a generator as an archive, each with what it was asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from extract.archive import ArchiveWriter, ImageRecord
from extract.errors import SettingsError
from extract.progress import Progress, no_progress
from gan.images import channels_last
from gan.recipes import Recipe
from gan.studio import Studio

CHUNK = 64  # images in memory at a time
SEVERAL = "several"  # noise mode of an archive whose images differ in it; the manifest then tells each


@dataclass(frozen=True)
class SelectionSummary:
    """What a call made."""

    dest: Path
    num_images: int
    num_mixed: int  # of them from two seeds
    snapshot_sha256: str


def write_selection(
    studio: Studio,
    recipes: Sequence[Recipe],
    dest: Path,
    *,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> SelectionSummary:
    """Write the images of recipes, each once and in their order, as an archive of synthetic images.

    Of plain seeds alone it is the archive that `gan generate --batch 4` writes, byte for byte. An image of
    two seeds names both in the manifest, with the style inputs of the second or the share of the way to it.

    Raises:
        SettingsError: if there is no recipe, or one that the network cannot make.
        ExtractError: if dest exists and may not be overwritten.
    """
    chosen = list(dict.fromkeys(recipes))
    if not chosen:
        raise SettingsError("expected at least one image to save, got none")
    for recipe in chosen:
        studio.check(recipe)
    modes = {recipe.noise_mode for recipe in chosen}
    writer = ArchiveWriter(
        dest,
        overwrite=overwrite,
        classes=studio.snapshot.classes or None,
        preparation={
            "kind": "synthetic",
            "noise_mode": chosen[0].noise_mode if len(modes) == 1 else SEVERAL,
            "precision": studio.sampler.precision,
        },
    )
    with writer:
        for start in range(0, len(chosen), CHUNK):
            part = chosen[start : start + CHUNK]
            for recipe, pixels in zip(part, studio.images(part), strict=True):
                writer.add(channels_last(pixels), _record(recipe, studio.snapshot_sha256, len(modes) > 1))
            progress(start + len(part), len(chosen), "images saved")
    num_mixed = sum(not recipe.is_plain for recipe in chosen)
    return SelectionSummary(dest, len(chosen), num_mixed, studio.snapshot_sha256)


def _record(recipe: Recipe, snapshot_sha256: str, tells_noise: bool) -> ImageRecord:
    return ImageRecord(
        label=recipe.class_name,
        origin="synthetic",
        seed=recipe.seed,
        truncation_psi=recipe.truncation_psi,
        class_name=recipe.class_name,
        snapshot_sha256=snapshot_sha256,
        second_seed=recipe.second_seed,
        second_styles=recipe.second_styles,
        walk_share=recipe.walk_share,
        noise_mode=recipe.noise_mode if tells_noise else "",
    )
