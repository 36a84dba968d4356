"""Pictures of a pretraining: its history, and what the network makes of pictures that it never saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from classifier.data import ImageTable
from classifier.denoising import add_noise
from classifier.plots import BLUE, GRAY, ORANGE, save_figure
from classifier.preprocess import Preprocessing
from classifier.pretrain_config import PretrainConfig
from classifier.pretraining import Pretraining, noise_generator
from extract.seeds import derive_seed

NUM_SHOWN = 6
COLUMNS = ("original", "noised", "reconstructed", "difference")
SHOWN_RANGE = 2.5  # standard deviations from black to white


def plot_pretraining(history: pd.DataFrame, config: PretrainConfig, path: Path) -> None:
    """Draw the losses, and the held-out error beside what doing nothing or guessing gray would give."""
    figure = Figure(figsize=(7.6, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(history["step"], history["train_loss"], color=GRAY, marker=".", label="training")
    left.plot(history["step"], history["val_loss"], color=BLUE, marker=".", label="held-out subjects")
    left.set(xlabel="step", ylabel=f"loss ({config.loss})", ylim=(0, None))
    left.legend(frameon=False, fontsize=9)
    right.plot(history["step"], history["val_mse"], color=BLUE, marker=".", label="all pixels")
    if history["val_mse_dropped"].notna().any():
        right.plot(
            history["step"], history["val_mse_dropped"], color=ORANGE, marker=".", label="blanked pixels"
        )
    noised = float(history["noised_mse"].iloc[-1])
    right.axhline(noised, color=GRAY, linestyle="--", linewidth=1, label="noised picture as it is")
    right.axhline(1.0, color="black", linestyle=":", linewidth=1, label="plain gray")
    right.set(xlabel="step", ylabel="squared error, held-out subjects", ylim=(0, 1.45))  # room for the legend
    right.legend(frameon=False, fontsize=8)
    figure.suptitle(f"Denoising autoencoder, {config.steps} steps")
    save_figure(figure, path)


def plot_reconstructions(
    job: Pretraining,
    held_out: ImageTable,
    preprocessing: Preprocessing,
    config: PretrainConfig,
    path: Path,
) -> None:
    """Draw some held-out pictures: original, noised, reconstructed, and the difference of first and third."""
    rng = np.random.default_rng(derive_seed(config.seed, "shown"))
    rows = np.sort(rng.permutation(len(held_out))[:NUM_SHOWN])
    device = next(job.model.parameters()).device
    original = preprocessing.to_batch(held_out.gather(rows), device)
    noised = add_noise(original, config.noise, noise_generator(config, "shown")).images
    job.model.eval()
    with torch.inference_mode():
        made = job.model(noised)
    shown = [batch.mean(dim=1).cpu().numpy() for batch in (original, noised, made, made - original)]
    figure = Figure(figsize=(7.2, 1.45 * len(rows) + 0.7), layout="constrained")
    grid = figure.subplots(len(rows), len(COLUMNS), squeeze=False)
    for column, (name, pictures) in enumerate(zip(COLUMNS, shown, strict=True)):
        for row, picture in enumerate(pictures):
            axes = grid[row][column]
            colors = "RdBu_r" if name == "difference" else "gray"
            drawn = axes.imshow(picture, cmap=colors, vmin=-SHOWN_RANGE, vmax=SHOWN_RANGE)
            axes.set_axis_off()
            if row == 0:
                axes.set_title(name, fontsize=10)
    figure.colorbar(drawn, ax=grid[:, -1], shrink=0.5, label="too dark or too bright by, standard deviations")
    figure.suptitle(f"Held-out subjects after {job.step} steps")
    save_figure(figure, path)
