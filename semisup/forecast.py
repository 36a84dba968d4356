"""How long jobs that wait for one another take together, in so many processes: no files, no clock."""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """A job as a forecast sees it."""

    key: str
    needs: tuple[str, ...]
    seconds: float  # alone in a process
    places: int = 1  # of those that there are; more than there are means all of them


def wall_seconds(tasks: Sequence[Task], places: int) -> float:
    """Until the last of `tasks` is done, when each starts in the given order as soon as it may.

    Needs that are not among the tasks count as done. The work is dealt out as `semisup run` does it.
    """
    waiting, done_at, free, now = list(tasks), 0.0, places, 0.0
    left = {task.key for task in tasks}
    running: list[tuple[float, str, int]] = []
    while waiting or running:
        for task in list(waiting):
            if not left.isdisjoint(task.needs):
                continue
            taken = min(task.places, places)
            if taken > free:
                break  # nobody overtakes: the order is the plan's
            waiting.remove(task)
            free -= taken
            heapq.heappush(running, (now + task.seconds, task.key, taken))
        if not running:
            raise ValueError(f"{waiting[0].key} waits for itself")
        now, key, taken = heapq.heappop(running)
        left.discard(key)
        free += taken
        done_at = max(done_at, now)
    return done_at


def longest_chain(tasks: Sequence[Task]) -> tuple[float, tuple[str, ...]]:
    """Seconds and keys of the chain of needs that takes longest: no number of processes is faster.

    Args:
        tasks: each after all that it needs.
    """
    best: dict[str, tuple[float, tuple[str, ...]]] = {}
    for task in tasks:
        before = max((best[need] for need in task.needs if need in best), default=(0.0, ()))
        best[task.key] = (before[0] + task.seconds, (*before[1], task.key))
    return max(best.values(), default=(0.0, ()))
