"""The pictures of a truncation sweep: samples at each psi, and the measures as curves."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from extract.atomic import replace_file

MIN_TILE = 96  # pixels; smaller images are enlarged by a whole factor
MARGIN, GAP = 92, 3  # pixels: for the psi at the left of each row, and between images
INK, PAPER = (235, 235, 235), (24, 24, 27)
PANELS = (
    (("precision", "recall", "coverage"), "share", (0.0, 1.02)),
    (("density",), "density (1 = as real images)", None),
    (("fid",), "Frechet distance (lower is better)", None),
)
COLORS = {"precision": "C0", "recall": "C1", "coverage": "C2", "density": "C3", "fid": "C4"}


def draw_samples(path: Path, psi: Sequence[float], images: np.ndarray) -> None:
    """Write images (rows, columns, C, H, W) uint8 with the psi of each row at its left."""
    rows, columns, _, side, _ = images.shape
    factor = max(1, -(-MIN_TILE // side))
    step = side * factor + GAP
    sheet = Image.new("RGB", (MARGIN + columns * step, GAP + rows * step), PAPER)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(16)
    for row in range(rows):
        top = GAP + row * step
        draw.text((MARGIN - 10, top + step // 2), f"psi {psi[row]:g}", INK, font, anchor="rm")
        for column in range(columns):
            pixels = images[row, column].transpose(1, 2, 0)  # (H, W, C)
            tile = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
            tile = tile.resize((side * factor, side * factor), Image.Resampling.NEAREST)
            sheet.paste(tile, (MARGIN + column * step, top))
    with replace_file(path) as temporary:
        sheet.save(temporary, format="PNG")


def draw_measures(path: Path, columns: Mapping[str, Sequence[float]], what: str) -> None:
    """Write the measures against psi.

    Args:
        columns: psi and the measures by name, one value a psi.
        what: extractor and counts, which every figure has to be read with.
    """
    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots(1, len(PANELS))
    for axis, (names, label, limits) in zip(axes, PANELS, strict=True):
        for name in names:
            axis.plot(columns["psi"], columns[name], marker="o", color=COLORS[name], label=name)
        axis.set_xlabel("truncation psi")
        axis.set_ylabel(label)
        axis.set_ylim(*(limits or (0, 1.08 * max(max(columns[name]) for name in names) or 1)))
        axis.grid(alpha=0.3)
        if len(names) > 1:
            axis.legend()
    figure.suptitle(what, fontsize=11)
    with replace_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
