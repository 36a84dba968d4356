"""Predictions as one HTML file that needs nothing else: to keep, to print, to send on."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from classifier.explain import explain_images, overlay, to_rgb
from classifier.explain_pictures import enlarged
from classifier.judging import Judged
from classifier.predict import NOT_SURE, Judge
from extract.page_parts import page_templates
from extract.png import encode_png

TEMPLATE = "predictions.html.j2"
MAX_PICTURED = 60  # images with pictures; the table names them all
PICTURE_SIDE = 192  # pixels, about


@dataclass(frozen=True)
class SheetText:
    """What the page knows and the predictions do not."""

    made_at: str  # date and time, as people write it
    card: Sequence[tuple[str, str]]  # names and values, in the reader's language
    language: str = "en"


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


def render_sheet(
    judged: Judged,
    classifier: Judge,
    text: SheetText,
    *,
    opacity: float = 0.5,
    translate: Callable[[str], str] = str,
) -> str:
    """The sheet as text; Grad-CAM is drawn of the first images, for the class that each is given.

    Args:
        opacity: of the heat maps, in [0, 1].
        translate: English to the reader's language, for the sheet's own words.
    """
    heats = _heat_maps(judged, classifier)
    rows = [_row(judged, row, heats.get(row), opacity, translate) for row in range(judged.num_images)]
    rule = judged.predictions.settings["decision"].get("reject_confidence")
    environment = page_templates(Path(__file__).parent / "templates")
    environment.filters["percent"] = lambda share: f"{100 * share:.1f} %"
    return environment.get_template(TEMPLATE).render({
        "t": translate,
        "text": text,
        "rows": rows,
        "volumes": judged.predictions.volumes.to_dict("records"),
        "classes": judged.predictions.classes,
        "refused": [f"{item}" for item in judged.refused],
        "notes": judged.predictions.notes,
        "reject_below": None if rule is None else float(rule),
        "has_pictures": any(row.picture for row in rows),
        "has_heat": bool(heats),
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


def _row(
    judged: Judged,
    row: int,
    explained: tuple[np.ndarray, np.ndarray] | None,
    opacity: float,
    translate: Callable[[str], str],
) -> _Row:
    entry = judged.predictions.images.iloc[row]
    is_unsure = entry["decision"] == NOT_SURE
    shares = sorted(judged.probabilities(row).items(), key=lambda item: -item[1])
    picture = heat = ""
    if explained is not None:
        picture, heat = _address(to_rgb(explained[0])), _address(overlay(*explained, opacity))
    elif row < min(len(judged.pixels), MAX_PICTURED):
        picture = _address(to_rgb(judged.pixels[row]))
    remarks = [judged.remarks.get(str(entry["input"]), "")]
    strange = entry.get("unlike_training")
    if isinstance(strange, str) and strange:
        remarks.append(translate("unlike the training images") + f" ({strange})")
    return _Row(
        name=str(entry["file"]),
        place=place_of(entry, translate),
        decision=translate(NOT_SURE) if is_unsure else str(entry["class"]),
        is_unsure=is_unsure,
        shares=shares,
        remark="; ".join(translate(remark) for remark in remarks if remark),
        picture=picture,
        heat=heat,
    )


def place_of(entry: pd.Series, translate: Callable[[str], str] = str) -> str:
    """Where a slice lies in its volume, in words; empty for a picture."""
    if not entry.get("volume"):
        return ""
    parts = [f"{entry.get('plane')} {_number(entry.get('angle_deg'))}°"]
    if entry.get("tilt_deg"):
        parts.append(translate("tilt") + f" {_number(entry.get('tilt_deg'))}°")
    parts.append(f"{_number(entry.get('position_mm'), '+.0f')} mm")
    return ", ".join(parts)


def _number(value: object, form: str = "g") -> str:
    return format(float(value), form) if isinstance(value, int | float) else "?"


def _address(pixels: np.ndarray) -> str:
    picture = np.asarray(enlarged(pixels, PICTURE_SIDE))
    return "data:image/png;base64," + base64.b64encode(encode_png(picture)).decode("ascii")
