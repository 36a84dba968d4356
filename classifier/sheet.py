"""Predictions as one HTML file that needs nothing else: to keep, to print, to send on."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from classifier.explain import explain_images, overlay, to_rgb
from classifier.explain_pictures import enlarged
from classifier.judging import Judged
from classifier.predict import NOT_SURE, Judge
from classifier.sheet_text import SheetText
from extract.language import ENGLISH, Language
from extract.page_parts import page_templates
from extract.png import encode_png

TEMPLATE = "predictions.html.j2"
MAX_PICTURED = 60  # images with pictures; the table names them all
PICTURE_SIDE = 192  # pixels, about


@dataclass(frozen=True)
class _Row:
    name: str
    place: str
    decision: str
    is_unsure: bool
    shares: Sequence[tuple[str, float]]  # the most probable first
    remark: str
    picture: str  # data URIs; empty where there is none
    heat: str


def render_sheet(judged: Judged, classifier: Judge, text: SheetText) -> str:
    """The sheet as text; Grad-CAM is drawn of the first images, for the class that each is given."""
    language = text.language
    heats = _heat_maps(judged, classifier)
    rows = [_row(judged, row, heats.get(row), text) for row in range(judged.num_images)]
    rule = judged.predictions.settings["decision"].get("reject_confidence")
    environment = page_templates(Path(__file__).parent / "templates", language)
    environment.filters["share"] = lambda share: f"{language.number(100 * share, 1)}\u00a0%"
    return environment.get_template(TEMPLATE).render({
        "text": text,
        "rows": rows,
        "volumes": judged.predictions.volumes.to_dict("records"),
        "classes": judged.predictions.classes,
        "refused": judged.refused,
        "notes": judged.predictions.notes,
        "reject_below": None if rule is None else float(rule),
        "num_pictured": sum(bool(row.picture) for row in rows),
    })  # fmt: skip


def _heat_maps(judged: Judged, classifier: Judge) -> Mapping[int, tuple[np.ndarray, np.ndarray]]:
    """The prepared picture and its map, by row, for a classifier that has gradients."""
    from classifier.data import ImageTable
    from classifier.run import Classifier

    pixels = judged.pixels[:MAX_PICTURED]
    if not isinstance(classifier, Classifier) or not pixels:
        return {}
    images = ImageTable(np.stack(pixels))
    heats = explain_images(classifier, images)
    prepared = classifier.preprocessing.prepare(np.stack(pixels))
    return {row: (prepared[row], heats[row]) for row in range(len(pixels))}


def _row(judged: Judged, row: int, explained: tuple[np.ndarray, np.ndarray] | None, text: SheetText) -> _Row:
    entry = judged.predictions.images.iloc[row]
    language = text.language
    is_unsure = bool(entry["decision"] == NOT_SURE)
    picture = heat = ""
    if explained is not None:
        picture, heat = _address(to_rgb(explained[0])), _address(overlay(*explained, text.opacity))
    elif row < min(len(judged.pixels), MAX_PICTURED):
        picture = _address(to_rgb(judged.pixels[row]))
    remark = judged.remarks.get(str(entry["input"]))
    remarks = [] if remark is None else [language.text(remark)]
    strange = entry.get("unlike_training")
    if isinstance(strange, str) and strange:
        remarks.append(language.text("It does not look like the training images: {what}.", what=strange))
    return _Row(
        name=str(entry["file"]),
        place=place_of(entry, language),
        decision=language.text("not sure") if is_unsure else str(entry["class"]),
        is_unsure=is_unsure,
        shares=sorted(judged.probabilities(row).items(), key=lambda item: -item[1]),
        remark=" ".join(remarks),
        picture=picture,
        heat=heat,
    )


def place_of(entry: pd.Series, language: Language = ENGLISH) -> str:
    """Where a slice lies in its volume, in words; empty for a picture."""
    if not entry.get("volume"):
        return ""
    parts = [f"{entry['plane']} {entry['angle_deg']:g}°"]
    if entry.get("tilt_deg"):
        parts.append(language.text("tilted by {angle}°", angle=f"{entry['tilt_deg']:g}"))
    parts.append(f"{entry['position_mm']:+.0f} mm")
    return ", ".join(parts)


def _address(pixels: np.ndarray) -> str:
    picture = np.asarray(enlarged(pixels, PICTURE_SIDE))
    return "data:image/png;base64," + base64.b64encode(encode_png(picture)).decode("ascii")
