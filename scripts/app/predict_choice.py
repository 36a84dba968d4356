"""Which of the judged images is looked at: by file, then within a volume by plane and slice."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from extract.language import Message
from scripts.app.words import say

BATCH = "predict.batch"
PLANE_NAMES = {
    "sagittal": Message("sagittal"),
    "coronal": Message("coronal"),
    "axial": Message("axial"),
}


def begin_batch() -> None:
    """Other images than before: nothing that was chosen holds for them."""
    st.session_state[BATCH] = st.session_state.get(BATCH, 0) + 1


def batch_key(*parts: object) -> str:
    """The key of a control that belongs to these images."""
    return ".".join(map(str, ("predict", st.session_state.get(BATCH, 0), *parts)))


def choose_row(table: pd.DataFrame) -> int:
    """Ask for the image, where there are several.

    Args:
        table: the images of `Predictions`.

    Returns:
        Its row.
    """
    starts = group_starts(table)
    ends = [*starts[1:], len(table)]
    if len(table) == 1:
        return 0
    kinds = list(dict.fromkeys(plane_of(table))) if "plane" in table else []
    widths = ([2] if len(starts) > 1 else []) + ([1, 2] if len(kinds) > 1 else [2] if kinds else [])
    columns = iter(st.columns(widths, gap="medium"))
    group = 0
    if len(starts) > 1:
        names = [
            f"{number + 1}/{len(starts)}  {table['file'].iloc[start]}" for number, start in enumerate(starts)
        ]
        group = next(columns).selectbox(say("File"), range(len(starts)), format_func=names.__getitem__)
    rows = np.arange(starts[group], ends[group])
    if len(rows) == 1:
        return int(rows[0])
    planes = plane_of(table.iloc[rows])
    kinds = list(dict.fromkeys(planes))
    kind = kinds[0]
    if len(kinds) > 1:
        key = batch_key("plane", group)
        kind = next(columns).selectbox(say("Plane"), kinds, format_func=_plane_name, key=key)
    rows = rows[[plane == kind for plane in planes]]
    if len(rows) == 1:
        return int(rows[0])
    key = batch_key("slice", group, *kind)
    number = next(columns).slider(say("Slice"), 1, len(rows), (len(rows) + 1) // 2, key=key)
    return int(rows[number - 1])


def plane_of(table: pd.DataFrame) -> list[tuple[str, float, float]]:
    """Plane, angle and tilt of each slice."""
    tilts = table["tilt_deg"] if "tilt_deg" in table else pd.Series(0.0, table.index)
    cells = zip(table["plane"], table["angle_deg"].fillna(0), tilts.fillna(0), strict=True)
    return [(str(plane), float(angle), float(tilt)) for plane, angle, tilt in cells]


def group_starts(table: pd.DataFrame) -> list[int]:
    """The first row of each picture or volume."""
    volumes = table["volume"].fillna("").tolist() if "volume" in table else [""] * len(table)
    keys = list(zip(table["input"], volumes, strict=True))
    return [row for row in range(len(keys)) if not row or not keys[row][1] or keys[row] != keys[row - 1]]


def _plane_name(kind: tuple[str, float, float]) -> str:
    plane, angle, tilt = kind
    tilted = f", {say('tilt')} {tilt:g}°" if tilt else ""
    return f"{say(PLANE_NAMES.get(plane, plane))} {angle:g}°{tilted}"
