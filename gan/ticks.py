"""What is told at each tick: the status line, a line of `stats.jsonl`, TensorBoard, and what looks wrong."""

import time
from typing import Any

import torch

from gan.errors import GanError
from gan.going_back import way_back
from gan.health import BAD_GRADIENTS, FAKE_VARIETY, all_finite
from gan.job import PHASE_NAMES
from gan.log import resident_memory_gb, status_line, to_json_line
from gan.pace import ticks_to_come
from gan.session import Session, measure_variety

LOSS_STATISTICS = (
    "Loss/scores/fake", "Loss/signs/fake", "Loss/G/loss", "Loss/pl_penalty", "Loss/G/reg", "Loss/scores/real",
    "Loss/signs/real", "Loss/D/loss", "Loss/r1_penalty", "Loss/D/reg",
)  # fmt: skip


def write_status(session: Session, tick_sec: float, maintenance_sec: float) -> dict[str, Any]:
    """The line in the log and the object in `stats.jsonl`; returns the statistics of the tick."""
    job, elapsed = session.job, session.elapsed_sec
    kimg_of_tick = (job.images_seen - job.tick_start_images) / 1000
    on_gpu = job.device.type == "cuda"
    gpu_mem_gb = torch.cuda.max_memory_allocated(job.device) / 2**30 if on_gpu else 0.0
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(job.device)
    sec_per_kimg = tick_sec / kimg_of_tick
    session.pace.observe_tick(job.images_seen - job.tick_start_images, tick_sec)
    cpu_mem_gb = resident_memory_gb()
    session.log(
        status_line(
            tick=job.tick,
            kimg=job.kimg,
            elapsed_sec=elapsed,
            tick_sec=tick_sec,
            sec_per_kimg=sec_per_kimg,
            maintenance_sec=maintenance_sec,
            cpu_mem_gb=cpu_mem_gb,
            gpu_mem_gb=gpu_mem_gb,
            augment_p=job.ada.p,
            left_sec=_seconds_left(session),
        )
    )
    report = job.statistics.report
    for name, value in (
        ("Progress/tick", job.tick), ("Progress/kimg", job.kimg), ("Timing/total_sec", elapsed),
        ("Timing/sec_per_tick", tick_sec), ("Timing/sec_per_kimg", sec_per_kimg),
        ("Timing/maintenance_sec", maintenance_sec), ("Resources/cpu_mem_gb", cpu_mem_gb),
        ("Resources/peak_gpu_mem_gb", gpu_mem_gb), ("Progress/augment", job.ada.p),
        ("Timing/total_hours", elapsed / 3600), ("Timing/total_days", elapsed / 86400),
    ):  # fmt: skip
        report(name, value)
    for name in PHASE_NAMES:
        if name in job.phase_ms:
            report(f"Timing/{name}", job.phase_ms[name])
    collected = job.statistics.end_tick()
    nothing = {"num": 0, "mean": None, "std": None}
    last = [*(f"Timing/{name}" for name in PHASE_NAMES), BAD_GRADIENTS]  # ours behind the official ones
    ordered = {name: collected.get(name, nothing) for name in LOSS_STATISTICS}
    ordered |= {name: value for name, value in collected.items() if name not in {*ordered, *last}}
    ordered |= {name: collected.get(name, nothing) for name in last}
    variety: dict[str, float | None] = {"num": 1, "mean": measure_variety(session), "std": 0.0}
    ordered[FAKE_VARIETY] = variety
    with open(session.run_dir / "stats.jsonl", "a", encoding="utf-8") as handle:
        handle.write(to_json_line({**ordered, "timestamp": time.time()}))
    session.num_stats_lines += 1
    session.events.add_means(ordered, job.kimg, elapsed)
    session.events.flush()
    return ordered


def _seconds_left(session: Session) -> float | None:
    job, recipe = session.job, session.job.recipe
    images_left = max(recipe.total_kimg * 1000 - job.images_seen, 0)
    counts = ticks_to_come(job.tick, images_left, session.config.tick_kimg * 1000, recipe.snap)
    return session.pace.seconds_left(images_left, *counts)


def tell_health(session: Session, statistics: dict[str, Any]) -> None:
    """Warn of what has begun to look wrong, and of what no longer does, in the log and on TensorBoard."""
    job = session.job
    new, cleared = session.health.observe(statistics)
    lines = [
        f"Warning: {finding.text}. {way_back(session.config, session.run_dir, finding.good_until_kimg)}"
        for finding in new
    ]
    lines += [f"Cleared: {finding.kind}." for finding in cleared]
    for line in lines:
        session.log(line)
        session.events.add_text("Warnings", line, job.kimg, session.elapsed_sec)


def stop_if_diverged(session: Session, statistics: dict[str, Any] | None = None) -> None:
    """End a training whose losses or weights are no longer numbers, before it overwrites a good state.

    Args:
        statistics: of the tick; None = look at the weights alone.

    Raises:
        GanError: naming what is no number, and the snapshot and command to go on with.
    """
    job = session.job
    losses = {} if statistics is None else {name: statistics[name] for name in ("Loss/G/loss", "Loss/D/loss")}
    broken = [name for name, value in losses.items() if value["num"] and value["mean"] is None]
    networks = {"G_ema": job.G_ema, "G": job.players.G, "D": job.players.D}
    broken += [f"a weight of {name}" for name, network in networks.items() if not all_finite(network)]
    if not broken:
        return
    message = (
        f"{session.run_dir}: training diverged, {broken[0]} is no number at {job.kimg:.1f} kimg; nothing was "
        f"overwritten. {way_back(session.config, session.run_dir, job.tick_start_images / 1000)}"
    )
    session.log(f"Warning: {message}")
    session.events.add_text("Warnings", message, job.kimg, session.elapsed_sec)
    session.events.flush()
    raise GanError(message)
