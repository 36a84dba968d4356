"""What is told at each tick: the status line, a line of `stats.jsonl`, and whether it is worth going on."""

import time
from typing import Any

import torch

from gan.errors import GanError
from gan.job import PHASE_NAMES
from gan.log import resident_memory_gb, status_line, to_json_line
from gan.session import Session

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
            left_sec=session.seconds_left(),
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
    ordered = {name: collected.get(name, nothing) for name in LOSS_STATISTICS}
    ordered |= {name: value for name, value in collected.items() if name not in ordered}
    ordered |= {f"Timing/{name}": collected.get(f"Timing/{name}", nothing) for name in PHASE_NAMES}
    with open(session.run_dir / "stats.jsonl", "a", encoding="utf-8") as handle:
        handle.write(to_json_line({**ordered, "timestamp": time.time()}))
    session.num_stats_lines += 1
    return ordered


def stop_if_diverged(session: Session, statistics: dict[str, Any]) -> None:
    """End a training whose losses are no longer numbers, before it overwrites a good state."""
    for name in ("Loss/G/loss", "Loss/D/loss"):
        value = statistics[name]
        if value["num"] and value["mean"] is None:
            raise GanError(
                f"{session.run_dir}: training diverged, {name} is no number at {session.job.kimg:.1f} kimg; "
                f"go on "
                f"from the last snapshot with another --seed, or start again with a larger --gamma"
            )
