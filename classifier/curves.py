"""ROC, precision-recall and risk-coverage curves with bands by subject, as tables and for figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_curve, roc_curve

from classifier.bootstrap import SubjectDraws, tail_share
from classifier.evaluate import auprc, auroc
from classifier.measures import mean_of_defined
from classifier.rejection import risk_coverage

GRID = np.linspace(0, 1, 101)  # where bands and means over classes are taken
MAX_POINTS = 500  # of a curve that is kept
MAX_BANDED = 20  # classes whose curves get bands
MAX_ENDS = 1000  # scores at which a draw's curve is looked at
MACRO = "(mean over classes)"
COLUMNS = ("curve", "class", "x", "y", "low", "high", "threshold", "area")


@dataclass(frozen=True)
class Curve:
    """One curve, x ascending: ROC (x false positive rate, y sensitivity), precision-recall (x recall, y
    precision) or risk-coverage (x coverage, y share of errors)."""

    kind: str  # "roc", "precision_recall" or "risk_coverage"
    name: str  # class, `MACRO`, or empty
    x: np.ndarray  # (K,)
    y: np.ndarray  # (K,)
    threshold: np.ndarray  # (K,) probability or confidence from which images count; NaN for means
    area: float
    low: np.ndarray | None = None  # (K,) band: 95 % of the draws at each x
    high: np.ndarray | None = None


def class_curves(
    probs: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    draws: SubjectDraws | None,
    positive: str | None = None,
) -> list[Curve]:
    """ROC and precision-recall of each class against the others, and their means over the classes.

    Args:
        probs: (N, C) probabilities.
        labels: (N,) int.
        draws: for the bands; None = no bands, nor with more than 20 classes.
        positive: with two classes the only one to draw: the other one's ROC is its mirror image.

    Returns:
        Curves of the classes that have images and are not alone; the means only where two classes or more
        have a curve.
    """
    draws = draws if len(classes) <= MAX_BANDED else None
    found: dict[str, list[Curve]] = {"roc": [], "precision_recall": []}
    bands: dict[str, list[np.ndarray]] = {"roc": [], "precision_recall": []}
    for number, name in enumerate(classes):
        scores, is_positive = probs[:, number], labels == number
        if (positive is not None and name != positive) or not is_positive.any() or is_positive.all():
            continue
        curves = (_roc(name, scores, is_positive), _precision_recall(name, scores, is_positive))
        drawn = None if draws is None else _draw_curves(scores, is_positive, draws)
        for curve in curves:
            found[curve.kind].append(curve if drawn is None else _with_band(curve, drawn[curve.kind], draws))
            bands[curve.kind] += [] if drawn is None else [drawn[curve.kind]]
    for kind, curves_of_kind in found.items():
        if len(curves_of_kind) > 1:
            curves_of_kind.append(_mean_curve(kind, curves_of_kind, bands[kind], draws))
    return [*found["roc"], *found["precision_recall"]]


def _roc(name: str, scores: np.ndarray, is_positive: np.ndarray) -> Curve:
    x, y, threshold = roc_curve(is_positive, scores)
    return _thinned(Curve("roc", name, x, y, threshold, auroc(scores, is_positive)))


def _precision_recall(name: str, scores: np.ndarray, is_positive: np.ndarray) -> Curve:
    precision, recall, threshold = precision_recall_curve(is_positive, scores)
    finds = recall[:-1] > 0  # scikit-learn ends with (recall 0, precision 1), which no threshold reaches
    x, y, threshold = (values[finds][::-1] for values in (recall[:-1], precision[:-1], threshold))  # x rises
    return _thinned(Curve("precision_recall", name, x, y, threshold, auprc(scores, is_positive)))


def risk_coverage_curve(confidence: np.ndarray, is_wrong: np.ndarray, area: float,
                        draws: SubjectDraws | None) -> Curve:  # fmt: skip
    """The share of errors among the surest images, over the share that is decided."""
    found = risk_coverage(confidence, is_wrong)
    curve = Curve("risk_coverage", "", found.coverage, found.risk, found.confidence, area)
    if draws is not None:
        order = np.argsort(-confidence, kind="stable")
        wrong = is_wrong[order].astype(np.float64)[:, None]
        ends = _some_ends(confidence[order])
        drawn = np.empty((len(GRID), draws.num_draws))
        for part in draws.chunks(len(order)):
            weight = draws.weights(order, part)
            kept, errors = (values.cumsum(axis=0)[ends].T for values in (weight, weight * wrong))  # (b, K)
            covered, risk = kept / kept[:, -1:], errors / np.maximum(kept, 1)
            for draw in range(len(kept)):
                drawn[:, part.start + draw] = _at_least(covered[draw], risk[draw])
        curve = _with_band(curve, drawn, draws)
    return _thinned(curve)


def curve_table(curves: Sequence[Curve]) -> pd.DataFrame:
    """All curves as one table with the `COLUMNS`, one row a point."""
    parts = [
        pd.DataFrame({
            "curve": curve.kind, "class": curve.name, "x": curve.x, "y": curve.y,
            "low": np.nan if curve.low is None else curve.low,
            "high": np.nan if curve.high is None else curve.high,
            "threshold": curve.threshold, "area": curve.area,
        })
        for curve in curves
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=list(COLUMNS))


def curves_of_table(table: pd.DataFrame) -> list[Curve]:
    """The curves that `curve_table` wrote."""
    curves = []
    for (kind, name), points in table.groupby(["curve", "class"], sort=False):
        x, y, low, high, threshold, area = (
            points[column].to_numpy(dtype=np.float64)
            for column in ("x", "y", "low", "high", "threshold", "area")
        )
        has_band = bool(np.isfinite(low).all())
        curves.append(
            Curve(
                str(kind), str(name), x, y, threshold, float(area[0]),
                low if has_band else None, high if has_band else None,
            )
        )  # fmt: skip
    return curves


def _mean_curve(
    kind: str, curves: Sequence[Curve], bands: Sequence[np.ndarray], draws: SubjectDraws | None
) -> Curve:
    read = _interpolated if kind == "roc" else _at_least
    mean = np.mean([read(curve.x, curve.y) for curve in curves], axis=0)
    area = float(np.mean([curve.area for curve in curves]))
    curve = Curve(kind, MACRO, GRID, mean, np.full(len(GRID), np.nan), area)
    return curve if draws is None else _with_band(curve, mean_of_defined(np.stack(bands)), draws)


def _draw_curves(scores: np.ndarray, is_positive: np.ndarray, draws: SubjectDraws) -> dict[str, np.ndarray]:
    """(101, B) both curves in each draw, read off over `GRID`; NaN where a draw has one kind of image."""
    order = np.argsort(-scores, kind="stable")
    ends = _some_ends(scores[order])
    positive = is_positive[order].astype(np.float64)[:, None]
    drawn = {kind: np.full((len(GRID), draws.num_draws), np.nan) for kind in ("roc", "precision_recall")}
    for part in draws.chunks(len(order)):
        weight = draws.weights(order, part)  # (N, b)
        called, hits = (values.cumsum(axis=0)[ends].T for values in (weight, weight * positive))  # (b, K)
        num_positive, num_negative = hits[:, -1:], called[:, -1:] - hits[:, -1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            recall, false_positive = hits / num_positive, (called - hits) / num_negative
        precision, nothing = hits / np.maximum(called, 1), np.zeros(1)
        for draw in np.flatnonzero((num_positive > 0) & (num_negative > 0)):
            x, y = np.append(nothing, false_positive[draw]), np.append(nothing, recall[draw])
            drawn["roc"][:, part.start + draw] = _interpolated(x, y)
            drawn["precision_recall"][:, part.start + draw] = _at_least(recall[draw], precision[draw])
    return drawn


def _some_ends(falling: np.ndarray) -> np.ndarray:
    """Where ties end in falling scores; of more than 1000 places, the first ones and an even choice."""
    ends = np.append(np.flatnonzero(np.diff(falling)), len(falling) - 1)
    if len(ends) <= MAX_ENDS:
        return ends
    chosen = np.concatenate([np.arange(MAX_ENDS // 4), np.linspace(0, len(ends) - 1, 3 * MAX_ENDS // 4)])
    return ends[np.unique(chosen.astype(np.int64))]


def _interpolated(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """y over `GRID` along straight lines; where x stands still, the last y there."""
    return np.interp(GRID, x, y)


def _at_least(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """y over `GRID` at the first point above 0 whose x reaches it: a threshold that does exist."""
    return y[np.minimum(np.searchsorted(x, np.maximum(GRID - 1e-12, 1e-12), side="left"), len(y) - 1)]


def _with_band(curve: Curve, drawn: np.ndarray, draws: SubjectDraws | None) -> Curve:
    """The curve with the band of (101, B) values that its draws have over `GRID`."""
    is_defined = np.isfinite(drawn).all(axis=0)
    if draws is None or not is_defined.any():
        return curve
    tail = tail_share(draws.num_subjects)
    low, high = np.quantile(drawn[:, is_defined], [tail, 1 - tail], axis=1)
    return replace(curve, low=np.interp(curve.x, GRID, low), high=np.interp(curve.x, GRID, high))


def _thinned(curve: Curve) -> Curve:
    """At most 500 points, spread along the curve's length, both ends among them."""
    if len(curve.x) <= MAX_POINTS:
        return curve
    along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(curve.x), np.diff(curve.y)))])
    places = np.searchsorted(along, np.linspace(0, along[-1], MAX_POINTS))
    keep = np.unique(np.clip(np.append(places, len(curve.x) - 1), 0, len(curve.x) - 1))
    return replace(
        curve, x=curve.x[keep], y=curve.y[keep], threshold=curve.threshold[keep],
        low=None if curve.low is None else curve.low[keep],
        high=None if curve.high is None else curve.high[keep],
    )  # fmt: skip
