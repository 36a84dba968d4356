"""The picture of a tuning: scores trial by trial, and what they depended on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from classifier.plots import BLUE, GRAY, ORANGE, save_figure

WORDS = {"nll": "NLL", "auroc": "AUROC"}


def plot_tuning(trials: pd.DataFrame, importance: dict[str, float], monitor: str, path: Path) -> None:
    """Draw the score of each trial with the best so far, and a bar for the importance of each setting."""
    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    complete, pruned = trials[trials["state"] == "complete"], trials[trials["state"] == "pruned"]
    best = complete["score"].cummin() if monitor == "nll" else complete["score"].cummax()
    left.step(complete["trial"], best, where="post", color=ORANGE, label="best so far")
    left.plot(complete["trial"], complete["score"], "o", color=BLUE, label="complete")
    if len(pruned):
        left.plot(pruned["trial"], pruned["last_look"], "x", color=GRAY, label="pruned, at its last look")
    failed = trials[trials["state"] == "failed"]
    if len(failed):
        shown = np.concatenate([complete["score"], pruned["last_look"]])
        left.plot(failed["trial"], np.full(len(failed), np.nanmin(shown)), "v", color="black", label="failed")
    word = WORDS.get(monitor, monitor.replace("_", " "))
    left.set(xlabel="trial", ylabel=f"{word}, inner validation", title="Trials (the best is optimistic)")
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.legend(frameon=False, fontsize=8)
    right.set_title("Importance of each setting")
    if importance:
        names = list(importance)[::-1]
        right.barh(
            [name.replace("_", " ") for name in names], [importance[name] for name in names], color=BLUE
        )
        right.set(xlabel=f"share, from {len(complete)} complete trials", xlim=(0, 1))
    else:
        right.text(0.5, 0.5, "too few complete trials", ha="center", va="center", color=GRAY)
        right.set_axis_off()
    save_figure(figure, path)
