"""Work over many files in several processes, results in the files' order."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from extract.errors import SettingsError

Item = TypeVar("Item")
Result = TypeVar("Result")
MIN_ITEMS_PER_WORKER = 4  # starting a process costs about a second; fewer items are not worth it


def num_workers(workers: int | None, num_items: int) -> int:
    """How many processes to use: as asked for, or one a core where there is enough to do."""
    if workers is not None and workers < 1:
        raise SettingsError(f"--workers must be at least 1, got {workers}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    wanted = workers if workers is not None else min(cores, num_items // MIN_ITEMS_PER_WORKER)
    return max(1, min(wanted, num_items))


def map_ordered(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, batch_size: int | str = "auto"
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order; what comes out does not depend on `workers`."""
    if workers == 1:
        yield from map(function, items)
        return
    from joblib import Parallel, delayed

    parallel: Any = Parallel(n_jobs=workers, return_as="generator", batch_size=batch_size)
    results = parallel(delayed(function)(item) for item in items)
    try:
        for result in results:  # noqa: UP028 (`yield from` would close `results` before the silence below)
            yield result
    finally:  # where the reader stops early (a full disk, Ctrl-C), joblib warns of work done in vain
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            results.close()
