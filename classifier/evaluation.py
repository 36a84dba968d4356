"""Evaluating a run on a part: everything that can be said about it, in files beside the model.

What is to be decided (thresholds, rejection) is chosen on the validation part that chose the checkpoint, and
applied to other parts unchanged. Where the rule does not exist yet when the test part is opened, that
validation part is scored for it first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from classifier.bootstrap import (
    SubjectDraws,
    class_area_draws,
    draw_subjects,
    metric_draws,
)
from classifier.calibration import scale_logits
from classifier.curves import class_curves, curve_table, risk_coverage_curve
from classifier.data import LabeledImages, real_part
from classifier.decision import DecisionRule, read_decision, write_decision
from classifier.errors import ClassifierError
from classifier.evaluate import (
    METRICS,
    class_report,
    classification_metrics,
    confusion_matrix,
    missing_classes,
    refuse_seen_subjects,
)
from classifier.evaluation_files import (
    page_path,
    read_metrics,
    read_predictions,
    write_metrics,
    write_predictions,
    write_table,
)
from classifier.plots import plot_confusion, plot_reliability
from classifier.rejection import (
    COVERAGES,
    DEFAULT_COVERAGE,
    aurc_report,
    choose_confidence,
    rejection_report,
)
from classifier.reliability import calibration_report
from classifier.run import WEIGHTS, Classifier, load_classifier
from classifier.subgroups import group_columns, subgroup_table
from classifier.subject_level import COMBINE, SubjectScores, combine_by_subject, subject_table
from classifier.thresholds import choose_thresholds, positive_class, share_interval, threshold_report
from classifier.verdict import Verdict, judge
from extract.archive import Archive, open_archive
from extract.cache import open_images
from extract.errors import SettingsError
from extract.file_hash import remembered_sha256
from extract.progress import Progress, no_progress
from extract.split import Split, read_split


@dataclass(frozen=True)
class EvaluationOptions:
    """What of an evaluation can be chosen."""

    by: tuple[str, ...] | None = None  # columns of subgroups; None = those with 2 to 12 values, () = none
    table: Path | None = None  # CSV with one row a subject for columns that the manifest does not have
    risk: float | None = None  # reject so that at most this share of the decided validation images is wrong
    coverage: float | None = None  # or so that at least this share of them is decided
    positive: str | None = None  # of two classes the one that is looked for
    combine: str = "mean"  # how images of a subject are combined, see classifier/subject_level.py
    page: bool = True  # write the HTML page

    def __post_init__(self) -> None:
        for name in ("risk", "coverage"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 1:
                raise SettingsError(f"--{name} must be between 0 and 1, got {value:g}")
        if self.risk is not None and self.coverage is not None:
            raise SettingsError("--risk and --coverage exclude each other: give one of them")
        if self.combine not in COMBINE:
            raise SettingsError(f"--combine must be one of {', '.join(COMBINE)}, got {self.combine}")

    @property
    def rejection(self) -> tuple[str, float] | None:
        """What the rejection is to reach, where it was said."""
        if self.risk is not None:
            return "risk", self.risk
        return None if self.coverage is None else ("coverage", self.coverage)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation measured; the same numbers stand in metrics.json."""

    part: str
    num_images: int
    num_subjects: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]  # 95 %, by subject
    missing_classes: list[str]
    openings: int  # how often this run was evaluated on this part, this time included
    verdict: Verdict = field(default_factory=Verdict)
    report: Mapping[str, Any] = field(default_factory=dict)  # all of the part's entry in metrics.json
    page: Path | None = None


@dataclass(frozen=True)
class Scored:
    """A part with what the classifier says of it."""

    data: LabeledImages
    logits: np.ndarray  # (N, C)
    probs: np.ndarray  # (N, C), calibrated

    @property
    def is_wrong(self) -> np.ndarray:
        return self.probs.argmax(axis=1) != self.data.labels

    @property
    def confidence(self) -> np.ndarray:
        return self.probs.max(axis=1)


def evaluate_run(
    run_dir: Path,
    data: Path,
    split_path: Path,
    part: str,
    *,
    fold: int | None = None,
    fraction: float | None = None,
    options: EvaluationOptions | None = None,
    progress: Progress = no_progress,
) -> Evaluation:
    """Evaluate a saved run on a part, and add predictions, metrics, tables, plots and a page to its folder.

    Fold and fraction are those of the training where they are not given.

    Raises:
        ClassifierError: if the run cannot be read, knows other classes, or has seen a subject of the part
            (for validation: has trained on one).
        SettingsError: if fold, fraction, a column or the positive class is none.
    """
    classifier = load_classifier(run_dir)
    fold = classifier.provenance.fold if fold is None else fold
    fraction = classifier.provenance.fraction if fraction is None else fraction
    if fold is None:
        raise SettingsError(f"{run_dir} was not trained on a split: say which fold to evaluate with --fold")
    with open_archive(data) as archive:
        split = read_split(split_path, archive)
        split.subjects(fold, part, fraction if fraction is not None else 1.0)
        images = open_images(archive, progress)
        return evaluate_part(
            classifier, run_dir, archive, images, split, fold, part, 1.0 if fraction is None else fraction,
            options,
        )  # fmt: skip


def evaluate_part(
    classifier: Classifier,
    run_dir: Path,
    archive: Archive,
    images: np.ndarray,
    split: Split,
    fold: int,
    part: str,
    fraction: float,
    options: EvaluationOptions | None = None,
) -> Evaluation:
    """Evaluate a classifier, saved in `run_dir`, on a part of an opened archive; see `evaluate_run`."""
    options = options or EvaluationOptions()
    run_dir = Path(run_dir)
    if archive.classes != classifier.classes:
        raise ClassifierError(
            f"{archive.path} has the classes {', '.join(archive.classes)}, the classifier in {run_dir} knows "
            f"{', '.join(classifier.classes)}: evaluate on an archive with the same classes"
        )
    data = real_part(archive, images, split, fold, part, fraction)
    seen = classifier.train_subjects + (() if part == "val" else classifier.val_subjects)
    refuse_seen_subjects(data.subjects, seen, f"the classifier in {run_dir}")
    rows = split.rows(archive, fold, part, fraction)
    written, before = read_metrics(run_dir), read_predictions(run_dir)
    columns = group_columns(archive, rows, options.by, options.table)
    scored = _score(classifier, data)
    own = _validation_part(classifier, archive, images, split)
    is_own = own is not None and part == "val" and (fold, fraction) == _fold_and_fraction(classifier)
    rule = _decision_rule(classifier, run_dir, scored if is_own else own, options, is_new=is_own)
    positive = positive_class(classifier.classes) if rule is None else rule.positive
    earlier = written.get(part, {})
    draws = draw_subjects(data.subjects)
    report = {
        "archive_sha256": archive.sha256,
        "split_sha256": split.sha256,
        "fold": fold,
        "fraction": fraction,
        "openings": earlier.get("openings", 0) + 1,
        **measure(scored, classifier.classes, draws, rule, options.combine),
        "positive": positive,
        "chosen_here": is_own,
        "temperature": classifier.temperature,
        "near_duplicates_linked": split.links_alike,
    }
    if "explanation" in earlier and all(earlier.get(key) == report[key] for key in _IDENTITY):
        report["explanation"] = earlier["explanation"]
    groups = subgroup_table(scored.probs, data.labels, data.subjects, classifier.classes, columns, draws)
    report["subgroups"] = groups.to_dict("records")
    written[part] = report
    verdict = judge(report, part, classifier.classes)
    files = archive.manifest["file"].to_numpy(dtype=str)[rows]
    write_predictions(
        run_dir, before, classifier.classes, files, data.subjects, data.labels, part, scored.probs
    )
    _write_tables_and_plots(scored, classifier.classes, run_dir, part, draws, report)
    write_table(groups, run_dir / f"subgroups-{part}.csv")
    write_metrics(run_dir, written)
    page = page_path(run_dir, part)
    if options.page:
        from classifier.page import write_evaluation_page  # jinja2 and matplotlib take a moment to load

        write_evaluation_page(run_dir, part, archive)
    else:
        page.unlink(missing_ok=True)  # it would tell of an earlier evaluation
    return Evaluation(
        part=part,
        num_images=report["num_images"],
        num_subjects=report["num_subjects"],
        metrics=report["metrics"],
        intervals={name: tuple(values) for name, values in report["intervals_95"].items()},
        missing_classes=missing_classes(data.labels, classifier.classes),
        openings=report["openings"],
        verdict=verdict,
        report=report,
        page=page if options.page else None,
    )


_IDENTITY = ("archive_sha256", "split_sha256", "fold", "fraction")


def _score(classifier: Classifier, data: LabeledImages) -> Scored:
    logits = classifier.predict_logits(data.images)
    return Scored(data, logits, scale_logits(logits, classifier.temperature))


# The decision rule ------------------------------------------------------------------------------------


def _validation_part(
    classifier: Classifier, archive: Archive, images: np.ndarray, split: Split
) -> LabeledImages | None:
    """The validation part of the training, where this archive and split are those of the training."""
    origin = classifier.provenance
    if (origin.archive_sha256, origin.split_sha256) != (archive.sha256, split.sha256) or origin.fold is None:
        return None
    fold, fraction = _fold_and_fraction(classifier)
    data = real_part(archive, images, split, fold, "val", fraction)
    refuse_seen_subjects(
        data.subjects, classifier.train_subjects, "the model, whose validation part this is,"
    )
    return data


def _fold_and_fraction(classifier: Classifier) -> tuple[int, float]:
    origin = classifier.provenance
    return (-1 if origin.fold is None else origin.fold), (1.0 if origin.fraction is None else origin.fraction)


def _decision_rule(
    classifier: Classifier,
    run_dir: Path,
    validation: LabeledImages | Scored | None,
    options: EvaluationOptions,
    *,
    is_new: bool,
) -> DecisionRule | None:
    """The run's rule: the one that it has, or one chosen now on its validation part and written.

    It is chosen anew where the run has none, where another risk, coverage or positive class is asked for, and
    where the validation part itself is evaluated (`is_new`).
    """
    try:
        positive = positive_class(classifier.classes, options.positive)
    except ValueError as error:
        raise SettingsError(str(error)) from error
    existing = read_decision(run_dir)
    if existing is not None:
        is_asked = options.rejection in (None, (existing.wanted, existing.target))
        fits = is_asked and options.positive in (None, existing.positive)
        if fits and not is_new and existing.temperature == classifier.temperature:
            return existing
        if existing.temperature != classifier.temperature:
            existing = None  # its numbers stand for other probabilities
        elif options.positive is None:
            positive = existing.positive
    if validation is None:
        if options.rejection is not None or options.positive is not None:
            raise SettingsError(
                "thresholds are chosen on the validation part of the training, which is not in this archive "
                "and split: run `classifier evaluate --part val` on those of the training with --risk, "
                "--coverage or --positive, and evaluate here without"
            )
        return existing
    wanted, target = options.rejection or (
        (existing.wanted, existing.target) if existing else ("coverage", DEFAULT_COVERAGE)
    )
    scored = validation if isinstance(validation, Scored) else _score(classifier, validation)
    rule = choose_rule(scored, classifier, positive, wanted, target)
    weights = run_dir / WEIGHTS
    rule = replace(rule, model_sha256=remembered_sha256(weights) if weights.exists() else "")
    write_decision(rule, run_dir)
    return rule


def choose_rule(
    scored: Scored, classifier: Classifier, positive: str | None, wanted: str, target: float
) -> DecisionRule:
    """Thresholds and rejection from a scored validation part."""
    rejection = choose_confidence(scored.confidence, scored.is_wrong, wanted, target)
    points = [choose_confidence(scored.confidence, scored.is_wrong, "coverage", share) for share in COVERAGES]
    return DecisionRule(
        classes=classifier.classes,
        thresholds=choose_thresholds(scored.probs, scored.data.labels, classifier.classes, positive),
        positive=positive,
        reject_confidence=rejection.confidence,
        wanted=wanted,
        target=target,
        risk=rejection.risk,
        coverage=rejection.coverage,
        num_images=len(scored.data),
        num_subjects=_num_subjects(scored.data.subjects),
        temperature=classifier.temperature,
        note=rejection.note,
        operating_points=tuple(
            (share, point.confidence) for share, point in zip(COVERAGES, points, strict=True)
        ),
    )


def _num_subjects(subjects: np.ndarray) -> int:
    """Subjects of the images; an image without one is its own."""
    return len(set(subjects.tolist()) - {""}) + int((subjects == "").sum())


# Measuring --------------------------------------------------------------------------------------------


def measure(
    scored: Scored,
    classes: tuple[str, ...],
    draws: SubjectDraws | None,
    rule: DecisionRule | None,
    combine: str = "mean",
) -> dict[str, Any]:
    """Everything that metrics.json says of a scored part but where it came from."""
    data, probs, labels = scored.data, scored.probs, scored.data.labels
    num_classes = len(classes)
    matrix = confusion_matrix(probs.argmax(axis=1), labels, num_classes)
    uncalibrated = scale_logits(scored.logits, 1.0)
    before = classification_metrics(uncalibrated, labels, num_classes)
    missing = missing_classes(labels, classes)
    by_subject = combine_by_subject(probs, labels, data.subjects, combine)
    areas = None if draws is None else class_area_draws(probs, labels, num_classes, draws)
    return {
        "num_images": len(data),
        "num_subjects": _num_subjects(data.subjects),
        "subjects_known": bool((data.subjects != "").all()),
        "metrics": classification_metrics(probs, labels, num_classes),
        "intervals_95": _metric_intervals(probs, labels, num_classes, draws, areas),
        "uncalibrated": {name: before[name] for name in ("ece", "brier", "nll")},
        "classes": _class_lines(scored, classes, draws, areas),
        "confusion_matrix": matrix.tolist(),
        "subject_level": _subject_report(by_subject, classes, combine),
        "calibration": calibration_report(probs, uncalibrated, labels),
        "thresholds": {}
        if rule is None
        else threshold_report(probs, labels, classes, rule.thresholds, draws),
        "rejection": _rejection(scored, rule, draws),
        "notes": _notes(missing),
    }


def _metric_intervals(
    probs: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    draws: SubjectDraws | None,
    areas: list[tuple[np.ndarray, np.ndarray]] | None = None,
) -> dict[str, list[float]]:
    if draws is None:
        return {}
    drawn = metric_draws(probs, labels, num_classes, draws, areas)
    return {name: list(draws.interval(drawn[name])) for name in METRICS if name in drawn}


def _class_lines(
    scored: Scored,
    classes: Sequence[str],
    draws: SubjectDraws | None,
    areas: list[tuple[np.ndarray, np.ndarray]] | None,
) -> dict[str, dict[str, Any]]:
    """The class report with subjects and intervals."""
    labels, subjects = scored.data.labels, scored.data.subjects
    predicted = scored.probs.argmax(axis=1)
    lines: dict[str, dict[str, Any]] = dict(class_report(scored.probs, labels, classes))
    for number, name in enumerate(classes):
        is_own, is_called = labels == number, predicted == number
        lines[name]["num_subjects"] = _num_subjects(subjects[is_own])
        lines[name]["intervals_95"] = found = {}
        if draws is None or areas is None:
            continue
        found["sensitivity"] = list(share_interval(is_called, is_own, draws))
        found["specificity"] = list(share_interval(~is_called, ~is_own, draws))
        found["precision"] = list(share_interval(is_own, is_called, draws))
        smaller = min((draws.of(is_own), draws.of(~is_own)), key=lambda side: side.num_subjects)
        found["auroc"] = list(smaller.interval(areas[number][0]))
    return lines


def _subject_report(scores: SubjectScores, classes: Sequence[str], combine: str) -> dict[str, Any]:
    """Metrics of one decision a subject, or why there are none."""
    report: dict[str, Any] = {"combine": combine, "num_subjects": len(scores.names)}
    if scores.left_out:
        report |= {"num_left_out": len(scores.left_out), "left_out": list(scores.left_out[:20])}
    if not scores.is_usable:
        return {**report, "reason": scores.reason}
    num_classes = len(classes)
    draws = draw_subjects(scores.names)
    predicted = scores.probs.argmax(axis=1)
    return {
        **report,
        "metrics": classification_metrics(scores.probs, scores.labels, num_classes),
        "intervals_95": _metric_intervals(scores.probs, scores.labels, num_classes, draws),
        "classes": class_report(scores.probs, scores.labels, classes),
        "confusion_matrix": confusion_matrix(predicted, scores.labels, num_classes).tolist(),
    }


def _rejection(scored: Scored, rule: DecisionRule | None, draws: SubjectDraws | None) -> dict[str, Any]:
    report: dict[str, Any] = aurc_report(scored.confidence, scored.is_wrong, draws)
    if rule is None:
        return report
    chosen = {
        "confidence": rule.reject_confidence,
        "wanted": rule.wanted,
        "target": rule.target,
        "on_validation": {"risk": rule.risk, "coverage": rule.coverage, "num_images": rule.num_images,
                          "num_subjects": rule.num_subjects},
        "note": rule.note,
        **rejection_report(rule.accepts(scored.probs), scored.is_wrong, draws),
    }  # fmt: skip
    points = [
        {
            "wanted_coverage": share,
            "confidence": confidence,
            **rejection_report(
                scored.confidence >= (0.0 if confidence is None else confidence), scored.is_wrong, draws
            ),
        }
        for share, confidence in rule.operating_points
    ]
    return {**report, "chosen": chosen, "operating_points": points}


def _notes(missing: list[str]) -> list[str]:
    if not missing:
        return []
    return [
        f"no image of class {', '.join(missing)} in this part: its sensitivity and areas are undefined, "
        "and the means over classes leave it out"
    ]


def _write_tables_and_plots(
    scored: Scored,
    classes: tuple[str, ...],
    run_dir: Path,
    part: str,
    draws: SubjectDraws | None,
    report: Mapping[str, Any],
) -> None:
    probs, labels, subjects = scored.probs, scored.data.labels, scored.data.subjects
    curves = class_curves(probs, labels, classes, draws, report["positive"])
    rejection = risk_coverage_curve(scored.confidence, scored.is_wrong, report["rejection"]["aurc"], draws)
    write_table(curve_table([*curves, rejection]), run_dir / f"curves-{part}.csv")
    scores = combine_by_subject(probs, labels, subjects, report["subject_level"]["combine"])
    write_table(subject_table(probs, labels, subjects, classes, scores), run_dir / f"subjects-{part}.csv")
    where = f"{part}, fold {report['fold']}"
    matrix = np.array(report["confusion_matrix"])
    plot_confusion(matrix, classes, run_dir / f"confusion-{part}.png", f"Confusion ({where})")
    plot_reliability(
        probs, labels, run_dir / f"reliability-{part}.png", f"Reliability ({where})",
        before=scale_logits(scored.logits, 1.0),
    )  # fmt: skip
