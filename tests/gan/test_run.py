"""What a training leaves behind and prints."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from gan.ada import AdaConfig, AdaController, adjust_p
from gan.config import TrainConfig
from gan.data import open_training_images
from gan.ema import update_ema
from gan.errors import GanError
from gan.images import choose_grid_items, official_grid_size, tile, to_pixels
from gan.job import step
from gan.log import Statistics, format_time, to_json_line
from gan.runfolder import create_run_dir
from gan.training import train

STATUS_LINE = re.compile(
    r"tick (\d+) +kimg [\d.]+ +time \S.* sec/tick [\d.]+ +sec/kimg [\d.]+ +maintenance [\d.]+ +"
    r"cpumem [\d.]+ +gpumem [\d.]+ +augment \d\.\d{3} left \S+"
)


def test_a_run_folder_holds_the_official_files(trained: Path):
    names = {path.name for path in trained.parent.iterdir()}
    assert names >= {
        "training_options.json", "log.txt", "stats.jsonl", "reals.png", "fakes_init.png", "fakes000000.png",
        "network-snapshot-000000.safetensors", "training-state.safetensors",
    }  # fmt: skip
    with Image.open(trained.parent / "reals.png") as picture:
        assert picture.size == (32, 32)


def test_each_tick_has_a_status_line_and_a_line_of_valid_json(trained: Path):
    log = (trained.parent / "log.txt").read_text().splitlines()
    ticks = [match[1] for line in log if (match := STATUS_LINE.fullmatch(line))]
    lines = (trained.parent / "stats.jsonl").read_text().splitlines()
    assert ticks == ["0", "1"] and len(lines) == 2
    stats = json.loads(lines[0], parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert list(stats)[:4] == ["Loss/scores/fake", "Loss/signs/fake", "Loss/G/loss", "Loss/pl_penalty"]
    assert list(stats)[-7:] == [
        "Timing/Gmain", "Timing/Greg", "Timing/Dmain", "Timing/Dreg",
        "Health/bad_gradients", "Health/fake_variety", "timestamp",
    ]  # fmt: skip
    assert stats["Progress/kimg"]["mean"] == pytest.approx(0.008)
    assert stats["Loss/r1_penalty"]["num"] == 8


def test_what_was_not_measured_is_null(tiny: TrainConfig, tmp_path: Path):
    snapshot = train(replace(tiny, gamma=0.0, kimg=0.008, outdir=tmp_path))
    stats = json.loads((snapshot.parent / "stats.jsonl").read_text())
    assert stats["Loss/r1_penalty"] == {"num": 0, "mean": None, "std": None}


def test_fixed_augmentation_keeps_p_and_noaug_has_no_pipe(tiny: TrainConfig, tmp_path: Path):
    from safetensors.torch import load_file

    fixed = train(replace(tiny, aug="fixed", p=0.4, kimg=0.04, outdir=tmp_path))
    assert load_file(fixed)["augment_pipe.p"].item() == pytest.approx(0.4)
    assert "augment 0.400" in (fixed.parent / "log.txt").read_text()
    without = train(replace(tiny, aug="noaug", kimg=0.008, outdir=tmp_path))
    assert "augment_pipe.p" not in load_file(without)
    assert without.parent.name.startswith("00001-")


def test_colour_images_and_presets_of_eight_layers_train_too(tiny: TrainConfig, tmp_path: Path):
    from tests.gan.conftest import write_shapes

    data = write_shapes(tmp_path / "colour.zip", channels=3)
    snapshot = train(
        replace(
            tiny, data=data, cfg="stylegan2", batch=None, gamma=None, kimg=0.032, outdir=tmp_path / "runs"
        )
    )
    with Image.open(snapshot.parent / "reals.png") as picture:
        assert picture.mode == "RGB"


def test_a_training_that_diverges_ends_with_a_sentence(tiny: TrainConfig, tmp_path: Path, monkeypatch):
    import gan.training

    original = gan.training.run_iteration

    def poisoned(job):
        if job.iteration == 2:
            with torch.no_grad():
                job.players.G.synthesis.b4.const.fill_(float("nan"))
        original(job)

    monkeypatch.setattr(gan.training, "run_iteration", poisoned)
    with pytest.raises(GanError, match="training diverged, Loss/G/loss is no number at"):
        train(replace(tiny, kimg=0.08, outdir=tmp_path))


def test_the_caller_s_random_numbers_are_left_alone(tiny: TrainConfig, tmp_path: Path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(replace(tiny, kimg=0.008, outdir=tmp_path))
    assert torch.equal(torch.rand(3), expected)


def test_run_numbers_go_on_from_the_largest(tmp_path: Path):
    assert create_run_dir(tmp_path, "a").name == "00000-a"
    (tmp_path / "00041-by-hand").mkdir()
    assert create_run_dir(tmp_path, "b").name == "00042-b"


def test_p_falls_again_at_once_from_its_ceiling():
    config = AdaConfig(target=0.6, ramp_kimg=1)
    assert adjust_p(0.99, 1.0, 128, config) == 1.0
    assert adjust_p(1.0, 0.0, 128, config) == pytest.approx(0.872)
    assert adjust_p(0.05, 0.0, 128, config) == 0.0


def test_ada_moves_every_fourth_minibatch_by_the_mean_sign():
    controller = AdaController(AdaConfig(target=0.6, ramp_kimg=1, interval=4))
    for _ in range(3):
        controller.observe(torch.ones(8, 1))
        assert controller.end_batch(8) == 0.0
    controller.observe(torch.ones(8, 1))
    assert controller.end_batch(8) == pytest.approx(32 / 1000)
    for _ in range(4):
        controller.observe(torch.tensor([[1.0], [-1.0]]))
        controller.end_batch(8)
    assert controller.p == 0.0


def test_a_parameter_without_gradient_still_loses_momentum():
    layers = torch.nn.ModuleDict({"used": torch.nn.Linear(2, 1), "idle": torch.nn.Linear(2, 1)})
    optimizer = torch.optim.Adam(layers.parameters(), lr=0.1, betas=(0.0, 0.5))
    layers["idle"](torch.ones(1, 2)).sum().backward()
    step(layers, optimizer)
    before = optimizer.state[layers["idle"].weight]["exp_avg_sq"].clone()
    layers["used"](torch.ones(1, 2)).sum().backward()
    step(layers, optimizer)
    torch.testing.assert_close(optimizer.state[layers["idle"].weight]["exp_avg_sq"], before / 2)


def test_gradients_that_are_no_numbers_are_replaced():
    layer = torch.nn.Linear(3, 1, bias=False)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.tensor([[float("nan"), float("inf"), 1.0]])
    step(layer, torch.optim.SGD(layer.parameters(), lr=1e-6))
    moved = (before - layer.weight.detach())[0]
    torch.testing.assert_close(moved, torch.tensor([0.0, 0.1, 1e-6]), atol=1e-7, rtol=1e-3)


def test_the_average_keeps_its_share_and_copies_buffers():
    average, network = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    network.weight.data.fill_(3.0)
    network.running_mean.fill_(7.0)
    update_ema(average, network, decay=0.75)
    assert average.weight.tolist() == [1.5, 1.5]
    assert average.running_mean.tolist() == [7.0, 7.0]


def test_statistics_give_population_deviation_and_keep_the_last_mean():
    statistics = Statistics()
    statistics.report("x", torch.tensor([1.0, 3.0]))
    assert statistics.end_tick()["x"] == {"num": 2, "mean": 2.0, "std": 1.0}
    assert statistics.end_tick()["x"] == {"num": 0, "mean": 2.0, "std": None}


def test_nan_is_written_as_null():
    assert to_json_line({"a": float("nan"), "b": [1.0, float("inf")]}) == '{"a": null, "b": [1.0, null]}\n'


@pytest.mark.parametrize(
    ("seconds", "text"), [(17.2, "17s"), (751, "12m 31s"), (3723, "1h 02m 03s"), (367800, "4d 06h 10m")]
)
def test_times_are_written_as_the_official_code_does(seconds: float, text: str):
    assert format_time(seconds) == text


@pytest.mark.parametrize(
    ("side", "size"), [(32, (32, 32)), (128, (32, 32)), (256, (30, 16)), (512, (15, 8)), (1024, (7, 4))]
)
def test_official_grids_fill_a_screen(side: int, size: tuple[int, int]):
    assert official_grid_size(side, side) == size


def test_tiles_stand_row_by_row():
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
    assert tile(images, columns=2, rows=2).tolist() == [[0, 1], [2, 3]]


def test_floats_become_the_nearest_grey_level():
    images = np.array([-5.0, -1.0, 0.0, 0.0117, 0.0118, 0.9999, 5.0])
    assert to_pixels(images).tolist() == [0, 0, 128, 129, 129, 255, 255]
    levels = np.arange(256)
    assert to_pixels(levels / 127.5 - 1).tolist() == levels.tolist()


def test_labeled_grids_show_one_class_a_row(shapes: Path):
    data = open_training_images(shapes, cond=True)
    items = choose_grid_items(data, columns=5, rows=4).reshape(4, 5)
    classes = data.labels[data.rows[items]]
    assert [set(row) for row in classes.tolist()] == [{0}, {1}, {0}, {1}]
    assert set(items[0]) & set(items[2]) == set()
