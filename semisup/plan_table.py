"""What a study would run and what that takes, as text for a terminal and as JSON."""

import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from extract.json_values import json_value
from semisup.arms import ARMS
from semisup.config import CURVE_ARM
from semisup.estimate import Estimate, chain_text
from semisup.plan import Plan

KINDS = {"gan": "generators", "pool": "synthetic images", "run": "classifier runs"}


def plan_table(plan: Plan) -> str:
    """What a study would run, as text for a terminal."""
    config = plan.config
    num_gans = sum(job.kind == "gan" for job in plan.jobs)
    pools = [job for job in plan.jobs if job.kind == "pool"]
    lines = [
        f"{config.name}: {len(plan.runs)} runs, at most {plan.num_trainings} classifier trainings of "
        f"{config.classifier_config(0).steps} steps, {num_gans} generator{'s' * (num_gans != 1)} to train",
        f"data: {config.data} ({', '.join(plan.classes)})",
        f"folds {_listed(plan.folds)}; seeds {_listed(config.seeds)}; "
        f"fractions {_listed(sorted(config.fractions))}",
    ]
    if config.curve_fractions:
        lines[-1] += f"; {CURVE_ARM} alone also at {_listed(sorted(config.curve_fractions))}"
    if pools:
        lines.append(
            f"pool: {config.pool.num_images} synthetic images a generator, psi {config.pool.truncation_psi:g}"
        )
    lines.append("")
    width = max(len(name) for name in config.arms)
    for name in config.arms:
        runs = [run for run in plan.runs if run.arm == name]
        trainings = sum(plan.trainings_of(run) for run in runs)
        lines.append(f"{name:<{width}}  {len(runs):4d} runs  {trainings:4d} trainings  {ARMS[name].text}")
    primary = config.primary
    lines += [
        "",
        f"primary comparison: {primary.arm} against {primary.baseline} at {primary.fraction:.0%} of the "
        f"labels, {primary.metric.replace('_', ' ')}",
    ]
    return "\n".join(lines)


def estimate_table(estimate: Estimate) -> str:
    """Steps, time, disk and the smallest effect, as text for a terminal."""
    lines = [f"optimiser steps of classifiers: {estimate.steps:,} at most"]
    if estimate.fixmatch_ratio is not None:
        lines.append(f"a step of FixMatch takes {estimate.fixmatch_ratio:.1f} times as long as the others'")
    lines.append("")
    rows = [("", "jobs' time", "disk")]
    for kind, stored in estimate.bytes_by_kind.items():
        seconds = estimate.seconds_by_kind[kind] if estimate.seconds_by_kind else None
        rows.append((KINDS[kind], format_seconds(seconds), format_bytes(stored)))
    total = sum(estimate.seconds_by_kind.values()) if estimate.seconds_by_kind else None
    rows.append(("in all", format_seconds(total), format_bytes(sum(estimate.bytes_by_kind.values()))))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines += [
        f"{name:<{widths[0]}}  {seconds:>{widths[1]}}  {stored:>{widths[2]}}"
        for name, seconds, stored in rows
    ]
    lines.append("")
    if estimate.wall_seconds is None or estimate.chain_seconds is None:
        lines.append("time: not measured (--probe 0)")
    else:
        at_once = f"{estimate.num_processes} process{'es' if estimate.num_processes > 1 else ''}"
        lines += [
            f"with {at_once} at once: about {format_seconds(estimate.wall_seconds)}",
            f"no number of processes makes it shorter than {format_seconds(estimate.chain_seconds)}: "
            f"{chain_text(estimate.chain)}",
            "(from a short trial just now: what else the machine does changes it; runs end earlier where a "
            "round selects nothing)",
        ]
    found = estimate.detectable
    seeds = f"{found.num_seeds} seed{'s' if found.num_seeds != 1 else ''}"
    size = f"{found.num_subjects} test subjects of {found.images_per_subject:.3g} images and {seeds}"
    lines += ["", f"smallest effect: with {size} a true difference is found in 80 of 100 such studies"]
    for agreement, difference in zip(found.agreements, found.differences, strict=True):
        points = f"from {100 * difference:5.1f} points on" if math.isfinite(difference) else "never"
        lines.append(f"  {points}, if the hits of the two arms correlate by {agreement:g}")
    return "\n".join(lines)


def plan_json(plan: Plan, estimate: Estimate) -> dict[str, Any]:
    """The plan and its estimate as plain values; seconds are null without a probe."""
    config = plan.config
    return {
        "name": config.name,
        "classes": list(plan.classes),
        "folds": list(plan.folds),
        "seeds": list(config.seeds),
        "fractions": sorted(config.fractions),
        "curve_fractions": sorted(config.curve_fractions),
        "primary": config.primary.model_dump(),
        "arms": {
            name: {
                "runs": sum(run.arm == name for run in plan.runs),
                "trainings": sum(plan.trainings_of(run) for run in plan.runs if run.arm == name),
            }
            for name in config.arms
        },
        "generators": sum(job.kind == "gan" for job in plan.jobs),
        "jobs": [
            {"key": job.key, "kind": job.kind, "title": job.title, "needs": list(job.needs)}
            for job in plan.jobs
        ],
        "estimate": json_value(asdict(estimate)),  # an infinite difference becomes null
    }


def format_seconds(seconds: float | None) -> str:
    """For instance "45 s", "12 min", "3.4 h" or "2.1 days"; "-" for None."""
    if seconds is None:
        return "-"
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def format_bytes(num_bytes: float) -> str:
    """For instance "3.2 MB" or "1.4 GB"."""
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def _listed(values: Sequence[Any]) -> str:
    return ", ".join(f"{value:g}" for value in values)
