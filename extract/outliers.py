"""Pictures whose brightness says that something went wrong: empty, even, washed out, unlike their class."""

from dataclasses import dataclass

import numpy as np

from extract.archive import Archive
from extract.survey import PictureSurvey

MIN_CONTRAST = 4.0  # gray levels of standard deviation; less is nearly even
MAX_WHITE_SHARE = 0.1  # of the pixels at 255: detail was lost
FAR = 8.0  # robust standard deviations from the class's median
MIN_FOR_FAR = 30  # images of a class; with fewer the median says little
MAD_TO_SIGMA = 1.4826  # of a normal distribution


@dataclass(frozen=True)
class Outlier:
    """One picture to look at, and why."""

    row: int
    kind: str  # "blank", "nearly even", "washed out", "unlike its class"
    reason: str


def find_outliers(archive: Archive, survey: PictureSurvey) -> tuple[Outlier, ...]:
    """Pictures whose gray levels are odd, each with its first reason, in the archive's order.

    Slices of volumes are not held against their class: towards the rim they fade by nature.
    """
    found: dict[int, Outlier] = {}

    def add(rows: np.ndarray, kind: str, reason: str, values: np.ndarray | None = None) -> None:
        for row in rows.tolist():
            text = reason if values is None else reason.format(values[row])
            found.setdefault(row, Outlier(row, kind, text))

    readable = survey.is_readable
    blank = readable & (survey.low == survey.high)
    add(np.flatnonzero(blank & (survey.high == 0)), "blank", "black throughout")
    add(np.flatnonzero(blank), "blank", "one gray level throughout ({:.0f})", survey.mean)
    even = readable & (survey.contrast < MIN_CONTRAST)
    add(np.flatnonzero(even), "nearly even", "contrast of {:.1f} gray levels", survey.contrast)
    white = readable & (survey.white_share >= MAX_WHITE_SHARE)
    add(np.flatnonzero(white), "washed out", "{:.0f} % of the pixels are white", 100 * survey.white_share)
    is_picture = readable & (archive.manifest["plane"] == "").to_numpy()
    for label, name in enumerate(archive.classes):
        rows = np.flatnonzero(is_picture & (archive.labels == label))
        for values, what in ((survey.mean, "mean brightness"), (survey.contrast, "contrast")):
            far, median = _far(values[rows])
            reason = f"{what} {{:.0f}}, usual for {name}: {median:.0f}"
            add(rows[far], "unlike its class", reason, values)
    return tuple(found[row] for row in sorted(found))


def _far(values: np.ndarray) -> tuple[np.ndarray, float]:
    """Which values are far from their median, and the median."""
    if len(values) < MIN_FOR_FAR:
        return np.zeros(len(values), bool), 0.0
    median = float(np.median(values))
    distance = np.abs(values - median)
    sigma = MAD_TO_SIGMA * float(np.median(distance))
    return distance > FAR * max(sigma, 1.0), median
