"""What a training will cost, from a few iterations of it: time by phase, and memory."""

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from extract.progress import Progress, no_progress
from gan.job import Job, run_iteration
from gan.log import resident_memory_gb

DEFAULT_PROBE_SEC = 15.0
ENOUGH_ROUNDS, ENOUGH_SEC = 5, 3.0  # small networks need no more


@dataclass(frozen=True)
class Cost:
    """Measured on this machine, now: other programs that run beside count in."""

    sec_per_kimg: float
    batch_size: int  # of the iterations that were measured
    is_scaled: bool  # measured on smaller batches than the training will use
    num_iterations: int
    memory_gb: float  # peak of the process on a CPU, of its tensors on a GPU


@dataclass(frozen=True)
class _Kind:
    """Iterations in which the same regularisers are due."""

    start: int  # an iteration number of this kind
    count: int  # how many of a cycle are of this kind


def measure_cost(
    job: Job, budget_sec: float, num_processes: int = 1, progress: Progress = no_progress
) -> Cost:
    """Train a scratch job for a moment and tell what training costs; the job is of no use afterwards.

    The kinds of iterations (with and without each lazy regulariser) are timed by themselves and weighted by
    how often they come. Where a whole batch would take too long, the smallest possible one is measured
    and scaled.

    Args:
        budget_sec: stop soon after so long, or when small networks have been measured well enough; one
            iteration of each kind is always measured.
        num_processes: that share a batch; what one of them does is measured.
    """
    recipe = job.recipe
    share = recipe.batch_size // num_processes
    kinds = _kinds(job)
    started = time.monotonic()
    smallest = min(recipe.mbstd_group, recipe.batch_gpu)
    _use_batch(job, smallest)
    first = _time(job, kinds[0].start)  # allocations and first calls included
    second = _time(job, kinds[0].start) if first < budget_sec / 4 else first
    whole = second * share / smallest  # an upper bound: large batches cost less an image
    is_scaled = 2 * whole * len(kinds) > budget_sec - (time.monotonic() - started)
    if not is_scaled:
        _use_batch(job, share, recipe.batch_gpu)
        _time(job, kinds[-1].start)  # a first time that does not count
    times: dict[_Kind, list[float]] = {kind: [] for kind in kinds}
    rounds = 0
    while rounds == 0 or (spent := time.monotonic() - started) * (1 + 1 / rounds) < budget_sec:
        if rounds >= ENOUGH_ROUNDS and spent > ENOUGH_SEC:
            break
        for kind in kinds:
            times[kind].append(_time(job, kind.start))
        rounds += 1
        progress(min(int(time.monotonic() - started), int(budget_sec)), int(budget_sec), "measuring the time")
    cycle = sum(kind.count for kind in kinds)
    iteration_sec = sum(kind.count * sorted(seen)[len(seen) // 2] for kind, seen in times.items()) / cycle
    return Cost(
        sec_per_kimg=iteration_sec / (job.recipe.batch_size * num_processes) * 1000,
        batch_size=job.recipe.batch_size,
        is_scaled=is_scaled,
        num_iterations=sum(len(seen) for seen in times.values()),
        memory_gb=_peak_memory_gb(job.device),
    )


def _kinds(job: Job) -> list[_Kind]:
    """The kinds of a cycle, the plainest first."""
    recipe = job.recipe
    intervals = [recipe.g_reg_interval] if recipe.pl_weight > 0 else []
    intervals += [recipe.d_reg_interval] if recipe.r1_gamma > 0 else []
    found: dict[tuple[bool, ...], list[int]] = {}
    for iteration in range(math.lcm(*intervals) if intervals else 1):
        found.setdefault(tuple(iteration % interval == 0 for interval in intervals), []).append(iteration)
    return [_Kind(members[0], len(members)) for _, members in sorted(found.items())]


def _use_batch(job: Job, batch_size: int, batch_gpu: int | None = None) -> None:
    job.recipe = replace(job.recipe, batch_size=batch_size, batch_gpu=batch_gpu or batch_size)


def _time(job: Job, iteration: int) -> float:
    """Seconds of one iteration with the regularisers of this number."""
    job.iteration = iteration
    started = time.perf_counter()
    run_iteration(job)
    if job.device.type == "cuda":
        torch.cuda.synchronize(job.device)
    return time.perf_counter() - started


def _peak_memory_gb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    return max(_lines_of_status()) if sys.platform.startswith("linux") else resident_memory_gb()


def _lines_of_status() -> Iterator[float]:
    """Resident memory in GiB, now and at its peak (where the system tells)."""
    yield resident_memory_gb()
    with open("/proc/self/status", encoding="ascii", errors="replace") as handle:
        for line in handle:
            if line.startswith("VmHWM:"):
                yield int(line.split()[1]) / 2**20
