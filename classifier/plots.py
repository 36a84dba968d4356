"""Pictures of a run: confusion, reliability, curves, rejection, history; PNG or SVG by the name of the file.

Each `..._figure` draws one that the evaluation page embeds as SVG, each `plot_...` writes one as a file.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from classifier.curves import GRID, MACRO, Curve
from classifier.evaluate import expected_calibration_error, reliability_bins
from extract.atomic import replace_file
from extract.page_parts import svg_element

BLUE, ORANGE, GRAY = "#0072b2", "#d55e00", "#8c8c8c"  # told apart by colour-blind eyes (Okabe and Ito)
CLASS_COLORS = (BLUE, ORANGE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
INK, GRID_COLOR = "#1d2733", "#dfe4ea"
MAX_NAMED = len(CLASS_COLORS)  # curves with a colour and a name; of more classes only the mean is named
MAX_COUNTED = 20  # classes of a confusion matrix with a number in each cell; more are shades alone
DPI = 150
RC: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "synthlabel",  # the same numbers give the same bytes
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,  # a class may be called "$x$"
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#8793a1",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


def plot_confusion(matrix: np.ndarray, classes: Sequence[str], path: Path, title: str) -> None:
    """Draw a (C, C) confusion matrix: counts, shaded by the share of the true class."""
    with matplotlib.rc_context({**RC, "axes.spines.top": True, "axes.spines.right": True}):
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        has_counts = len(classes) <= MAX_COUNTED
        side = 2.2 + 0.75 * min(len(classes), MAX_COUNTED)
        figure = Figure(figsize=(side + 0.9, side), layout="constrained")
        axes = figure.add_subplot()
        picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for row, column in np.ndindex(*matrix.shape) if has_counts else ():
            color = "white" if shares[row, column] > 0.55 else "black"
            text = f"{matrix[row, column]}\n{shares[row, column]:.0%}"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
        places = np.arange(len(classes))
        names = [_short(name) for name in classes]
        size = 9 if has_counts else 9 * MAX_COUNTED / len(classes)
        turn = 0 if max(map(len, names)) <= 6 else 30 if has_counts else 90
        axes.set_xticks(places, names, rotation=turn, fontsize=size)
        axes.set_yticks(places, names, fontsize=size)
        axes.set(xlabel="predicted", ylabel="true", title=title)
        figure.colorbar(picture, ax=axes, label="share of the true class", shrink=0.8)
        save_figure(figure, path)


def plot_reliability(
    probs: np.ndarray, labels: np.ndarray, path: Path, title: str, before: np.ndarray | None = None
) -> None:
    """Draw accuracy against confidence, with the number of images in each bin below.

    Args:
        before: (N, C) probabilities before temperature scaling, to be drawn beside.
    """
    bins = _bins(probs, labels)
    figure = reliability_figure(bins, None if before is None else _bins(before, labels), title)
    save_figure(figure, path)


def _bins(probs: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    count, confidence, accuracy = reliability_bins(probs, labels)
    ece = expected_calibration_error(probs, labels)
    return {"count": count, "confidence": confidence, "accuracy": accuracy, "ece": ece}


def reliability_figure(bins: Mapping[str, Any], before: Mapping[str, Any] | None, title: str = "") -> Figure:
    """Accuracy over confidence, before and after temperature scaling.

    Args:
        bins, before: `count`, `confidence` and `accuracy` of each bin (None or NaN where empty), and `ece`.
    """
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(4.6, 4.9))
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
        _place(figure, title, left=0.75)
        upper.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=1, label="as confident as right")
        shown = [("before scaling", before, ORANGE, "s", ":"), ("after scaling", bins, BLUE, "o", "-")]
        if before is None:
            shown = [("this classifier", bins, BLUE, "o", "-")]
        edges = np.linspace(0, 1, len(bins["count"]) + 1)
        for name, drawn, color, marker, line in shown:
            assert drawn is not None
            used = np.asarray(drawn["count"]) > 0
            x, y = (np.asarray(drawn[key], dtype=np.float64)[used] for key in ("confidence", "accuracy"))
            label = f"{name}, ECE {drawn['ece']:.3f}"
            upper.plot(x, y, color=color, marker=marker, markersize=5, linestyle=line, label=label)
            lower.stairs(
                drawn["count"], edges, color=color, fill=drawn is bins, alpha=0.6 if drawn is bins else 1
            )
        upper.set(ylabel="accuracy", ylim=(0, 1.02), title=title)
        upper.legend(loc="lower right", fontsize=8.5)  # empty but for a very wrong classifier
        lower.set(xlabel="confidence: probability of the predicted class", ylabel="images", xlim=(0, 1))
        return figure


def curves_figure(curves: Sequence[Curve], title: str = "") -> Figure:
    """ROC on the left, precision-recall on the right, with the bands of the means, or of few classes."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(9.2, 4.3))
        left, right = figure.subplots(1, 2)
        _place(figure, title, top=0.3, wspace=0.16)
        left.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=1)
        left.set(xlabel="1 - specificity", ylabel="sensitivity", title="ROC")
        right.set(xlabel="recall (sensitivity)", ylabel="precision", title="precision and recall")
        for axes, kind, word in ((left, "roc", "AUROC"), (right, "precision_recall", "AP")):
            _draw_curves(axes, [curve for curve in curves if curve.kind == kind], word)
            axes.set(xlim=(-0.01, 1.01), ylim=(0, 1.02))
            axes.grid(color=GRID_COLOR, linewidth=0.7)
            axes.set_axisbelow(True)
        if title:
            figure.suptitle(title)
        return figure


def _draw_curves(axes: Axes, curves: Sequence[Curve], word: str) -> None:
    if not curves:
        axes.text(0.5, 0.5, "no curve: images of one class only", ha="center", transform=axes.transAxes)
        return
    num_classes = sum(curve.name != MACRO for curve in curves)
    for number, curve in enumerate(curves):
        is_mean = curve.name == MACRO
        is_named = is_mean or num_classes <= MAX_NAMED
        color = INK if is_mean else CLASS_COLORS[number % MAX_NAMED] if is_named else "#c5ccd4"
        name = "mean" if is_mean else _short(curve.name)
        axes.plot(
            curve.x, curve.y, color=color, linewidth=2 if is_mean else 1.3,
            drawstyle="default" if is_mean or curve.kind == "roc" else "steps-pre",
            label=f"{name}, {word} {curve.area:.3f}" if is_named else None,
        )  # fmt: skip
        if curve.low is not None and curve.high is not None and (is_mean or num_classes == 1):
            axes.fill_between(curve.x, curve.low, curve.high, color=color, alpha=0.14, linewidth=0)
    axes.legend(loc="lower right" if curves[0].kind == "roc" else "lower left", fontsize=8.5)


def rejection_figure(curve: Curve, title: str = "", chosen: tuple[float, float] | None = None) -> Figure:
    """Risk over coverage with its band, the best possible order, a random one, and the chosen point.

    Args:
        chosen: coverage and risk of the rule in use.
    """
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(5.4, 3.6))
        axes = figure.add_subplot()
        _place(figure, title, left=0.75)
        overall = float(curve.y[-1])
        best = np.maximum(GRID[1:] - (1 - overall), 0) / GRID[1:]
        axes.plot([0, 1], [overall, overall], color=GRAY, linestyle=":", linewidth=1, label="random order")
        axes.plot(GRID[1:], best, color=GRAY, linestyle="--", linewidth=1, label="best order possible")
        if curve.low is not None and curve.high is not None:
            axes.fill_between(curve.x, curve.low, curve.high, color=BLUE, alpha=0.15, linewidth=0)
        label = f"least sure rejected first, AURC {curve.area:.3f}"
        axes.plot(curve.x, curve.y, color=BLUE, linewidth=1.6, label=label)
        if chosen is not None:
            axes.plot(*chosen, "o", markersize=9, fillstyle="none", color=ORANGE, label="rule in use")
        axes.set(xlabel="coverage: share of images decided", ylabel="share of errors among them",
                 xlim=(0, 1.01), ylim=(0, None), title=title)  # fmt: skip
        axes.grid(color=GRID_COLOR, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.legend(fontsize=8.5)
        return figure


def plot_history(
    history: pd.DataFrame, path: Path, title: str, *, monitor: str = "balanced_accuracy"
) -> None:
    """Draw losses and accuracy over the steps; a ring marks the best look at the validation part."""
    save_figure(history_figure(history, title, monitor=monitor), path)


def history_figure(history: pd.DataFrame, title: str = "", *, monitor: str = "balanced_accuracy") -> Figure:
    """Losses on the left, balanced accuracy and AUROC on the right, one point a look.

    Args:
        monitor: what the looks were judged by: "balanced_accuracy", "auroc" or "nll".
    """
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(7.2, 3.2))
        left, right = figure.subplots(1, 2)
        _place(figure, title, wspace=0.22)
        left.plot(history["step"], history["train_loss"], color=GRAY, marker=".", label="training loss")
        left.plot(history["step"], history["val_nll"], color=BLUE, marker=".", label="validation NLL")
        left.set(xlabel="step", ylabel="nats", ylim=(0, None))
        columns = {"val_balanced_accuracy": ("balanced accuracy", ORANGE), "val_auroc": ("AUROC", "#009e73")}
        for column, (name, color) in columns.items():
            if column in history and history[column].notna().any():
                right.plot(history["step"], history[column], color=color, marker=".", label=name)
        right.set(xlabel="step", ylabel="on validation", ylim=(0, 1.02))
        judged = f"val_{monitor}" if f"val_{monitor}" in history else "val_balanced_accuracy"
        best = history.sort_values([judged, "val_nll"], ascending=[judged == "val_nll", True]).iloc[0]
        axes, color = (left, BLUE) if judged == "val_nll" else (right, columns[judged][1])
        axes.plot(best["step"], best[judged], "o", markersize=11, fillstyle="none", color=color)
        for axes in (left, right):
            axes.legend(fontsize=9)
        if title:
            figure.suptitle(title)
        return figure


def plot_rates(
    rates: Sequence[float], losses: Sequence[float], suggestion: float, path: Path, title: str
) -> None:
    """Draw the loss of a rate test over the rate; a line marks the suggested rate."""
    figure = Figure(figsize=(5.4, 3.4), layout="constrained")
    axes = figure.subplots()
    axes.plot(rates, losses, color=BLUE)
    axes.axvline(suggestion, color=ORANGE, linewidth=1)
    axes.text(suggestion, max(losses), f" {suggestion:.1e}", color=ORANGE, va="top")
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, smoothed", title=title)
    save_figure(figure, path)


def _place(figure: Figure, title: str, left: float = 0.6, top: float = 0.1, wspace: float = 0.2) -> None:
    """Margins in inches instead of a constrained layout, which takes longer than all the drawing."""
    width, height = figure.get_size_inches()
    top += 0.35 if title else 0
    figure.subplots_adjust(
        left=left / width, right=1 - 0.1 / width, bottom=0.5 / height, top=1 - top / height, wspace=wspace
    )


def svg_text(figure: Figure, description: str) -> str:
    """The figure as an <svg> element that shares a page with others: no header, no ids but those in use."""
    buffer = io.StringIO()
    with matplotlib.rc_context({**RC, "svg.hashsalt": description}):  # ids differ between figures
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return svg_element(buffer.getvalue(), description)


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG by the name of the file; the same numbers give the same bytes."""
    FigureCanvasAgg(figure)  # no display, and nothing global as with pyplot
    # Without date and with a fixed salt the same numbers give the same bytes.
    metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    with matplotlib.rc_context(RC), replace_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix("."), dpi=DPI, metadata=metadata)
