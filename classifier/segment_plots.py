"""The history of a segmenter's training as a picture."""

from pathlib import Path

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from classifier.plots import BLUE, DPI, GRAY, ORANGE
from extract.atomic import replace_file


def plot_segment_history(history: pd.DataFrame, path: Path, title: str) -> None:
    """Draw losses, Dice and IoU over the steps; a ring marks the look whose weights were kept."""
    figure = Figure(figsize=(7.2, 3.2), layout="constrained")
    FigureCanvasAgg(figure)  # no display, and nothing global as with pyplot
    left, right = figure.subplots(1, 2)
    left.plot(history["step"], history["train_loss"], color=GRAY, marker=".", label="training")
    left.plot(history["step"], history["val_loss"], color=BLUE, marker=".", label="validation")
    left.set(xlabel="step", ylabel="cross entropy + 1 - Dice", ylim=(0, None))
    left.legend(frameon=False, fontsize=9)
    right.plot(history["step"], history["val_dice"], color=ORANGE, marker=".", label="Dice")
    right.plot(history["step"], history["val_iou"], color=BLUE, marker=".", label="IoU")
    best = history.iloc[int(history["val_dice"].to_numpy().argmax())]
    right.plot(best["step"], best["val_dice"], "o", markersize=11, fillstyle="none", color=ORANGE)
    right.set(xlabel="step", ylabel="validation, before cleaning", ylim=(0, 1.02))
    right.legend(frameon=False, fontsize=9, loc="lower right")
    figure.suptitle(title)
    with replace_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
