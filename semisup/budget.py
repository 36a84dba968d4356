"""What every arm cost: trainings, steps, images seen, models to choose from, generators, time, openings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from semisup.arms import ARMS
from semisup.generators import Generator, draws_from
from semisup.ledger import count_rows
from semisup.records import FinishedRun


@dataclass(frozen=True)
class Budget:
    """What one arm at one fraction cost, all runs together; None = older runs did not record it."""

    arm: str
    fraction: float
    num_runs: int
    num_models: int  # that the results were chosen from, round 0 included
    trainings: int  # for this arm alone: round 0 of a pseudo-label arm is the baseline's model
    steps_per_training: tuple[int, ...]
    steps: int
    seconds: float  # on the clock
    test_openings: tuple[int, ...]  # distinct counts over the runs; 1 is the only honest one
    images_seen: int | None = None  # in its trainings: steps times batch; what is seen twice counts twice
    unlabeled_seen: int = 0  # by FixMatch beside them, each in a weak and a strong view
    pool_passes: int = 0  # images of pools that a teacher scored, each time counted
    validation_looks: int | None = None  # at real validation in the course of the trainings
    process_seconds: float | None = None  # of all cores together
    devices: tuple[str, ...] = ()
    generators: tuple[str, ...] = ()  # hashes of the snapshots whose images it could choose from
    gan_kimg: float | None = 0.0  # thousands of real images that these were shown, in all
    gan_seconds: float | None = 0.0  # of training them, on the clock
    shares_generators_with: tuple[tuple[str, float], ...] = ()  # other arms and fractions


def measure_budget(runs: Sequence[FinishedRun], generators: Sequence[Generator] = ()) -> Budget:
    """Add up what the runs of one arm at one fraction recorded.

    The cost of a generator counts whole in every arm that used it; `shares_generators_with` names the others.
    """
    cell = (runs[0].arm, runs[0].fraction)
    trainings = [int(run.info.get("trainings_here", run.info["trainings"])) for run in runs]
    steps = [int(run.info["steps_per_training"]) * count for run, count in zip(runs, trainings, strict=True)]
    used = {draws_from(run) for run in runs} - {None}
    own = [one for one in generators if used & set(one.pool_keys)]
    process = [run.info.get("process_seconds") for run in runs]
    return Budget(
        arm=cell[0],
        fraction=cell[1],
        num_runs=len(runs),
        num_models=sum(int(run.info["trainings"]) for run in runs),
        trainings=sum(trainings),
        steps_per_training=tuple(sorted({int(run.info["steps_per_training"]) for run in runs})),
        steps=sum(steps),
        seconds=sum(float(run.info.get("seconds") or 0) for run in runs),
        test_openings=tuple(sorted({int(run.info["test_openings"]) for run in runs})),
        images_seen=_total([_times(count, _batch_size(run)) for count, run in zip(steps, runs, strict=True)]),
        unlabeled_seen=sum(_unlabeled_seen(run, count) for count, run in zip(steps, runs, strict=True)),
        pool_passes=sum(_pool_passes(run) for run in runs),
        validation_looks=_total(
            [_times(count, _looks(run)) for count, run in zip(trainings, runs, strict=True)]
        ),
        process_seconds=None if None in process else float(sum(process)),  # type: ignore[arg-type]
        devices=tuple(sorted({device for run in runs if (device := _device(run))})),
        generators=tuple(one.snapshot_sha256 for one in own),
        gan_kimg=_sum_known(own, "kimg"),
        gan_seconds=_sum_known(own, "seconds"),
        shares_generators_with=tuple(
            dict.fromkeys(user for one in own for user in one.used_by if user != cell)
        ),
    )


def _settings(run: FinishedRun) -> dict[str, Any]:
    return run.info.get("settings") or {}


def _batch_size(run: FinishedRun) -> int | None:
    return (_settings(run).get("classifier") or {}).get("batch_size")


def _looks(run: FinishedRun) -> int | None:
    """Times that one training was judged on real validation."""
    every = (_settings(run).get("classifier") or {}).get("validate_every")
    return math.ceil(int(run.info["steps_per_training"]) / every) if every else None


def _unlabeled_seen(run: FinishedRun, steps: int) -> int:
    fixmatch = _settings(run).get("fixmatch")
    return int(steps * fixmatch["mu"] * (_batch_size(run) or 0)) if fixmatch else 0


def _pool_passes(run: FinishedRun) -> int:
    """Rows of the ledger, each an image that a teacher scored, as often as uncertainty asks for.

    A control repeats what another arm scored.
    """
    arm = ARMS.get(run.arm)
    if arm is None or arm.method != "rounds":
        return 0
    asked = ((_settings(run).get("pseudo") or {}).get("uncertainty") or {}).get("samples") or 1
    return asked * count_rows(run.folder / "ledger.parquet")


def _device(run: FinishedRun) -> str | None:
    """As recorded; of older runs known where the study named it."""
    named = (_settings(run).get("classifier") or {}).get("device")
    return run.info.get("device") or (None if named == "auto" else named)


def _times(count: int, factor: int | None) -> int | None:
    return None if factor is None else count * int(factor)


def _total(values: Sequence[Any]) -> Any:
    return None if None in values or not values else sum(values)


def _sum_known(generators: Sequence[Generator], name: str) -> float | None:
    values = [getattr(one, name) for one in generators]
    return None if None in values else float(sum(values))
