"""Originals beside what ways of preprocessing make of them, to choose by eye."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from extract.archive import Archive
from extract.atomic import replace_file
from extract.errors import SettingsError
from extract.pixel_steps import apply_steps
from extract.preprocessing import PreprocessConfig
from extract.resample import resample
from extract.seeds import derive_seed
from extract.show import pick_rows

TILE = 128  # pixels
GAP, MARGIN, HEADING = 4, 8, 38
SHOWN_DEVIATIONS = 2.5  # an image scaled by its own deviation is shown from minus to plus so many
INK, FAINT, PAPER = (235, 235, 235), (160, 160, 160), (24, 24, 24)


def preprocess_sheet(
    archive: Archive, ways: Mapping[str, PreprocessConfig], *, num_images: int = 8, seed: int = 0
) -> Image.Image:
    """Draw a row of originals, one column an image, and below it a row for each way of preprocessing.

    Images are drawn in turn from the classes, spread over subjects. What scaling by fixed numbers does cannot
    be seen; scaling by each image's own is shown around mid-gray.

    Raises:
        SettingsError: if there is nothing to show.
    """
    if num_images < 1 or not ways:
        raise SettingsError(f"expected at least one image and one way, got {num_images} and {len(ways)}")
    rows = _choose(archive, num_images, seed)
    pixels = np.stack([archive.read_image(int(row)) for row in rows])  # (N, C, H, W)
    names = [str(archive.manifest["label"].iat[int(row)]) or "unlabeled" for row in rows]
    width = 2 * MARGIN + len(rows) * (TILE + GAP)
    band = HEADING + TILE + GAP
    sheet = Image.new("RGB", (max(width, 560), MARGIN + band * (len(ways) + 1)), PAPER)
    draw = ImageDraw.Draw(sheet)
    title, small = ImageFont.load_default(15), ImageFont.load_default(11)
    _, height, wide = archive.image_shape
    channels = "gray" if archive.image_shape[0] == 1 else "RGB"
    _draw_row(
        sheet, draw, 0, f"original: {archive.path.name}", f"{wide}x{height} {channels}", pixels, title, small
    )
    for column, name in enumerate(names):
        place = (MARGIN + column * (TILE + GAP) + 3, MARGIN + HEADING + TILE - 15)
        draw.text(place, name, INK, small, stroke_width=2, stroke_fill=PAPER)
    for number, (name, config) in enumerate(ways.items(), start=1):
        made = apply_steps(pixels, config)
        shown = _around_gray(made) if config.normalize == "image" else made
        _draw_row(sheet, draw, number, name, config.describe(), shown, title, small)
    return sheet


def write_preprocess_sheet(
    archive: Archive, ways: Mapping[str, PreprocessConfig], dest: Path, *, num_images: int = 8, seed: int = 0
) -> None:
    """Write the sheet as a PNG."""
    sheet = preprocess_sheet(archive, ways, num_images=num_images, seed=seed)
    with replace_file(dest) as temporary:
        # A sheet of gray images is gray throughout: a third of the bytes.
        (sheet if archive.image_shape[0] == 3 else sheet.convert("L")).save(
            temporary, format="PNG", optimize=True
        )


def _choose(archive: Archive, num_images: int, seed: int) -> np.ndarray:
    """Rows of images, classes in turn."""
    rng = np.random.default_rng(derive_seed("preprocess sheet", seed))
    kinds = [
        rows for k in (*range(len(archive.classes)), -1) if len(rows := np.flatnonzero(archive.labels == k))
    ]
    drawn = [list(pick_rows(archive, rows, num_images, rng)) for rows in kinds]
    turn = [queue[place] for place in range(num_images) for queue in drawn if place < len(queue)]
    return np.sort(np.array(turn[:num_images], np.int64))


def _around_gray(pixels: np.ndarray) -> np.ndarray:
    values = pixels.astype(np.float64)
    mean = values.mean(axis=(1, 2, 3), keepdims=True)
    std = np.maximum(values.std(axis=(1, 2, 3), keepdims=True), 1)
    return np.clip(127.5 + (values - mean) / std * (127.5 / SHOWN_DEVIATIONS), 0, 255).astype(np.uint8)


def _draw_row(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    number: int,
    name: str,
    text: str,
    pixels: np.ndarray,
    title: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    small: ImageFont.FreeTypeFont | ImageFont.ImageFont,
) -> None:
    top = MARGIN + number * (HEADING + TILE + GAP)
    draw.text((MARGIN, top), name, INK, title)
    draw.text((MARGIN, top + 19), text, FAINT, small)
    for column, image in enumerate(pixels):
        planes = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        tile = Image.fromarray(resample(np.ascontiguousarray(planes), TILE)).convert("RGB")
        sheet.paste(tile, (MARGIN + column * (TILE + GAP), top + HEADING))
