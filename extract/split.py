"""Subjects split once, before anything is trained: outer folds, validation, nested labeled fractions.

Everything is drawn by subject, never by image, and subjects that share an identical picture are drawn
together. `split_draw` draws, `split_check` checks, this module makes, writes and reads.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from extract.archive import Archive
from extract.atomic import write_text
from extract.errors import ExtractError, SettingsError
from extract.fold import PARTS, Fold, Split
from extract.seeds import derive_seed
from extract.split_check import check_split, find_duplicates
from extract.split_draw import deal_folds, draw_fold, find_groups, linked_note

__all__ = [
    "PARTS",
    "Fold",
    "Split",
    "check_split",
    "find_duplicates",
    "make_split",
    "read_split",
    "write_split",
]

FORMAT = "synthlabel-split-1"


def make_split(
    archive: Archive, *, num_folds: int, fractions: Sequence[float], val_share: float, seed: int
) -> Split:
    """Draw a split; the same archive, settings and seed give the same split.

    Args:
        archive: real images, each with a subject and a label.
        num_folds: outer folds; every subject is tested in exactly one.
        fractions: labeled fractions of the training subjects, in (0, 1]; 1.0 is always added.
        val_share: share of the subjects outside the test part that validate, in (0, 1). At a fraction f
            the same fraction of them validates, so that no more labels are used than f says.
        seed: of the drawing.

    Raises:
        SettingsError: if a setting is outside its range.
        ExtractError: if these subjects cannot be split so.
    """
    fractions = _check_settings(num_folds, fractions, val_share)
    groups = find_groups(archive)
    num_subjects = sum(len(group.subjects) for group in groups)
    if len(groups) < num_folds + 2:
        raise ExtractError(
            f"{archive.path}: expected at least {num_folds + 2} subjects for {num_folds} folds with "
            "training and "
            f"validation parts, got {num_subjects}{linked_note(groups)}; use fewer --folds or more subjects"
        )
    tests = deal_folds(groups, num_folds, derive_seed(seed, "folds"))
    folds = tuple(
        draw_fold(archive, groups, test, fractions, val_share, seed, k) for k, test in enumerate(tests)
    )
    linked = tuple(group.subjects for group in groups if len(group.subjects) > 1)
    split = Split(archive.sha256, seed, fractions, folds, val_share, linked)
    check_split(split, archive)
    return replace(split, sha256=hashlib.sha256(_to_json(split).encode("utf-8")).hexdigest())


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
    content = {
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
    for fold in folds:
        if set(fold.val) != set(fractions) or set(fold.labeled) != set(fractions):
            raise ValueError("fractions (each fold needs val and labeled at each fraction)")
    return Split(
        archive_sha256=str(content["archive_sha256"]),
        seed=int(content["seed"]),
        fractions=fractions,
        folds=folds,
        val_share=float(content["val_share"]),
        linked_subjects=tuple(tuple(group) for group in content.get("linked_subjects", ())),
        path=path,
        sha256=sha256,
    )
