"""Work over many files in several processes, results in the files' order."""

import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from extract.errors import ExtractError, SettingsError
from extract.worker_pool import IDLE_SEC, num_cores

Item = TypeVar("Item")
Result = TypeVar("Result")
MIN_ITEMS_PER_WORKER = 4  # starting a process costs about a second; fewer items are not worth it
CHUNKS_PER_WORKER = 2  # under way or done and waiting: enough to keep all busy, and bounded in memory


def num_workers(workers: int | None, num_items: int) -> int:
    """How many processes to use: as asked for, or one a core where there is enough to do."""
    if workers is not None and workers < 1:
        raise SettingsError(f"--workers must be at least 1, got {workers}")
    cores = num_cores()
    wanted = workers if workers is not None else min(cores, num_items // MIN_ITEMS_PER_WORKER)
    return max(1, min(wanted, num_items))


def map_ordered(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, chunk_size: int = 1
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order; what comes out does not depend on `workers`.

    Args:
        chunk_size: items given to a process at a time; more than one where an item takes milliseconds.

    Raises:
        ExtractError: if a process was killed from outside.
    """
    if workers == 1:
        yield from map(function, items)
        return
    from joblib.externals.loky import get_reusable_executor  # spawns: a fork copies held locks of threads

    executor = get_reusable_executor(max_workers=workers, timeout=IDLE_SEC, initializer=_leave_interrupts)
    starts = iter(range(0, len(items), chunk_size))
    under_way: deque[Future[list[Result]]] = deque()

    def start_one() -> None:
        start = next(starts, None)
        if start is not None:
            under_way.append(executor.submit(_map_chunk, function, items[start : start + chunk_size]))

    try:
        for _ in range(CHUNKS_PER_WORKER * workers):
            start_one()
        while under_way:
            results = under_way.popleft().result()
            start_one()
            yield from results
    except BrokenProcessPool as error:
        raise ExtractError(
            f"expected {workers} worker processes to read the files, but one was killed from outside, "
            "perhaps for want of memory; take fewer with --workers, or close other programs"
        ) from error
    finally:  # where the reader stops early (a full disk, Ctrl-C); what is under way ends by itself
        for future in under_way:
            future.cancel()


def _map_chunk(function: Callable[[Any], Result], chunk: Sequence[Any]) -> list[Result]:
    return [function(item) for item in chunk]


def _leave_interrupts() -> None:
    """Ctrl-C reaches the whole group of processes; the command alone answers it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
