"""From a raw folder of classes to what a training takes: an archive in the cache, a split beside the run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from classifier.errors import ClassifierError
from classifier.recipes import Recipe
from extract.archive import open_archive
from extract.csv_table import read_csv_table
from extract.errors import ExtractError
from extract.folder_archive import TABLE, archive_of_classes
from extract.images import ImageConfig
from extract.layouts import SubjectRule
from extract.progress import Progress, no_progress
from extract.split import make_split, read_split, write_split


@dataclass(frozen=True)
class TrainingData:
    """Archive and split of a training, and what the user should know about them."""

    archive: Path
    split: Path
    notes: tuple[str, ...]


def recipe_data(
    recipe: Recipe,
    data: Path,
    split: Path | None,
    run_dir: Path,
    *,
    rule: SubjectRule | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> TrainingData:
    """What a recipe trains on, made where it is not given.

    Args:
        data: an archive, or a folder of classes, which is packed once at the recipe's size (see
            `extract.folder_archive.archive_of_classes`).
        split: of that archive; None = one of its own, written beside the run as RUN.split.json with the
            recipe's shares, or the one that a training before has written there.
        run_dir: of the run to come.
        rule: where the subjects of a folder come from; None = its manifest.csv.
        seed: of the drawing of the split.

    Raises:
        ExtractError: if pictures, subjects or split cannot be used.
        ClassifierError: if the file beside the run is a split of other images.
    """
    archive, notes = data_archive(recipe, data, rule=rule, progress=progress)
    notes += _note_on_size(recipe, archive)
    if split is not None:
        return TrainingData(archive, split, notes)
    split = run_dir.with_name(f"{run_dir.name}.split.json")
    is_new = split_for(recipe, archive, split, seed)
    made = "made" if is_new else "found"
    told = f"{made} {split}: {recipe.num_folds} folds by subject, test part of a fold kept closed"
    if data != archive:
        told += f"; its images are in {archive}"
    return TrainingData(archive, split, (*notes, told))


def data_archive(
    recipe: Recipe, data: Path, *, rule: SubjectRule | None = None, progress: Progress = no_progress
) -> tuple[Path, tuple[str, ...]]:
    """The archive itself, or that of a folder of classes at the recipe's size; and notes on it."""
    if not data.is_dir():
        return data, ()
    rule = _with_classes_of(recipe, rule, data)
    packed = archive_of_classes(data, ImageConfig(size=recipe.image_size), rule, progress)
    return packed.path, packed.notes


def split_for(recipe: Recipe, archive: Path, path: Path, seed: int) -> bool:
    """Write a split with the recipe's shares unless one of this archive is there; True where it is new.

    Raises:
        ClassifierError: if a split of other images is there.
    """
    with open_archive(archive) as opened:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            drawn = make_split(
                opened, num_folds=recipe.num_folds, fractions=(1.0,), val_share=recipe.val_share, seed=seed
            )
            write_split(drawn, path)
            return True
        try:
            read_split(path, opened)
        except ExtractError as error:
            raise ClassifierError(
                f"{path}: expected the split of these images that a training before has written, got another "
                f"({error}); move it away, or name another --outdir or a --split"
            ) from error
    return False


def _note_on_size(recipe: Recipe, archive: Path) -> tuple[str, ...]:
    with open_archive(archive) as opened:
        _, height, width = opened.image_shape
    if min(height, width) >= recipe.input_size:
        return ()
    return (
        f"{archive} holds images of {width}x{height} pixels, {recipe.name} shows its network "
        f"{recipe.input_size}: they are enlarged, which costs time and adds nothing "
        f"(--size {min(height, width)})",
    )


def _with_classes_of(recipe: Recipe, rule: SubjectRule | None, folder: Path) -> SubjectRule | None:
    """The rule, or the folder's own table, with the recipe's classes where that table has such a column."""
    if rule is None and (folder / TABLE).is_file():
        rule = SubjectRule(table=folder / TABLE)
    if rule is None or rule.table is None or not recipe.label_column:
        return rule
    if rule.label_column or rule.label_pattern or rule.labels:  # classes were asked for
        return rule
    columns = read_csv_table(rule.table).frame.columns
    return replace(rule, label_column=recipe.label_column) if recipe.label_column in columns else rule
