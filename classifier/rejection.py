"""Leaving unsure images to a person: how many errors that saves, and from which confidence on.

Sources: Geifman and El-Yaniv 2017, "Selective classification for deep neural networks", arXiv:1705.08500
(risk and coverage); Geifman, Uziel and El-Yaniv 2019, arXiv:1805.08206 (excess AURC); Ding et al. 2020,
"Revisiting the evaluation of uncertainty estimation", CVPR workshops (the area beside its best value).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from classifier.bootstrap import SubjectDraws
from classifier.thresholds import share_interval

DEFAULT_COVERAGE = 0.9
MIN_KEPT = 10  # images: fewer without an error are luck rather than a rule
COVERAGES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.5)  # the page's table


@dataclass(frozen=True)
class RiskCoverage:
    """What is kept and what is wrong of it, one entry a distinct confidence, the highest first."""

    confidence: np.ndarray  # (K,) keep images with at least this
    coverage: np.ndarray  # (K,) share kept
    risk: np.ndarray  # (K,) share of errors among these


@dataclass(frozen=True)
class Rejection:
    """A confidence chosen on some images, and what it does on them."""

    confidence: float | None  # reject below; None = reject none
    risk: float
    coverage: float
    note: str = ""


def risk_coverage(confidence: np.ndarray, is_wrong: np.ndarray) -> RiskCoverage:
    """The curve of risk over coverage; images of equal confidence are kept or rejected together."""
    found, place, count = np.unique(-np.asarray(confidence), return_inverse=True, return_counts=True)
    kept = count.cumsum()
    wrong = np.bincount(place, np.asarray(is_wrong, dtype=np.float64), minlength=len(found)).cumsum()
    return RiskCoverage(-found, kept / kept[-1], wrong / kept)


def aurc(confidence: np.ndarray, is_wrong: np.ndarray) -> float:
    """Mean risk over the coverages 1/N, 2/N, ... 1; the mean over all orders of equal confidences."""
    curve = risk_coverage(confidence, is_wrong)
    kept = np.rint(curve.coverage * len(is_wrong))
    ends = np.concatenate([[0.0], kept])[:, None]
    errors = np.concatenate([[0.0], np.rint(curve.risk * kept)])[:, None]
    return float(_mean_risk(ends, errors)[0])


def best_aurc(num_images: int, num_wrong: int) -> float:
    """The area if every error were less sure than every right answer."""
    numbers = np.arange(1, num_images + 1)
    return float((np.maximum(numbers - (num_images - num_wrong), 0) / numbers).mean())


def choose_confidence(confidence: np.ndarray, is_wrong: np.ndarray, wanted: str, target: float) -> Rejection:
    """Find the confidence below which to reject, for a wanted coverage or a wanted risk.

    Args:
        confidence: (N,) largest calibrated probability of each validation image.
        is_wrong: (N,) bool.
        wanted: "coverage": reject as many as `target` lets, the least sure first. "risk": keep as many as
            have at most this share of errors, and at least 10.
        target: in [0, 1].
    """
    if wanted not in ("risk", "coverage") or not 0 <= target <= 1:
        raise ValueError(f"wanted must be a risk or coverage in [0, 1], got {wanted} {target}")
    curve = risk_coverage(confidence, is_wrong)
    if wanted == "coverage":
        place = int(np.argmax(curve.coverage >= target - 1e-9))
    else:
        kept = np.rint(curve.coverage * len(is_wrong))
        fits = np.flatnonzero((curve.risk <= target) & (kept >= min(MIN_KEPT, len(is_wrong))))
        if not len(fits):
            usable = np.flatnonzero(kept >= min(MIN_KEPT, len(is_wrong)))
            least = usable[np.argmin(curve.risk[usable])]
            note = (
                f"no confidence brings the errors on validation down to {100 * target:.3g} %: at best "
                f"{100 * curve.risk[least]:.1f} % are wrong, where {100 * curve.coverage[least]:.0f} % are "
                "decided; so nothing is rejected"
            )
            return Rejection(None, float(curve.risk[-1]), 1.0, note)
        place = int(fits[-1])
    if place == len(curve.coverage) - 1:
        note = "too many validation images are equally sure to reject as many as wanted; nothing is rejected"
        is_asked = wanted == "coverage" and target < 1 and len(is_wrong) >= MIN_KEPT
        return Rejection(None, float(curve.risk[-1]), 1.0, note if is_asked else "")
    halfway = (curve.confidence[place] + curve.confidence[place + 1]) / 2
    return Rejection(float(halfway), float(curve.risk[place]), float(curve.coverage[place]))


def rejection_report(
    is_kept: np.ndarray, is_wrong: np.ndarray, draws: SubjectDraws | None
) -> dict[str, float | list[float]]:
    """Coverage and risk of some images, where `is_kept` (N,) says which are decided; intervals by subject."""
    everything = np.ones(len(is_kept), dtype=bool)
    return {
        "coverage": float(is_kept.mean()),
        "coverage_95": list(share_interval(is_kept, everything, draws)),
        "risk": float(is_wrong[is_kept].mean()) if is_kept.any() else float("nan"),
        "risk_95": list(share_interval(is_wrong, is_kept, draws)),
    }


def aurc_report(
    confidence: np.ndarray, is_wrong: np.ndarray, draws: SubjectDraws | None
) -> dict[str, float | list[float]]:
    """AURC with its interval, what is left of it above the best order, and the area of a random order."""
    area = aurc(confidence, is_wrong)
    report: dict[str, float | list[float]] = {
        "aurc": area,
        "excess_aurc": area - best_aurc(len(is_wrong), int(is_wrong.sum())),
        "random_aurc": float(is_wrong.mean()),
    }
    if draws is not None:
        report["aurc_95"] = list(draws.interval(aurc_draws(confidence, is_wrong, draws)))
    return report


def aurc_draws(confidence: np.ndarray, is_wrong: np.ndarray, draws: SubjectDraws) -> np.ndarray:
    """(B,) what `aurc` is in each draw."""
    order = np.argsort(-confidence, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(confidence[order])), len(order) - 1)  # last of each tie
    wrong = is_wrong[order].astype(np.float64)[:, None]
    areas = np.empty(draws.num_draws)
    for part in draws.chunks(len(order)):
        weight = draws.weights(order, part)  # (N, b)
        kept, errors = (values.cumsum(axis=0)[ends] for values in (weight, weight * wrong))
        nothing = np.zeros((1, weight.shape[1]))
        areas[part] = _mean_risk(np.concatenate([nothing, kept]), np.concatenate([nothing, errors]))
    return areas


def _mean_risk(kept: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Mean risk over all numbers of kept images, from (K + 1, b) running counts at the ends of ties.

    Within a tie the errors rise evenly: the mean over all orders. Their sum over the places is harmonic.
    """
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(kept[-1].max()) + 1))])
    number = np.diff(kept, axis=0)
    slope = np.diff(errors, axis=0) / np.maximum(number, 1)
    start = errors[:-1] - slope * kept[:-1]
    places = kept.astype(np.int64)
    sums = slope * number + start * (harmonic[places[1:]] - harmonic[places[:-1]])
    return sums.sum(axis=0) / kept[-1]
