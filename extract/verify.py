"""Everything that can be checked of an archive, and of a split of it, before trusting results."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from extract.archive import Archive
from extract.confounds import Confound, describe, find_confounds
from extract.duplicates import DEFAULT_MIN_LIKENESS, DuplicateGroup, find_alike, find_identical
from extract.errors import ExtractError, SettingsError, name_some
from extract.mixed_subjects import MixedSubjects, find_mixed
from extract.outliers import Outlier, find_outliers
from extract.progress import Progress, no_progress
from extract.split import Split, read_split
from extract.survey import PictureSurvey, survey_pictures

WARNED = ("gives away", "hints")  # strengths of a confound that are worth a warning


@dataclass(frozen=True)
class ClassCount:
    """One line of the table."""

    name: str
    num_images: int
    num_subjects: int
    min_images: int  # of a subject that shows the class
    max_images: int
    darkest: float  # mean gray level of the darkest picture, 0 to 255
    median_brightness: float  # of the pictures' mean gray levels
    brightest: float


@dataclass(frozen=True)
class Verification:
    """What was found: errors make results wrong, warnings want a look, remarks are worth knowing."""

    counts: tuple[ClassCount, ...]
    num_images: int
    num_subjects: int
    num_duplicate_groups: int  # of identical pictures
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    split: Split | None = None
    remarks: tuple[str, ...] = ()
    identical: tuple[DuplicateGroup, ...] = ()
    alike: tuple[DuplicateGroup, ...] | None = ()  # near duplicates; None = not looked for
    outliers: tuple[Outlier, ...] = ()
    confounds: tuple[Confound, ...] = ()
    mixed: MixedSubjects | None = None
    min_likeness: float = DEFAULT_MIN_LIKENESS
    survey: PictureSurvey | None = field(default=None, repr=False)


def verify_archive(
    archive: Archive,
    split: Path | None = None,
    progress: Progress = no_progress,
    *,
    min_likeness: float = DEFAULT_MIN_LIKENESS,
    look_for_alike: bool = True,
) -> Verification:
    """Check pictures, duplicates, labels, subjects, what gives classes away, and the split if given.

    Args:
        archive: any archive; an official one without subjects has fewer checks.
        split: a split file of this archive.
        progress: told of every few pictures.
        min_likeness: correlation of fine structure from which two pictures are near duplicates, in (0, 1).
        look_for_alike: whether to look for near duplicates, the longest part on large archives.

    Raises:
        SettingsError: if min_likeness is outside (0, 1).
    """
    if not 0 < min_likeness < 1:
        raise SettingsError(f"--min-likeness must be between 0 and 1, got {min_likeness}")
    survey = survey_pictures(archive, progress)
    identical = find_identical(archive, survey)
    alike = find_alike(archive, survey, min_likeness, progress) if look_for_alike else None
    outliers, mixed = find_outliers(archive, survey), find_mixed(archive)
    confounds = find_confounds(archive, survey, progress=progress)
    errors = [*survey.errors, *_label_conflicts(archive, identical)]
    checked = None
    if split is not None:
        try:
            checked = read_split(split, archive)
        except ExtractError as error:
            errors.append(str(error))
    warnings = _duplicate_warnings(survey, identical, alike)
    warnings += [_say_outliers(archive, outliers)] if outliers else []
    if mixed.is_suspicious:
        warnings.append(f"{mixed.describe()}; {mixed.advice}")
    warnings += [describe(item) for item in confounds if item.strength in WARNED and item.kind != "name"]
    if checked is not None:
        warnings += _split_warnings(archive, checked, alike or ())
    remarks = list(_remarks(archive, survey, alike, confounds))
    remarks += [mixed.describe()] if mixed.is_consistent else []
    return Verification(
        _count_all(archive, survey),
        len(archive),
        len(set(archive.subjects.tolist()) - {""}),
        len(identical),
        tuple(errors),
        tuple(warnings),
        checked,
        tuple(remarks),
        identical,
        alike,
        outliers,
        confounds,
        mixed,
        min_likeness,
        survey,
    )


def _label_conflicts(archive: Archive, identical: Sequence[DuplicateGroup]) -> list[str]:
    """The same picture under two classes: one of the labels is wrong."""
    files, labels = archive.manifest["file"].tolist(), archive.manifest["label"].tolist()
    return [
        "identical pictures with different labels: "
        + ", ".join(f"{files[row]} ({labels[row] or 'unlabeled'})" for row in group.rows)
        for group in identical
        if group.crosses_classes
    ]


def _duplicate_warnings(
    survey: PictureSurvey, identical: Sequence[DuplicateGroup], alike: Sequence[DuplicateGroup] | None
) -> list[str]:
    warnings = []
    if identical:
        linked = sum(group.crosses_subjects for group in identical)
        warnings.append(
            f"{len(identical)} groups of identical pictures, {linked} of them across subjects; "
            "a split keeps linked subjects on one side"
        )
    blank = [group for group in identical if survey.low[group.rows[0]] == survey.high[group.rows[0]]]
    if blank:
        warnings.append(
            f"{len(blank)} of these groups are of one gray level throughout: leave empty pictures out"
        )
    if alike:
        linked, conflicts = (
            sum(group.crosses_subjects for group in alike),
            sum(group.crosses_classes for group in alike),
        )
        warnings.append(
            f"{len(alike)} groups of near duplicates ({sum(len(group.rows) for group in alike)} pictures), "
            f"{linked} of them across subjects, {conflicts} across classes; look at them, and let "
            "`extract split --link-near` keep their subjects on one side"
        )
    return warnings


def _say_outliers(archive: Archive, outliers: Sequence[Outlier]) -> str:
    by_kind: dict[str, list[Outlier]] = defaultdict(list)
    for item in outliers:
        by_kind[item.kind].append(item)
    kinds = ", ".join(f"{len(items)} {kind}" for kind, items in by_kind.items())
    named = [f"{archive.manifest['file'].iat[item.row]}: {item.reason}" for item in outliers]
    what = "picture" if len(outliers) == 1 else "pictures"
    return f"{len(outliers)} {what} of odd brightness ({kinds}): {name_some(named)}"


def _split_warnings(archive: Archive, split: Split, alike: Sequence[DuplicateGroup]) -> list[str]:
    warnings = []
    subjects = set(archive.subjects[archive.labels >= 0].tolist()) - {""}
    straddling: set[int] = set()
    unused = set(subjects)
    for fold in split.folds:
        side_of = {
            subject: side
            for side, members in (("test", fold.test), ("val", fold.val[1.0]), ("train", fold.train))
            for subject in members
        }
        unused -= set(side_of)
        for number, group in enumerate(alike):
            if len({side_of[subject] for subject in group.subjects if subject in side_of}) > 1:
                straddling.add(number)
    if straddling:
        warnings.append(
            f"{len(straddling)} groups of near duplicates stand on two sides of the split; make it anew "
            "with --link-near"
        )
    if unused:
        warnings.append(f"{len(unused)} subjects are in no part of the split: {name_some(sorted(unused))}")
    return warnings


def _remarks(
    archive: Archive,
    survey: PictureSurvey,
    alike: Sequence[DuplicateGroup] | None,
    confounds: Sequence[Confound],
) -> list[str]:
    remarks = []
    if alike is None:
        remarks.append("near duplicates were not looked for")
    elif survey.thumbs.shape[1] < 32:
        remarks.append("pictures of fewer than 32 pixels a side are too small to look for near duplicates")
    if not (archive.subjects != "").any():
        remarks.append("the archive names no subjects: such an archive cannot be split without a leak")
    named = [item for item in confounds if item.kind == "name" and item.strength in WARNED]
    remarks += [
        f"{describe(item)}; no classifier sees names, but classes that are named differently often come from "
        "different places"
        for item in named
    ]
    if not confounds and len(archive.classes) > 1:
        remarks.append("too few subjects (10 of each class) to ask what gives the classes away")
    return remarks


def _count_all(archive: Archive, survey: PictureSurvey) -> tuple[ClassCount, ...]:
    lines = [
        _count_class(archive, survey, name, archive.labels == k) for k, name in enumerate(archive.classes)
    ]
    if (archive.labels < 0).any():
        lines.append(_count_class(archive, survey, "(unlabeled)", archive.labels < 0))
    return tuple(lines)


def _count_class(archive: Archive, survey: PictureSurvey, name: str, chosen: np.ndarray) -> ClassCount:
    per_subject: dict[str, int] = defaultdict(int)
    for subject in archive.subjects[chosen]:
        if subject:
            per_subject[str(subject)] += 1
    numbers = list(per_subject.values())
    means = survey.mean[chosen & survey.is_readable]
    low, middle, high = np.quantile(means, [0, 0.5, 1]).tolist() if len(means) else (0.0, 0.0, 0.0)
    return ClassCount(
        name, int(chosen.sum()), len(numbers), min(numbers, default=0), max(numbers, default=0),
        low, middle, high,
    )  # fmt: skip
