"""What TensorBoard's own reader finds of a training, stopped and resumed."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gan.config import TrainConfig
from gan.event_log import EventLog
from gan.features import PixelExtractor
from gan.training import train

pytest.importorskip("tensorboard")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

PIXELS = {"pixels": PixelExtractor()}


def read_events(run_dir: Path) -> EventAccumulator:
    events = EventAccumulator(str(run_dir))
    events.Reload()
    return events


@pytest.fixture(scope="module")
def resumed(tiny: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three ticks of 1 kimg and their measures; the last two were trained by a second process's work."""
    config = replace(
        tiny, cfg="small", batch=250, kimg=1.0, tick_kimg=1.0, channel_max=4, latent_dim=4, gamma=0.0,
        aug="noaug", metrics="fid@pixels", outdir=tmp_path_factory.mktemp("runs"),
    )  # fmt: skip
    train(config, extractors=PIXELS)
    return train(replace(config, kimg=3.0, resume="latest"), extractors=PIXELS).parent


def test_every_mean_is_there_once_a_tick_with_kimg_as_step(resumed: Path):
    events = read_events(resumed)
    lines = [json.loads(line) for line in (resumed / "stats.jsonl").read_text().splitlines()]
    names = [name for name in lines[-1] if name != "timestamp" and lines[-1][name]["mean"] is not None]
    assert set(names) <= set(events.Tags()["scalars"])
    for name in ("Loss/D/loss", "Progress/kimg", "Timing/Gmain", "Health/fake_variety"):
        found = events.Scalars(name)
        assert [point.step for point in found] == [0, 1, 2, 3]
        assert [point.value for point in found] == pytest.approx([line[name]["mean"] for line in lines])


def test_measures_and_pictures_are_there(resumed: Path):
    events = read_events(resumed)
    found = events.Scalars("Metrics/fid@pixels")
    lines = [json.loads(line) for line in (resumed / "metric-fid@pixels.jsonl").read_text().splitlines()]
    assert [point.value for point in found] == pytest.approx(
        [line["results"]["fid@pixels"] for line in lines]
    )
    assert [point.step for point in found] == [0, 1, 2, 3]
    (reals,) = events.Images("Images/reals")
    assert (reals.width, reals.height) == (32, 32)
    assert [image.step for image in events.Images("Images/fakes")][-1] == 3


def test_times_are_seconds_of_training(resumed: Path):
    times = [point.wall_time for point in read_events(resumed).Scalars("Progress/kimg")]
    assert times == sorted(times) and 0 < times[0] < times[-1] < 600


def test_what_came_after_the_state_that_is_gone_on_from_is_shown_once(tmp_path: Path):
    first = EventLog(tmp_path, print)
    for kimg in (0.016, 4.016, 8.016, 12.016):
        first.add_scalar("Loss/D/loss", 1.0, kimg, 10 * kimg)
    first.close()
    second = EventLog(tmp_path, print, resumed_at_kimg=4.016)
    for kimg in (8.016, 12.016, 16.016):
        second.add_scalar("Loss/D/loss", 2.0, kimg, 10 * kimg)
    second.close()
    found = read_events(tmp_path).Scalars("Loss/D/loss")
    assert [(point.step, point.value) for point in found] == [(0, 1), (4, 1), (8, 2), (12, 2), (16, 2)]


def test_warnings_are_texts(tmp_path: Path):
    events = EventLog(tmp_path, print)
    events.add_text("Warnings", "Warning: too loud.", 4.0, 9.0)
    events.close()
    assert "Warnings/text_summary" in read_events(tmp_path).Tags()["tensors"]


def test_without_tensorboard_the_log_says_that_it_is_skipped(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run_dir = train(replace(tiny, kimg=0.008, outdir=tmp_path)).parent
    assert "Skipping tfevents export: " in (run_dir / "log.txt").read_text()
    assert list(run_dir.glob("events.out.tfevents.*")) == []
