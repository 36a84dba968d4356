"""Pictures with the outlines of masks drawn on them, captioned, as one sheet."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from extract.atomic import replace_file
from extract.show import shorten_text

TRUTH, FOUND = (86, 180, 233), (240, 140, 0)  # blue and orange, told apart by colour-blind eyes
GAP, MARGIN, HEADING, CAPTION = 6, 8, 26, 32
INK, FAINT, PAPER = (235, 235, 235), (165, 165, 170), (24, 24, 27)


@dataclass(frozen=True)
class Overlay:
    """One picture of a sheet."""

    picture: np.ndarray  # (H, W) uint8
    masks: Sequence[tuple[np.ndarray, tuple[int, int, int]]]  # (H, W) bool, and its outline's color
    caption: str  # two lines at most


def draw_overlay(overlay: Overlay, tile: int) -> np.ndarray:
    """(tile, tile, 3) uint8: the picture enlarged or reduced, its aspect kept, with the outlines on it."""
    height, width = overlay.picture.shape
    scale = tile / max(height, width)
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    drawn = np.repeat(_resize(overlay.picture, shape)[:, :, None], 3, axis=2)
    for mask, color in overlay.masks:
        inside = _resize(mask.astype(np.float32), shape) >= 0.5
        drawn[inside & ~ndimage.binary_erosion(inside)] = color
    square = np.zeros((tile, tile, 3), np.uint8)
    top, left = (tile - shape[0]) // 2, (tile - shape[1]) // 2
    square[top : top + shape[0], left : left + shape[1]] = drawn
    return square


def shrink_overlay(overlay: Overlay, tile: int) -> Overlay:
    """The same with a picture no larger than what a tile shows, for those that are kept in memory."""
    height, width = overlay.picture.shape
    scale = tile / max(height, width)
    if scale >= 1:
        return overlay
    shape = max(1, round(height * scale)), max(1, round(width * scale))
    masks = [(_resize(mask.astype(np.float32), shape) >= 0.5, color) for mask, color in overlay.masks]
    return Overlay(_resize(overlay.picture, shape), masks, overlay.caption)


def overlay_sheet(
    rows: Sequence[tuple[str, Sequence[Overlay]]],
    title: str,
    *,
    legend: Sequence[tuple[str, tuple[int, int, int]]] = (),
    tile: int = 200,
) -> Image.Image:
    """Draw rows of overlays, each with a heading; what the colors mean stands beside the title."""
    rows = [(heading, overlays) for heading, overlays in rows if overlays]
    columns = max((len(overlays) for _, overlays in rows), default=1)
    band = HEADING + tile + CAPTION
    width = max(2 * MARGIN + columns * (tile + GAP) - GAP, 560)
    sheet = Image.new("RGB", (width, MARGIN + HEADING + band * len(rows)), PAPER)
    draw = ImageDraw.Draw(sheet)
    big, small = ImageFont.load_default(15), ImageFont.load_default(11)
    draw.text((MARGIN, MARGIN - 2), title, INK, big)
    x = MARGIN + int(draw.textlength(title, big)) + 18
    for name, color in legend:
        draw.text((x, MARGIN - 2), name, color, big)
        x += int(draw.textlength(name, big)) + 14
    for number, (heading, overlays) in enumerate(rows):
        top = MARGIN + HEADING + number * band
        draw.text((MARGIN, top), heading, FAINT, big)
        for column, overlay in enumerate(overlays):
            left = MARGIN + column * (tile + GAP)
            sheet.paste(Image.fromarray(draw_overlay(overlay, tile)), (left, top + HEADING - 4))
            for line, text in enumerate(overlay.caption.split("\n")[:2]):
                place = (left, top + HEADING + tile - 3 + 13 * line)
                draw.text(place, shorten_text(draw, text, tile, small), FAINT, small)
    return sheet


def write_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a sheet as a PNG."""
    with replace_file(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)


def _resize(values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if values.shape == shape:
        return values
    shrinks = values.shape[0] >= shape[0]
    return cv2.resize(values, shape[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
