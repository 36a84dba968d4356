"""`verify --html`: what is in an archive, on one page that needs no network and can be printed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from extract.archive import Archive
from extract.atomic import write_text
from extract.confounds import CHANCE, Confound, describe
from extract.duplicates import DuplicateGroup, describe_pair
from extract.page_parts import page_templates, picture_address
from extract.seeds import derive_seed
from extract.show import pick_rows
from extract.split_table import tabulate_split
from extract.verify import Verification

PICTURE_SIDE = 128  # pixels at most; larger pictures are made smaller
MAX_GROUPS = 40  # of duplicates shown; all are in the JSON
MAX_IN_GROUP = 8
MAX_OUTLIERS = 40
MAX_MIXED = 30
SAMPLES = 24  # pictures of each class
NUM_BARS = 32  # of a histogram of brightness


@dataclass(frozen=True)
class Shown:
    """A picture on the page."""

    uri: str  # data URI of a PNG; empty where it cannot be read
    label: str
    subject: str
    name: str  # source file, or the archive's own name
    note: str = ""


@dataclass(frozen=True)
class ShownGroup:
    """A group of duplicates on the page."""

    pictures: tuple[Shown, ...]
    num_hidden: int
    crosses_classes: bool
    crosses_subjects: bool


def write_page(archive: Archive, found: Verification, dest: Path) -> None:
    """Write the page of a verification as one HTML file.

    Args:
        archive: the one that was verified, still open.
        found: what `verify_archive` gave.
        dest: file to write; one that is there is replaced.
    """
    write_text(dest, render(archive, found))


def render(archive: Archive, found: Verification) -> str:
    """The whole page as text."""
    context = {
        "name": archive.path.name,
        "sha256": archive.sha256,
        "shape": archive.image_shape,
        "v": found,
        "identical": _show_groups(archive, found.identical),
        "alike": _show_groups(archive, found.alike or ()),
        "limits": {"groups": MAX_GROUPS, "outliers": MAX_OUTLIERS, "mixed": MAX_MIXED},
        "histograms": _histograms(archive, found),
        "confounds": [(item, describe(item), _interval_svg(item)) for item in found.confounds],
        "outliers": [_show(archive, item.row, item.reason) for item in found.outliers[:MAX_OUTLIERS]],
        "samples": _samples(archive),
        "parts": tabulate_split(found.split, archive) if found.split else (),
        "classes": archive.classes,
        "preparation": archive.preparation,
    }
    environment = page_templates(Path(__file__).parent / "templates")
    environment.filters["count"] = lambda value: f"{value:,}"
    environment.filters["percent"] = lambda value: f"{100 * value:.0f} %"
    return environment.get_template("verify.html.j2").render(context)


def _show(archive: Archive, row: int, note: str = "") -> Shown:
    entry = archive.manifest.iloc[row]
    view = f"{entry['plane']} {entry['angle_deg']}°, slice {entry['slice_index']}" if entry["plane"] else ""
    name = str(entry["source"] or entry["file"])
    return Shown(
        picture_address(archive, row, PICTURE_SIDE),
        str(entry["label"]) or "unlabeled",
        str(entry["subject"]),
        f"{name}, {view}" if view else name,
        note,
    )


def _show_groups(archive: Archive, groups: Sequence[DuplicateGroup]) -> list[ShownGroup]:
    """The first groups as pictures; those across classes, then across subjects, come first."""
    order = sorted(groups, key=lambda group: (not group.crosses_classes, not group.crosses_subjects))
    return [_show_group(archive, group) for group in order[:MAX_GROUPS]]


def _show_group(archive: Archive, group: DuplicateGroup) -> ShownGroup:
    files = {row: f"{place}" for place, row in enumerate(group.rows, 1)}
    notes: dict[int, str] = {}
    for pair in group.pairs:
        notes.setdefault(pair.other, f"{describe_pair(pair)}, beside no. {files[pair.row]}")
    pictures = tuple(_show(archive, row, notes.get(row, "")) for row in group.rows[:MAX_IN_GROUP])
    return ShownGroup(
        pictures, max(0, len(group.rows) - MAX_IN_GROUP), group.crosses_classes, group.crosses_subjects
    )


def _samples(archive: Archive) -> list[tuple[str, list[Shown]]]:
    """Pictures of each class, spread over the subjects, always the same for the same archive."""
    rng = np.random.default_rng(derive_seed("page samples", 0))
    groups = [(name, np.flatnonzero(archive.labels == k)) for k, name in enumerate(archive.classes)]
    groups.append(("unlabeled", np.flatnonzero(archive.labels < 0)))
    return [
        (name, [_show(archive, int(row)) for row in pick_rows(archive, rows, SAMPLES, rng)])
        for name, rows in groups
        if len(rows)
    ]


def _histograms(archive: Archive, found: Verification) -> list[tuple[str, Markup]]:
    """How the pictures' mean brightness is spread in each class, drawn to one scale."""
    survey = found.survey
    if survey is None:
        return []
    drawn = []
    for label, name in enumerate(archive.classes):
        means = survey.mean[(archive.labels == label) & survey.is_readable]
        if len(means):
            counts, _ = np.histogram(means, bins=NUM_BARS, range=(0, 255))
            drawn.append((name, counts / counts.sum()))
    tallest = max((float(shares.max()) for _, shares in drawn), default=1.0)
    return [(name, _bars_svg(shares / tallest)) for name, shares in drawn]


def _bars_svg(heights: np.ndarray) -> Markup:
    """Bars of heights in [0, 1]; drawn of numbers alone, so there is nothing to escape."""
    step = 320 / len(heights)
    bars = "".join(
        f'<rect x="{k * step + 0.5:.1f}" y="{60 - 56 * h:.1f}" width="{step - 1:.1f}" height="{56 * h:.1f}"/>'
        for k, h in enumerate(heights.tolist())
        if h > 0
    )
    ticks = "".join(
        f'<text x="{x}" y="74" text-anchor="{anchor}">{text}</text>'
        for x, anchor, text in ((0, "start", "0 black"), (160, "middle", "128"), (320, "end", "255 white"))
    )
    return Markup(
        f'<svg viewBox="0 0 320 78" role="img">{bars}<line x1="0" y1="60" x2="320" y2="60"/>{ticks}</svg>'
    )


def _interval_svg(confound: Confound) -> Markup:
    """Balanced accuracy with its interval on a line from 0 to 100 %, chance marked."""

    def x(share: float) -> float:
        return 200 * (0.0 if math.isnan(share) else share)

    return Markup(
        f'<svg class="interval" viewBox="-4 0 208 16" role="img">'
        '<line class="axis" x1="0" y1="8" x2="200" y2="8"/>'
        f'<line class="chance" x1="{x(CHANCE):.1f}" y1="1" x2="{x(CHANCE):.1f}" y2="15"/>'
        f'<line class="range" x1="{x(confound.low):.1f}" y1="8" x2="{x(confound.high):.1f}" y2="8"/>'
        f'<circle cx="{x(confound.balanced_accuracy):.1f}" cy="8" r="4"/></svg>'
    )
