"""A contact sheet: what is in an archive, at a glance."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from extract.archive import Archive
from extract.atomic import replace_file
from extract.errors import SettingsError
from extract.seeds import derive_seed

MIN_TILE = 96  # pixels; smaller images are enlarged by a whole factor
GAP = 3
CAPTION = 15  # pixels for the line under a tile
INK, PAPER, FAINT = (235, 235, 235), (24, 24, 27), (150, 150, 155)


def contact_sheet(
    archive: Archive,
    *,
    columns: int = 10,
    rows_per_class: int = 2,
    seed: int = 0,
    class_name: str | None = None,
) -> Image.Image:
    """Draw sample images of each class, spread over subjects, with class, subject and plane beside them.

    Args:
        class_name: this class alone; None = all, and the unlabeled images.

    Raises:
        SettingsError: if a count is below 1, or there is no such class.
    """
    if columns < 1 or rows_per_class < 1:
        raise SettingsError(f"--columns and --rows must be at least 1, got {columns} and {rows_per_class}")
    rng = np.random.default_rng(derive_seed("contact sheet", seed))
    size = archive.image_shape[1]
    tile = size * max(1, -(-MIN_TILE // size))
    title_font, small_font = ImageFont.load_default(15), ImageFont.load_default(10)
    groups = [(name, np.flatnonzero(archive.labels == k)) for k, name in enumerate(archive.classes)]
    groups.append(("unlabeled", np.flatnonzero(archive.labels < 0)))
    groups = [(name, rows) for name, rows in groups if len(rows) and class_name in (None, name)]
    if not groups:
        raise SettingsError(f"--class must be one of {', '.join(archive.classes)}, got {class_name}")
    band = 26 + rows_per_class * (tile + CAPTION + GAP)
    sheet = Image.new("RGB", (GAP + columns * (tile + GAP), 30 + len(groups) * band), PAPER)
    draw = ImageDraw.Draw(sheet)
    _, height, width = archive.image_shape
    draw.text((GAP, 6), f"{archive.path.name}: {len(archive)} images, {height}x{width}", INK, title_font)
    for number, (name, rows) in enumerate(groups):
        top = 30 + number * band
        num_subjects = len(set(archive.subjects[rows].tolist()) - {""})
        who = f" of {num_subjects} subjects" if num_subjects else ""
        draw.text((GAP, top + 3), f"{name}: {len(rows)} images{who}", INK, title_font)
        for place, row in enumerate(pick_rows(archive, rows, columns * rows_per_class, rng)):
            x = GAP + (place % columns) * (tile + GAP)
            y = top + 26 + (place // columns) * (tile + CAPTION + GAP)
            sheet.paste(_tile(archive, int(row), tile), (x, y))
            draw.text(
                (x, y + tile + 1),
                shorten_text(draw, _caption(archive, int(row)), tile, small_font),
                FAINT,
                small_font,
            )
    return sheet


def write_contact_sheet(
    archive: Archive,
    dest: Path,
    *,
    columns: int = 10,
    rows_per_class: int = 2,
    seed: int = 0,
    class_name: str | None = None,
) -> None:
    """Write the contact sheet as a PNG; see `contact_sheet`."""
    sheet = contact_sheet(
        archive, columns=columns, rows_per_class=rows_per_class, seed=seed, class_name=class_name
    )
    with replace_file(dest) as temporary:
        sheet.save(temporary, format="PNG")


def pick_rows(archive: Archive, rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw rows so that each subject comes once before any comes twice; sorted by subject."""
    shuffled = rng.permutation(rows)
    seen: dict[str, int] = {}
    turn = np.empty(len(shuffled), np.int64)
    for place, row in enumerate(shuffled):
        subject = str(archive.subjects[row])
        turn[place] = seen.get(subject, 0)
        seen[subject] = turn[place] + 1
    return np.sort(shuffled[np.argsort(turn, kind="stable")][:count])


def _tile(archive: Archive, row: int, tile: int) -> Image.Image:
    pixels = archive.read_image(row).transpose(1, 2, 0)  # (H, W, C)
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    return image.resize((tile, tile), Image.Resampling.NEAREST)


def _caption(archive: Archive, row: int) -> str:
    entry = archive.manifest.iloc[row]
    view = f"{entry['plane'][:3]} {entry['angle_deg']}°" if entry["plane"] else ""
    made = f"seed {entry['seed']}" if entry["seed"] else ""
    return " ".join(part for part in (view, entry["subject"], made) if part)


def shorten_text(
    draw: ImageDraw.ImageDraw, text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont
) -> str:
    """The beginning of a text that is at most `width` pixels wide."""
    while text and draw.textlength(text, font) > width:
        text = text[:-1]
    return text
