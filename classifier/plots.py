"""Pictures of a run: confusion matrix, reliability, history; PNG or SVG by the name of the file."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from classifier.evaluate import expected_calibration_error, reliability_bins
from extract.atomic import replace_file

BLUE, ORANGE, GRAY = "#0072b2", "#d55e00", "#8c8c8c"  # told apart by colour-blind eyes (Okabe and Ito)
DPI = 150


def plot_confusion(matrix: np.ndarray, classes: Sequence[str], path: Path, title: str) -> None:
    """Draw a (C, C) confusion matrix: counts, shaded by the share of the true class."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    side = 2.2 + 0.75 * len(classes)
    figure = Figure(figsize=(side + 0.9, side), layout="constrained")
    axes = figure.add_subplot()
    picture = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*matrix.shape):
        color = "white" if shares[row, column] > 0.55 else "black"
        text = f"{matrix[row, column]}\n{shares[row, column]:.0%}"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=9)
    places = np.arange(len(classes))
    axes.set_xticks(places, classes, rotation=30 if max(map(len, classes)) > 6 else 0)
    axes.set_yticks(places, classes)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    figure.colorbar(picture, ax=axes, label="share of the true class", shrink=0.8)
    _save(figure, path)


def plot_reliability(probs: np.ndarray, labels: np.ndarray, path: Path, title: str) -> None:
    """Draw accuracy against confidence, with the number of images in each bin below."""
    count, confidence, accuracy = reliability_bins(probs, labels)
    figure = Figure(figsize=(4.4, 5.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=GRAY, linestyle="--", linewidth=1, label="as confident as right")
    used = count > 0
    upper.plot(
        confidence[used], accuracy[used], color=BLUE, marker="o", markersize=5, label="this classifier"
    )
    upper.set(ylabel="accuracy", ylim=(0, 1.02), title=title)
    ece = expected_calibration_error(probs, labels)
    upper.text(0.97, 0.05, f"ECE {ece:.3f}", transform=upper.transAxes, ha="right")
    upper.legend(loc="upper left", frameon=False, fontsize=9)
    edges = np.linspace(0, 1, len(count) + 1)
    lower.bar(edges[:-1], count, width=1 / len(count), align="edge", color=BLUE, edgecolor="white")
    lower.set(xlabel="confidence", ylabel="images", xlim=(0, 1))
    _save(figure, path)


def plot_history(history: pd.DataFrame, path: Path, title: str) -> None:
    """Draw losses and balanced accuracy over the steps; a ring marks the best look at the validation part."""
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(history["step"], history["train_loss"], color=GRAY, marker=".", label="training loss")
    left.plot(history["step"], history["val_nll"], color=BLUE, marker=".", label="validation NLL")
    left.set(xlabel="step", ylabel="nats", ylim=(0, None))
    left.legend(frameon=False, fontsize=9)
    right.plot(history["step"], history["val_balanced_accuracy"], color=ORANGE, marker=".")
    best = history.sort_values(["val_balanced_accuracy", "val_nll"], ascending=[False, True]).iloc[0]
    right.plot(
        best["step"], best["val_balanced_accuracy"], "o", markersize=11, fillstyle="none", color=ORANGE
    )
    right.set(xlabel="step", ylabel="balanced accuracy, validation", ylim=(0, 1.02))
    figure.suptitle(title)
    _save(figure, path)


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
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)  # no display, and nothing global as with pyplot
    # Without date and with a fixed salt the same numbers give the same bytes.
    metadata = {"Date": None} if path.suffix == ".svg" else {"Software": None}
    with replace_file(path) as temporary:
        figure.savefig(temporary, format=path.suffix.removeprefix("."), dpi=DPI, metadata=metadata)
