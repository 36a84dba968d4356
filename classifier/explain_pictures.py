"""Pictures of explanations: one an image, with its caption, and a sheet of many."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from classifier.explain import heat_colors, overlay, to_rgb

TILE, THUMBNAIL = 256, 128  # pixels; smaller images are enlarged by a whole factor up to about that
SMALL_TILE = 96  # channels and heads
GAP, MARGIN, LINE = 6, 8, 17
COLUMNS = 8
INK, FAINT, PAPER, WARNING = (235, 235, 235), (160, 160, 165), (24, 24, 27), (230, 159, 0)


@dataclass(frozen=True)
class Panel:
    """One picture of a row, and what stands above it."""

    title: str
    pixels: np.ndarray  # (h, w, 3) uint8


@dataclass(frozen=True)
class Caption:
    """What is said of an image."""

    file: str
    lines: tuple[str, ...]
    is_wrong: bool = False  # the class given is not the one known


def map_panels(image: np.ndarray, heat: np.ndarray, opacity: float, name: str) -> list[Panel]:
    """Original, heat map and overlay of a (c, h, w) image as the network was given it."""
    return [
        Panel("input", to_rgb(image)),
        Panel(name, heat_colors(heat)),
        Panel("overlay", overlay(image, heat, opacity)),
    ]


def patch_panel(image: np.ndarray, patch: tuple[int, int]) -> Panel:
    """The image cut into the patches that a vision transformer takes, a line of paper between them."""
    rgb = to_rgb(image)
    factor = whole_factor(rgb, TILE)
    rgb = rgb.repeat(factor, axis=0).repeat(factor, axis=1)
    high, wide = patch[0] * factor, patch[1] * factor
    rows, columns = rgb.shape[0] // high, rgb.shape[1] // wide
    line = max(1, min(high, wide) // 8)
    cut = np.empty((rows * (high + line) - line, columns * (wide + line) - line, 3), np.uint8)
    cut[:] = PAPER
    for row, column in np.ndindex(rows, columns):
        top, left = row * (high + line), column * (wide + line)
        cut[top : top + high, left : left + wide] = rgb[
            row * high : (row + 1) * high, column * wide : (column + 1) * wide
        ]
    return Panel(f"{rows}x{columns} patches of {patch[0]}x{patch[1]} pixels", cut)


def draw_explanation(panels: Sequence[Panel], caption: Caption, details: Sequence[Panel] = ()) -> Image.Image:
    """The panels side by side, the caption beneath, and the details in rows below."""
    tiles = [enlarged(panel.pixels, TILE) for panel in panels]
    font, small = ImageFont.load_default(13), ImageFont.load_default(11)
    width = 2 * MARGIN + sum(tile.width + GAP for tile in tiles) - GAP
    width = max(width, 420)
    tall = max(tile.height for tile in tiles)
    parts = [enlarged(panel.pixels, SMALL_TILE) for panel in details]
    part_width = max((part.width for part in parts), default=1) + GAP
    part_height = max((part.height for part in parts), default=0) + LINE + GAP
    columns = max(1, (width - 2 * MARGIN + GAP) // part_width)
    rows = -(-len(parts) // columns) if parts else 0
    height = 2 * MARGIN + LINE + tall + LINE * (1 + len(caption.lines)) + GAP + rows * part_height
    picture = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(picture)
    left = MARGIN
    for panel, tile in zip(panels, tiles, strict=True):
        draw.text((left, MARGIN), shortened(draw, panel.title, tile.width, small), FAINT, small)
        picture.paste(tile, (left, MARGIN + LINE))
        left += tile.width + GAP
    top = MARGIN + LINE + tall + 3
    draw.text((MARGIN, top), shortened(draw, caption.file, width - 2 * MARGIN, small), FAINT, small)
    for number, line in enumerate(caption.lines):
        ink = WARNING if caption.is_wrong and number == 0 else INK
        text = shortened(draw, line, width - 2 * MARGIN, font)
        draw.text((MARGIN, top + LINE * (number + 1)), text, ink, font)
    top += LINE * (1 + len(caption.lines)) + GAP
    for number, (panel, part) in enumerate(zip(details, parts, strict=True)):
        x = MARGIN + number % columns * part_width
        y = top + number // columns * part_height
        draw.text((x, y), shortened(draw, panel.title, part.width, small), FAINT, small)
        picture.paste(part, (x, y + LINE))
    return picture


def draw_sheet(title: str, tiles: Sequence[tuple[np.ndarray, Caption]]) -> Image.Image:
    """Many overlays, (h, w, 3) uint8 each, with file and first line of the caption below each."""
    pictures = [enlarged(pixels, THUMBNAIL) for pixels, _ in tiles]
    wide = max(picture.width for picture in pictures) + GAP
    high = max(picture.height for picture in pictures) + 2 * 13 + GAP
    columns = min(COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    width = max(2 * MARGIN + columns * wide - GAP, 560)
    sheet = Image.new("RGB", (width, 2 * MARGIN + 24 + rows * high), PAPER)
    draw = ImageDraw.Draw(sheet)
    font, small = ImageFont.load_default(15), ImageFont.load_default(10)
    draw.text((MARGIN, MARGIN), shortened(draw, title, width - 2 * MARGIN, font), INK, font)
    for number, (picture, (_, caption)) in enumerate(zip(pictures, tiles, strict=True)):
        x, y = MARGIN + number % columns * wide, MARGIN + 24 + number // columns * high
        sheet.paste(picture, (x, y))
        below = y + picture.height + 1
        name = caption.file.rsplit("/", 1)[-1]
        draw.text((x, below), shortened(draw, name, wide - GAP, small), FAINT, small)
        ink = WARNING if caption.is_wrong else INK
        draw.text((x, below + 12), shortened(draw, caption.lines[0], wide - GAP, small), ink, small)
    return sheet


def detail_panels(maps: np.ndarray, names: Sequence[str]) -> list[Panel]:
    """Channels or heads, (K, h', w'), on one scale: 0 is black, the largest of them all brightest."""
    sizes = np.abs(maps)
    top = float(sizes.max()) or 1.0
    return [Panel(name, heat_colors(part / top)) for name, part in zip(names, sizes, strict=True)]


def enlarged(pixels: np.ndarray, wanted: int) -> Image.Image:
    """(h, w, 3) uint8 enlarged by a whole factor, so that its own pixels can be seen; or shrunk to fit."""
    factor = whole_factor(pixels, wanted)
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    size = (pixels.shape[1] * factor, pixels.shape[0] * factor)
    if factor == 1 and max(size) > 1.5 * wanted:
        shrink = wanted / max(size)
        size = (max(1, round(size[0] * shrink)), max(1, round(size[1] * shrink)))
        return picture.resize(size, Image.Resampling.LANCZOS)
    return picture.resize(size, Image.Resampling.NEAREST)


def whole_factor(pixels: np.ndarray, wanted: int) -> int:
    """By what an image can be enlarged to come closest to the wanted side."""
    return max(1, round(wanted / max(pixels.shape[:2])))


def shortened(
    draw: ImageDraw.ImageDraw, text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    """The text, or its beginning with a dot for what is cut off."""
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(f"{text}..", font) > width:
        text = text[:-1]
    return f"{text}.."
