"""What an evaluation says, in plain words: how good, how sure, what is confused, what rejecting gives."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MIN_SUBJECTS = 20  # of a part, below which its numbers are called uncertain
MIN_CLASS_SUBJECTS = 10
MIN_DRIFT = 0.02  # mean confidence minus accuracy that is worth a sentence
NUM_CONFUSIONS = 3


@dataclass(frozen=True)
class Verdict:
    """The first lines of the page."""

    headline: str = ""
    is_good: bool = False  # shown to be better than guessing
    details: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def judge(report: Mapping[str, Any], part: str, classes: Sequence[str]) -> Verdict:
    """Put a part's entry in metrics.json into words.

    Args:
        report: as `classifier.evaluation.measure` and `evaluate_part` make it, or as read from metrics.json
            (None for what is undefined).
        part: "train", "val" or "test".
    """
    headline, is_good = _headline(report, part)
    details = [
        *_discrimination(report, part),
        *_by_subject(report),
        *_confusions(report, classes),
        *_calibration(report),
        *_rejection(report),
        *_subgroups(report),
    ]
    return Verdict(headline, is_good, tuple(details), tuple(_warnings(report, part, classes)))


def percent(value: float | None, digits: int = 1) -> str:
    """0.745 -> "74.5 %", a dash where it is undefined."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{100 * value:.{digits}f} %"


def span(interval: Sequence[float | None] | None) -> str:
    """An interval in percent: "71.6 to 77.5 %", or empty where there is none."""
    if not interval or any(bound is None or not math.isfinite(bound) for bound in interval):
        return ""
    low, high = interval
    assert low is not None and high is not None
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def number(value: float | None, digits: int = 3) -> str:
    """0.8817 -> "0.882", a dash where it is undefined."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _counted(count: int, word: str, several: str = "") -> str:
    return f"{count:,} {word if count == 1 else several or word + 's'}"


def _with_interval(value: float | None, interval: Sequence[float | None] | None) -> str:
    shown = span(interval)
    return f"{percent(value)} (95 % interval {shown})" if shown else percent(value)


def _headline(report: Mapping[str, Any], part: str) -> tuple[str, bool]:
    value = report["metrics"]["balanced_accuracy"]
    interval = report["intervals_95"].get("balanced_accuracy")
    whose = {"test": "test subject", "val": "validation subject"}.get(part, "subject")
    on = f"on {_counted(report['num_images'], 'image')} of {_counted(report['num_subjects'], whose)}"
    present = sum(line["num_images"] > 0 for line in report["classes"].values())
    if present < 2:
        return f"Accuracy {percent(report['metrics']['accuracy'])} {on} of one class alone.", False
    chance = 1 / present
    sentence = f"Balanced accuracy {_with_interval(value, interval)} {on}"
    if not span(interval):
        return f"{sentence}; one subject gives no interval, and no conclusion.", False
    if report["num_subjects"] < MIN_SUBJECTS:
        return f"{sentence}, too few to rely on it; guessing gives {percent(chance, 0)}.", False
    if interval[0] > chance:
        return f"{sentence}; guessing gives {percent(chance, 0)}.", True
    return f"{sentence}: not shown to be better than guessing, which gives {percent(chance, 0)}.", False


def _discrimination(report: Mapping[str, Any], part: str) -> list[str]:
    metrics, intervals = report["metrics"], report["intervals_95"]
    sentence = f"Accuracy {_with_interval(metrics['accuracy'], intervals.get('accuracy'))}"
    if metrics["auroc"] is not None and math.isfinite(metrics["auroc"]):
        low_high = intervals.get("auroc")
        shown = f" ({number(low_high[0])} to {number(low_high[1])})" if low_high and span(low_high) else ""
        sentence += f", AUROC {number(metrics['auroc'])}{shown}"
    sentence += "."
    if part == "val":
        sentence += (
            " This is the validation part, which chose checkpoint, temperature and thresholds: expect less "
            "on the test part."
        )
    return [sentence]


def _by_subject(report: Mapping[str, Any]) -> list[str]:
    level = report.get("subject_level") or {}
    if "metrics" not in level:
        return []
    how = "averaged" if level["combine"] == "mean" else "averaged as logarithms"
    shown = _with_interval(
        level["metrics"]["balanced_accuracy"], level["intervals_95"].get("balanced_accuracy")
    )
    left = level.get("num_left_out", 0)
    note = f"; {_counted(left, 'subject')} with images of several classes left out" if left else ""
    return [
        f"One decision a subject, from the probabilities of its images {how}: balanced accuracy {shown} on "
        f"{_counted(level['num_subjects'], 'subject')}{note}."
    ]


def confusions(matrix: Sequence[Sequence[int]], classes: Sequence[str]) -> list[tuple[str, str, int, int]]:
    """(true class, taken for, images, of) of all mistakes, the largest share of a true class first."""
    found = [
        (classes[true], classes[taken], int(count), int(sum(row)))
        for true, row in enumerate(matrix)
        for taken, count in enumerate(row)
        if taken != true and count > 0
    ]
    return sorted(found, key=lambda cell: (-cell[2] / cell[3], -cell[2], cell[0], cell[1]))


def _confusions(report: Mapping[str, Any], classes: Sequence[str]) -> list[str]:
    found = confusions(report["confusion_matrix"], classes)
    if not found:
        return ["No image was classified wrongly."]
    told = [
        f"{true} was taken for {taken} in {percent(count / of, 0 if count / of >= 0.01 else 1)} "
        f"({count:,} of {of:,} images)"
        for true, taken, count, of in found[:NUM_CONFUSIONS]
    ]
    return [f"What it confuses most: {'; '.join(told)}."]


def _calibration(report: Mapping[str, Any]) -> list[str]:
    found = report.get("calibration")
    if not found:
        return []
    drift = found["mean_confidence"] - found["accuracy"]
    if found["ece"] <= found["ece_by_chance_95"]:
        judged = "as good as so few images can show" if report["num_images"] < 1000 else "no fault to be seen"
        sentence = f"Calibration: {judged}"
    elif abs(drift) >= MIN_DRIFT:
        direction = "too sure of itself" if drift > 0 else "less sure than it could be"
        sentence = f"Calibration: on average {direction}, by {100 * abs(drift):.1f} points"
    else:
        sentence = "Calibration: right on average, but not at every level of confidence"
    return [
        f"{sentence} (ECE {number(found['ece'])}; a perfect one would show {number(found['ece_by_chance'])} "
        f"by chance; {number(found['before']['ece'])} before temperature scaling)."
    ]


def _rejection(report: Mapping[str, Any]) -> list[str]:
    chosen = (report.get("rejection") or {}).get("chosen")
    overall = 1 - report["metrics"]["accuracy"]
    if not chosen:
        return []
    if chosen["confidence"] is None:
        return [f"Rejecting: {chosen['note']}."] if chosen["note"] else []
    where = "on these very images" if report.get("chosen_here") else "on validation"
    return [
        f"Leaving images below a confidence of {number(chosen['confidence'])} (chosen {where}) to a person: "
        f"{percent(chosen['coverage'], 0)} are decided, with {percent(chosen['risk'])} errors"
        f"{_interval_note(chosen['risk_95'])} instead of {percent(overall)}."
    ]


def _interval_note(interval: Sequence[float | None]) -> str:
    shown = span(interval)
    return f" ({shown})" if shown else ""


def _subgroups(report: Mapping[str, Any]) -> list[str]:
    apart = [
        line
        for line in report.get("subgroups") or []
        if not line["warning"] and _excludes_zero(line["difference_low"], line["difference_high"])
    ]
    apart.sort(key=lambda line: -abs(line["difference"]))
    if not apart:
        return []
    told = [
        f"{line['column']} {line['value']} ({100 * line['difference']:+.1f} points, "
        f"{100 * line['difference_low']:+.1f} to {100 * line['difference_high']:+.1f})"
        for line in apart[:NUM_CONFUSIONS]
    ]
    return [f"Groups whose balanced accuracy differs from the rest: {'; '.join(told)}."]


def _excludes_zero(low: float | None, high: float | None) -> bool:
    if low is None or high is None or not (math.isfinite(low) and math.isfinite(high)):
        return False
    return low > 0 or high < 0


def _warnings(report: Mapping[str, Any], part: str, classes: Sequence[str]) -> list[str]:
    warnings = []
    subjects = report["num_subjects"]
    if subjects < MIN_SUBJECTS:
        warnings.append(
            f"{_counted(subjects, 'subject')} only: below {MIN_SUBJECTS} even the interval cannot be "
            "trusted, and more images of the same people do not help."
        )
    if not report.get("subjects_known", True):
        warnings.append(
            "Some images have no subject; each counts as one, so the intervals are too narrow where several "
            "are of one person."
        )
    missing = [name for name in classes if report["classes"][name]["num_images"] == 0]
    if missing:
        warnings.append(
            f"No image of {', '.join(missing)} in this part: the means over classes leave it out."
        )
    few = [
        f"{name} ({line['num_subjects']})"
        for name, line in report["classes"].items()
        if 0 < line.get("num_subjects", MIN_CLASS_SUBJECTS) < MIN_CLASS_SUBJECTS
    ]
    if few and subjects >= MIN_SUBJECTS:
        warnings.append(f"Classes with fewer than {MIN_CLASS_SUBJECTS} subjects: {', '.join(few)}.")
    if part == "test" and report["openings"] > 1:
        warnings.append(
            f"The test part was opened {report['openings']} times with this run: whatever was changed in "
            "between may have been fitted to it."
        )
    if not report.get("near_duplicates_linked", True):
        warnings.append(
            "Whether near duplicates lie on two sides is not known: the split looked for identical pictures "
            "alone (`extract split --link-near` looks for more)."
        )
    chosen = (report.get("rejection") or {}).get("chosen")
    if chosen is None:
        warnings.append(
            "No thresholds and no rejection: the validation part that would choose them is not in this "
            "archive and split; `classifier evaluate --part val` on those of the training makes them."
        )
    elif chosen["on_validation"]["num_subjects"] < MIN_SUBJECTS:
        warnings.append(
            "Thresholds, rejection and temperature rest on "
            f"{_counted(chosen['on_validation']['num_subjects'], 'validation subject')}."
        )
    return warnings
