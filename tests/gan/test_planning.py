"""The plan before a training: what it says agrees with what the training then does."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import gan.probe
from extract.errors import SettingsError
from gan.config import TrainConfig
from gan.networks import choose_device
from gan.pace import Pace, pace_of, ticks_to_come
from gan.planning import measure_extent, plan
from gan.preparation import open_data, prepare_job
from gan.probe import measure_cost
from gan.state import STATE_NAME
from gan.training import train


def make_job(config: TrainConfig):
    data = open_data(config, lambda *report: None)
    return prepare_job(config, data, choose_device("cpu"))


def test_the_plan_agrees_with_the_training(tiny: TrainConfig, tmp_path: Path):
    config = replace(tiny, snap=2, outdir=tmp_path / "runs")
    options, text = plan(config, probe_sec=0)
    assert not (tmp_path / "runs").exists()
    extent = measure_extent(config, make_job(config))
    snapshot = train(config)
    run_dir = snapshot.parent
    stats = (run_dir / "stats.jsonl").read_text().splitlines()
    log = (run_dir / "log.txt").read_text()
    assert (extent.iterations, extent.ticks) == (12, len(stats))
    assert extent.snapshots == 3  # ticks 0, 2 and the last
    headers = 16_000  # names and shapes
    assert extent.snapshot_bytes <= snapshot.stat().st_size < extent.snapshot_bytes + 2 * headers
    state_size = (run_dir / STATE_NAME).stat().st_size
    assert extent.state_bytes <= state_size < extent.state_bytes + 4 * headers
    written = json.loads((run_dir / "training_options.json").read_text())
    assert {**options, "run_dir": str(run_dir)} == written
    for table in ("Generator ", "Discriminator "):
        assert log[log.index(table) :].split("\n\n")[0] in text


def test_the_plan_says_what_it_does_not_know(tiny: TrainConfig):
    _, text = plan(tiny, probe_sec=0)
    assert "Time:               not measured (--probe=0)" in text
    assert "Iterations:         12 of 8 images (8 at a time)" in text
    assert "Training part:      all real images (48), 12 subjects" in text


@pytest.mark.skipif(torch.cuda.device_count() >= 64, reason="needs a machine with fewer CUDA devices")
def test_the_plan_for_another_machine_warns_of_the_devices_that_are_missing(tiny: TrainConfig):
    config = replace(tiny, gpus=64, batch=64)
    _, text = plan(replace(config, device="auto"), probe_sec=0)
    assert "Warning: --gpus=64: this machine has" in text
    _, text = plan(replace(config, device="cpu"), probe_sec=0)
    assert "Warning: --gpus" not in text


def test_the_plan_measures_time_and_memory_on_a_scratch_copy(tiny: TrainConfig, tmp_path: Path):
    before = torch.get_rng_state()
    _, text = plan(replace(tiny, outdir=tmp_path / "runs"), probe_sec=0.5)
    assert torch.equal(torch.get_rng_state(), before)
    assert re.search(r"Time: +about .* per kimg, .* in all, without metrics", text)
    assert re.search(r"Memory: +\d\.\d+ GiB at the peak of the trial", text)
    assert "An estimate from" in text
    assert not (tmp_path / "runs").exists()


def test_a_run_that_goes_on_is_planned_for_what_is_left(tiny: TrainConfig, tmp_path: Path):
    config = replace(tiny, outdir=tmp_path, kimg=0.04)
    run_dir = train(config).parent
    before = sorted((path.name, path.stat().st_mtime_ns) for path in run_dir.iterdir())
    _, text = plan(replace(config, kimg=0.096, resume="latest"), probe_sec=0)
    assert f"Output directory:   {run_dir}" in text
    assert "Goes on at:         0.0 of 0.096 kimg" in text
    assert "Iterations:         7 of 8 images" in text
    assert sorted((path.name, path.stat().st_mtime_ns) for path in run_dir.iterdir()) == before
    _, text = plan(replace(config, resume="latest"), probe_sec=1)
    assert "Time:               nothing is left to do" in text


def test_warnings_and_refusals_come_with_the_plan(tiny: TrainConfig):
    _, text = plan(replace(tiny, precision="fp16", kimg=0.008), probe_sec=0)
    assert "Warning: --precision=fp16 is about 16 times slower than fp32 on a CPU" in text
    with pytest.raises(SettingsError, match="--freezed must be between 0 and 7"):
        plan(replace(tiny, freezed=8), probe_sec=0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """A training whose iterations take what the test says: 1 ms an image, and as much as the regularisers."""

    class Clock:
        now = 0.0
        main, path_length, r1 = 0.010, 0.020, 0.040  # seconds an image

        def __init__(self) -> None:
            self.sizes: list[int] = []

        def run_iteration(self, job) -> None:
            self.sizes.append(job.recipe.batch_size)
            seconds = self.main
            seconds += self.path_length if job.iteration % 4 == 0 else 0
            seconds += self.r1 if job.iteration % 16 == 0 else 0
            self.now += seconds * job.recipe.batch_size

        def perf_counter(self) -> float:
            return self.now

        monotonic = perf_counter

    clock = Clock()
    monkeypatch.setattr(gan.probe, "run_iteration", clock.run_iteration)
    monkeypatch.setattr(gan.probe, "time", clock)
    return clock


def test_lazy_regularisers_count_as_often_as_they_come(tiny: TrainConfig, clock):
    cost = measure_cost(make_job(tiny), budget_sec=15)
    assert cost.sec_per_kimg == pytest.approx(1000 * (0.010 + 0.020 / 4 + 0.040 / 16))
    assert not cost.is_scaled and cost.batch_size == 8
    assert clock.now < 20


def test_what_would_take_too_long_is_measured_on_few_images(tiny: TrainConfig, clock):
    clock.main, clock.path_length, clock.r1 = 1.0, 0.0, 0.0
    cost = measure_cost(make_job(replace(tiny, batch=32)), budget_sec=15)
    assert cost.is_scaled and set(clock.sizes) == {4}  # a group of the minibatch deviation
    assert cost.sec_per_kimg == pytest.approx(1000)
    assert clock.now < 20


def test_the_time_left_follows_the_last_ticks_and_counts_snapshots():
    pace = Pace()
    assert pace.seconds_left(100, 1, 0) is None
    for _ in range(10):
        pace.observe_tick(1000, 10.0)
    assert pace.seconds_left(5000, 0, 0) == pytest.approx(50)
    pace.observe_between(7.0, with_snapshot=True)
    pace.observe_between(1.0, with_snapshot=False)
    assert pace.seconds_left(5000, 2, 3) == pytest.approx(50 + 2 * 7 + 3 * 1)
    for _ in range(6):  # now twice as slow: after two half-lives three quarters of the way there
        pace.observe_tick(1000, 20.0)
    assert pace.seconds_left(1000, 0, 0) == pytest.approx(17.5, abs=0.6)


def test_a_training_that_goes_on_knows_what_its_ticks_and_snapshots_took():
    kimg_and_seconds = ((0.016, 1.0, 0.0), (4.016, 40.0, 9.0), (8.016, 40.0, 1.0), (12.016, 40.0, 9.0))
    lines = [
        {
            "Progress/kimg": {"mean": kimg},
            "Timing/sec_per_tick": {"mean": seconds},
            "Timing/maintenance_sec": {"mean": between},
        }
        for kimg, seconds, between in kimg_and_seconds
    ]
    pace = pace_of(lines, snap=2)
    assert pace.seconds_left(4000, num_snapshots=1, num_other_ticks=1) == pytest.approx(40 + 9 + 1, abs=0.5)


def test_one_slow_tick_does_not_frighten():
    pace = Pace()
    for seconds in (10.0, 10.0, 10.0, 10.0, 10.0, 30.0):
        pace.observe_tick(1000, seconds)
    left = pace.seconds_left(1000, 0, 0)
    assert left is not None and left < 17


@pytest.mark.parametrize(
    ("tick", "images_left", "snap", "expected"),
    [(0, 0, 50, (1, 0)), (0, 8000, 2, (2, 1)), (1, 8000, 2, (2, 1)), (4, 9000, 5, (2, 2)), (7, 0, 5, (1, 0))],
)
def test_ticks_to_come_are_counted_as_they_will_end(
    tick: int, images_left: float, snap: int, expected: tuple
):
    assert ticks_to_come(tick, images_left, 4000, snap) == expected
