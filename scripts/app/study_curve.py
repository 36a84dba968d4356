"""The rounds of an arm as a small drawing: three lines that differ by marker as well as by color."""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from scripts.app.words import say

if TYPE_CHECKING:
    from semisup.summary import RoundResult


WIDTH, HEIGHT = 760, 240
LEFT, RIGHT, TOP, BOTTOM = 44, 280, 14, 34  # margins; the names of the lines stand at the right
INDENT = 24  # of the first and last round within the axes


@dataclass(frozen=True)
class Line:
    """One quantity over the rounds."""

    name: str
    color: str
    marker: str  # "circle" | "square" | "diamond"
    values: list[float]  # percent, by round; NaN = not known


def round_curve(results: Sequence[RoundResult]) -> str:
    """Validation, share selected and calibration error by round, as an <img>; the most kept is framed."""
    lines = [
        Line(say("validation, %"), "#0072b2", "circle", [100 * r.val_balanced_accuracy for r in results]),
        Line(
            say("share selected, %"),
            "#009e73",
            "square",
            [100 * sum(r.coverages) / len(r.coverages) for r in results],
        ),
        Line(say("calibration error after, %"), "#d55e00", "diamond", [100 * r.ece_after for r in results]),
    ]
    step = (WIDTH - LEFT - RIGHT - 2 * INDENT) / max(len(results) - 1, 1)
    places = [LEFT + INDENT + number * step for number in range(len(results))]
    best = most_kept(results)
    drawn = [
        *_axes(places, [r.round_index for r in results]),
        *(_frame(x) for x, r in zip(places, results, strict=True) if r.round_index == best),
        *(part for line in lines for part in _line(line, places)),
        *_legend(lines, has_frame=best is not None),
    ]
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12" fill="#1d2733">{"".join(drawn)}</svg>'
    )
    data = base64.b64encode(svg.encode()).decode("ascii")
    alt = say("Validation, share selected and calibration error by round; the table has the numbers")
    return f'<img class="sl-curve sl-rounds" alt="{escape(alt)}" src="data:image/svg+xml;base64,{data}">'


def most_kept(results: Sequence[RoundResult]) -> int | None:
    """The round that more runs kept than any other; None where two share the first place."""
    first, *others = sorted(results, key=lambda r: -r.num_kept)
    is_alone = all(r.num_kept < first.num_kept for r in others)
    return first.round_index if is_alone else None


def _height(value: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(max(value, 0.0), 100.0) / 100)


def _axes(places: Sequence[float], rounds: Sequence[int]) -> list[str]:
    drawn = []
    for tick in (0, 25, 50, 75, 100):
        y = _height(tick)
        drawn.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#dfe4ea"/>'
            f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick}</text>'
        )
    for x, index in zip(places, rounds, strict=True):
        drawn.append(f'<text x="{x:.1f}" y="{HEIGHT - 12}" text-anchor="middle">{index}</text>')
    return drawn


def _frame(x: float) -> str:
    """Around the round that most runs kept."""
    return (
        f'<rect x="{x - 14:.1f}" y="{TOP - 8}" width="28" height="{HEIGHT - TOP - BOTTOM + 16}" rx="8" '
        'fill="none" stroke="#1d2733" stroke-dasharray="4 3"/>'
    )


def _line(line: Line, places: Sequence[float]) -> list[str]:
    points = [(x, _height(v)) for x, v in zip(places, line.values, strict=True) if not math.isnan(v)]
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    drawn = [f'<polyline points="{joined}" fill="none" stroke="{line.color}" stroke-width="2"/>']
    return drawn + [_marker(line.marker, x, y, line.color) for x, y in points]


def _legend(lines: Sequence[Line], has_frame: bool) -> list[str]:
    drawn, x = [], WIDTH - RIGHT + 26
    for row, line in enumerate(lines):
        y = TOP + 16 + 22 * row
        drawn.append(_marker(line.marker, x, y - 4, line.color))
        drawn.append(f'<text x="{x + 12}" y="{y}">{escape(line.name)}</text>')
    y = TOP + 16 + 22 * len(lines)
    if not has_frame:
        return drawn
    return [*drawn, f'<text x="{x - 6}" y="{y}">{escape(say("dashed: kept most often"))}</text>']


def _marker(shape: str, x: float, y: float, color: str) -> str:
    if shape == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{color}"/>'
    turn = f' transform="rotate(45 {x:.1f} {y:.1f})"' if shape == "diamond" else ""
    return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{color}"{turn}/>'
