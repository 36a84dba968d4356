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
    open_needs = {task.key: set(task.needs) for task in tasks}
    left = set(open_needs)
    waits_for: dict[str, list[int]] = {}  # places in `tasks` by what they need
    ready: list[int] = []  # of those that need nothing any more, a heap
    for place, task in enumerate(tasks):
        open_needs[task.key] &= left
        for need in open_needs[task.key]:
            waits_for.setdefault(need, []).append(place)
        if not open_needs[task.key]:
            ready.append(place)
    done_at, free, now = 0.0, places, 0.0
    running: list[tuple[float, str, int]] = []
    while ready or running:
        # Nobody overtakes: where the first that may start finds no room, all behind it wait.
        while ready and (taken := min(tasks[ready[0]].places, places)) <= free:
            task = tasks[heapq.heappop(ready)]
            free -= taken
            heapq.heappush(running, (now + task.seconds, task.key, taken))
        now, key, taken = heapq.heappop(running)
        left.discard(key)
        free += taken
        done_at = max(done_at, now)
        for place in waits_for.get(key, ()):
            needs = open_needs[tasks[place].key]
            needs.discard(key)
            if not needs:
                heapq.heappush(ready, place)
    if left:
        raise ValueError(f"{next(task.key for task in tasks if task.key in left)} waits for itself")
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
