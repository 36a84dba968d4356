"""How long the rest of a training will take, by what its last ticks took."""

from collections.abc import Mapping, Sequence
from typing import Any

HALF_LIFE_TICKS = 3.0  # after which a tick counts half: late ticks tell more, but one slow tick is no alarm


class Pace:
    """Averages of training and of what lies between ticks, each kind by itself.

    Snapshots, with their grids and metrics, come seldom and may take longer than a tick; they are counted
    as often as they are still to come.
    """

    def __init__(self) -> None:
        self._images, self._seconds = 0.0, 0.0
        self._between: dict[bool, tuple[float, float]] = {}  # with a snapshot? -> (weight, weighted seconds)

    def observe_tick(self, num_images: int, seconds: float) -> None:
        keep = 0.5 ** (1 / HALF_LIFE_TICKS)
        self._images = self._images * keep + num_images
        self._seconds = self._seconds * keep + seconds

    def observe_between(self, seconds: float, with_snapshot: bool) -> None:
        """The time between two ticks: state, and where it was due snapshot, grid and metrics."""
        weight, total = self._between.get(with_snapshot, (0.0, 0.0))
        self._between[with_snapshot] = (weight / 2 + 1, total / 2 + seconds)

    def seconds_left(self, num_images: float, num_snapshots: int, num_other_ticks: int) -> float | None:
        """Of so many images to show and ticks to end; None before the first tick."""
        if self._images == 0:
            return None
        left = num_images * self._seconds / self._images
        for with_snapshot, count in ((True, num_snapshots), (False, num_other_ticks)):
            weight, total = self._between.get(with_snapshot, (1.0, 0.0))
            left += count * total / weight
        return left


def pace_of(lines: Sequence[Mapping[str, Any]], snap: int) -> Pace:
    """What the lines of `stats.jsonl` tell a training that goes on.

    Args:
        snap: every so many ticks there was a snapshot.
    """
    pace, images_before = Pace(), 0.0
    for number, line in enumerate(lines):
        images = 1000 * line["Progress/kimg"]["mean"]
        pace.observe_tick(round(images - images_before), line["Timing/sec_per_tick"]["mean"])
        if number > 0:  # a line tells of the time before its own tick
            pace.observe_between(line["Timing/maintenance_sec"]["mean"], (number - 1) % snap == 0)
        images_before = images
    return pace


def ticks_to_come(tick: int, images_left: float, tick_images: float, snap: int) -> tuple[int, int]:
    """How many ticks with and without a snapshot are to end yet, the one that ends now included.

    Args:
        tick: number of the one that ends now.
        images_left: still to show after it.
        snap: every so many ticks there is a snapshot; the last one always has one.
    """
    last = tick + int(-(-images_left // tick_images))
    with_snapshot = sum(number % snap == 0 or number == last for number in range(tick, last + 1))
    return with_snapshot, last + 1 - tick - with_snapshot
