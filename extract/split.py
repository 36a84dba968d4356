"""Subjects split once, before anything is trained: outer folds, validation, nested labeled fractions.

Everything is drawn by subject, never by image, and subjects that share an identical picture are drawn
together. A test part may instead be decided by a column (`held_out`). `split_draw` draws, `split_check`
checks, this module makes, writes and reads.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from extract.archive import Archive
from extract.atomic import write_text
from extract.errors import ExtractError, SettingsError
from extract.fold import PARTS, Fold, Split
from extract.held_out import HeldOut, list_values
from extract.seeds import derive_seed
from extract.split_check import check_split, find_duplicates, gather_facts, real_rows
from extract.split_draw import choose_tests, deal_folds, draw_fold, find_groups, linked_note

__all__ = [
    "PARTS",
    "Fold",
    "Split",
    "carry_split",
    "check_split",
    "find_duplicates",
    "make_split",
    "read_split",
    "write_split",
]

FORMAT = "synthlabel-split-1"


def make_split(
    archive: Archive,
    *,
    num_folds: int = 5,
    fractions: Sequence[float],
    val_share: float,
    seed: int,
    links: Sequence[Sequence[str]] | None = None,
    held_out: HeldOut | None = None,
    table: Path | None = None,
    whole_subjects: bool = False,
) -> Split:
    """Draw a split; the same archive, settings and seed give the same split.

    Args:
        archive: real images, each with a subject and a label.
        num_folds: outer folds; every subject is tested in exactly one.
        fractions: labeled fractions of the training subjects, in (0, 1]; 1.0 is always added.
        val_share: share of the subjects outside the test part that validate, in (0, 1). At a fraction f
            the same fraction of them validates, so that no more labels are used than f says.
        seed: of the drawing.
        links: groups of subjects that share near duplicates and shall stay together, as
            `duplicates.alike_subjects` finds them; None = only identical pictures link.
        held_out: column and values that decide the test parts, one fold a value, in place of `num_folds`; no
            value = every value in turn.
        table: CSV of subjects that has the column; None = the archive's manifest.
        whole_subjects: test a subject with all of its images where only some have the value.

    Raises:
        SettingsError: if a setting is outside its range.
        ExtractError: if these subjects cannot be split so.
    """
    fractions = _check_settings(num_folds, fractions, val_share)
    groups = find_groups(archive, links or ())
    num_subjects = sum(len(group.subjects) for group in groups)
    if held_out is not None:
        values = held_out.values or list_values(archive, real_rows(archive), held_out.column, table)
        held_out = replace(held_out, values=values, table=table.name if table else "")
        tests, moved = choose_tests(archive, groups, held_out, table, whole_subjects)
        held_out = replace(held_out, moved_subjects=moved)
        names = [f"{held_out.column}={value}" for value in values]
    else:
        if len(groups) < num_folds + 2:
            raise ExtractError(
                f"{archive.path}: expected at least {num_folds + 2} subjects for {num_folds} folds with "
                "training and "
                f"validation parts, got {num_subjects}{linked_note(groups)}; use fewer --folds or more "
                "subjects"
            )
        tests = deal_folds(groups, num_folds, derive_seed(seed, "folds"))
        names = [""] * num_folds
    facts = gather_facts(archive)
    folds = tuple(
        draw_fold(facts, groups, test, fractions, val_share, seed, k, name)
        for k, (test, name) in enumerate(zip(tests, names, strict=True))
    )
    linked = tuple(group.subjects for group in groups if len(group.subjects) > 1)
    split = Split(archive.sha256, seed, fractions, folds, val_share, linked, links is not None, held_out)
    check_split(split, archive)
    return replace(split, sha256=hashlib.sha256(_to_json(split).encode("utf-8")).hexdigest())


def carry_split(split: Split, archive: Archive) -> Split:
    """The same division of the subjects for another archive of their images, preprocessed for instance.

    Subjects of whom the archive has no image are left out; nobody changes sides.

    Raises:
        ExtractError: if what remains is no split of this archive, because a part has lost a class for
            instance.
    """
    there = set(archive.subjects.tolist())

    def remaining(subjects: Sequence[str]) -> tuple[str, ...]:
        return tuple(subject for subject in subjects if subject in there)

    folds = tuple(
        Fold(
            test=remaining(fold.test),
            val={fraction: remaining(subjects) for fraction, subjects in fold.val.items()},
            train=remaining(fold.train),
            labeled={fraction: remaining(subjects) for fraction, subjects in fold.labeled.items()},
        )
        for fold in split.folds
    )
    linked = tuple(group for group in map(remaining, split.linked_subjects) if len(group) > 1)
    carried = replace(
        split, archive_sha256=archive.sha256, folds=folds, linked_subjects=linked, path=None, sha256=""
    )
    try:
        check_split(carried, archive)
    except ExtractError as error:
        raise ExtractError(
            f"the split of the archive before cannot be carried over to {archive.path}, because it lacks "
            f"{len(_subjects_of(split) - there)} of its subjects ({error}); make one with "
            "`synthlabel extract split`"
        ) from error
    return replace(carried, sha256=hashlib.sha256(_to_json(carried).encode("utf-8")).hexdigest())


def _subjects_of(split: Split) -> set[str]:
    return {subject for fold in split.folds for subject in (*fold.test, *fold.val[1.0], *fold.train)}


def write_split(split: Split, path: Path) -> None:
    """Write a split as readable JSON, atomically."""
    write_text(path, _to_json(split))


def read_split(path: Path, archive: Archive) -> Split:
    """Read a split and check all of it against the archive.

    Raises:
        ExtractError: if it belongs to another archive, or anything in it would make a comparison dishonest.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text)
    except FileNotFoundError as error:
        raise ExtractError(
            f"{path}: expected a split file, got nothing there; make one with `synthlabel extract split`"
        ) from error
    except (OSError, ValueError) as error:
        raise ExtractError(f"{path}: expected a split as JSON, got {error}") from error
    try:
        split = _from_json(content, path, hashlib.sha256(text.encode("utf-8")).hexdigest())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ExtractError(
            f"{path}: expected the fields of a split ({FORMAT}), got a fault at {error}"
        ) from error
    check_split(split, archive)
    return split


def _check_settings(num_folds: int, fractions: Sequence[float], val_share: float) -> tuple[float, ...]:
    if num_folds < 2:
        raise SettingsError(f"--folds must be at least 2, got {num_folds}")
    if not 0 < val_share < 1:
        raise SettingsError(f"--val-share must be between 0 and 1, got {val_share}")
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise SettingsError(f"--fractions must be above 0 and at most 1, got {fraction}")
    return tuple(sorted({float(fraction) for fraction in fractions} | {1.0}))


def _to_json(split: Split) -> str:
    content: dict[str, Any] = {
        "format": FORMAT,
        "archive_sha256": split.archive_sha256,
        "seed": split.seed,
        "val_share": split.val_share,
        "fractions": split.fractions,
        "linked_subjects": split.linked_subjects,
        "folds": [
            {
                "test": fold.test,
                "val": {str(fraction): fold.val[fraction] for fraction in split.fractions},
                "train": fold.train,
                "labeled": {str(fraction): fold.labeled[fraction] for fraction in split.fractions},
            }
            for fold in split.folds
        ],
    }
    # What a plain split does not need is left out, so that the same settings give the same bytes as ever.
    if split.links_alike:
        content["links_alike"] = True
    if split.held_out is not None:
        content["held_out"] = asdict(split.held_out)
    return json.dumps(content, indent=1) + "\n"


def _from_json(content: Mapping[str, Any], path: Path, sha256: str) -> Split:
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']!r}")
    folds = tuple(
        Fold(
            test=tuple(map(str, fold["test"])),
            val={float(fraction): tuple(map(str, subjects)) for fraction, subjects in fold["val"].items()},
            train=tuple(map(str, fold["train"])),
            labeled={
                float(fraction): tuple(map(str, subjects)) for fraction, subjects in fold["labeled"].items()
            },
        )
        for fold in content["folds"]
    )
    fractions = tuple(sorted(float(fraction) for fraction in content["fractions"]))
    if not folds or not fractions or fractions[-1] != 1.0:
        raise ValueError("folds or fractions (at least one fold, and the fraction 1.0)")
    if not 0 < float(content["val_share"]) < 1:
        raise ValueError(f"val_share {content['val_share']!r}")
    for fold in folds:
        if set(fold.val) != set(fractions) or set(fold.labeled) != set(fractions):
            raise ValueError("fractions (each fold needs val and labeled at each fraction)")
    return Split(
        archive_sha256=str(content["archive_sha256"]),
        seed=int(content["seed"]),
        fractions=fractions,
        folds=folds,
        val_share=float(content["val_share"]),
        linked_subjects=tuple(tuple(map(str, group)) for group in content.get("linked_subjects", ())),
        links_alike=bool(content.get("links_alike", False)),
        held_out=_held_out(content.get("held_out")),
        path=path,
        sha256=sha256,
    )


def _held_out(content: Mapping[str, Any] | None) -> HeldOut | None:
    if content is None:
        return None
    return HeldOut(
        str(content["column"]),
        tuple(map(str, content["values"])),
        str(content["table"]),
        tuple(map(str, content["moved_subjects"])),
    )
