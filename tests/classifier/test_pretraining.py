import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fastai.callback.schedule import combined_cos

from classifier import pretrain_job
from classifier.denoising import NoiseConfig
from classifier.errors import ClassifierError
from classifier.pretrain_config import PretrainConfig
from classifier.pretrain_job import pretrain_run
from classifier.pretraining import one_cycle
from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.cache import open_images
from extract.errors import SettingsError
from tests.classifier.toy_archive import Watched, rows_of, write_toys

ROOT = Path(__file__).parents[2]
QUICK = PretrainConfig(
    steps=9, batch_size=8, validate_every=4, save_every=3, noise=NoiseConfig(patch=2), preprocessing="zscore"
)
MADE = {
    "encoder.safetensors",
    "encoder.json",
    "history.csv",
    "history.png",
    "reconstructions.png",
    "options.json",
}


@pytest.fixture(scope="module")
def toys(tmp_path_factory):
    return write_toys(tmp_path_factory.mktemp("pretraining"))


@pytest.fixture(scope="module")
def whole(toys, tmp_path_factory):
    """A pretraining that was never interrupted."""
    outdir = tmp_path_factory.mktemp("whole") / "run"
    pretrain_run(toys[0], outdir, QUICK, split_path=toys[1])
    return outdir


@pytest.fixture(autouse=True)
def _no_more_pictures(whole, monkeypatch):
    """Drawing takes longer than a toy pretraining; the fixture above has drawn them once."""
    for name in ("plot_pretraining", "plot_reconstructions"):
        monkeypatch.setattr(pretrain_job, name, lambda *arguments: None)


def same_result(first: Path, second: Path) -> bool:
    tables = [pd.read_csv(folder / "history.csv").drop(columns="seconds") for folder in (first, second)]
    weights = [(folder / "encoder.safetensors").read_bytes() for folder in (first, second)]
    return weights[0] == weights[1] and tables[0].equals(tables[1])


class Stop(Exception):
    pass


def stop_after(step: int):
    def report(done: int, total: int, message: str) -> None:
        if total == QUICK.steps and done == step:
            raise Stop

    return report


def test_a_run_holds_encoder_record_history_and_pictures(whole):
    assert {path.name for path in whole.iterdir()} - {".lock"} == MADE
    assert pd.read_csv(whole / "history.csv")["step"].tolist() == [4, 8, 9]


def test_a_seed_gives_the_same_bits_and_another_others(toys, whole, tmp_path):
    pretrain_run(toys[0], tmp_path / "again", QUICK, split_path=toys[1])
    assert same_result(whole, tmp_path / "again")
    pretrain_run(toys[0], tmp_path / "other", replace(QUICK, seed=1), split_path=toys[1])
    assert not same_result(whole, tmp_path / "other")


@pytest.mark.parametrize("step", [2, 5, 9])  # before the first state, between two, at the end
def test_a_stopped_pretraining_goes_on_to_the_same_bits(toys, whole, tmp_path, step):
    with pytest.raises(Stop):
        pretrain_run(toys[0], tmp_path / "run", QUICK, split_path=toys[1], progress=stop_after(step))
    assert not (tmp_path / "run" / "encoder.json").exists()
    summary = pretrain_run(toys[0], tmp_path / "run", QUICK, split_path=toys[1])
    assert summary.resumed_at == step // 3 * 3
    assert same_result(whole, tmp_path / "run")


# Right after the state of step 6, and when the encoder is written but not its record.
@pytest.mark.slow  # starts a process that imports everything
@pytest.mark.parametrize("files", [3, 8])
def test_a_pretraining_that_is_killed_goes_on_with_the_same_command(toys, tmp_path, files):
    arguments = [
        "pretrain", "--data", toys[0], "--split", toys[1], "--steps", "9", "--batch", "8", "--patch", "2",
        "--save-every", "3", "--validate-every", "4", "--preprocessing", "zscore",
        "--outdir", tmp_path / "run",
    ]  # fmt: skip
    with open_archive(toys[0]) as archive:
        open_images(archive)  # so that the files of the cache are not counted
    order = {"kill_after_files": files, "arguments": [str(argument) for argument in arguments]}
    (tmp_path / "order.json").write_text(json.dumps(order))
    command = [sys.executable, "-m", "tests.classifier.killed_work", str(tmp_path / "order.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=120)
    assert done.returncode == -9, done.stderr.decode()
    assert not (tmp_path / "run" / "encoder.json").exists()
    pretrain_run(toys[0], tmp_path / "run", QUICK, split_path=toys[1])
    pretrain_run(toys[0], tmp_path / "whole", QUICK, split_path=toys[1])
    assert same_result(tmp_path / "whole", tmp_path / "run")


def test_nothing_is_seen_but_the_training_part_and_labels_do_not_matter(toys, tmp_path, monkeypatch):
    forbidden = rows_of(*toys, 0, "val", "test")
    watched = {}

    def open_watched(archive, progress):
        watched["images"] = Watched(open_images(archive, progress), forbidden)
        return watched["images"]

    monkeypatch.setattr(pretrain_job, "open_images", open_watched)
    pretrain_run(toys[0], tmp_path / "run", QUICK, split_path=toys[1])
    assert watched["images"].seen == rows_of(*toys, 0, "train")  # those whose labels a study withholds, too
    with pytest.raises(AssertionError, match="were looked at"):
        pretrain_run(toys[0], tmp_path / "all", QUICK)  # the watch works: without a split everybody is seen


def test_the_record_names_every_subject_and_holds_some_out(toys, whole):
    record = json.loads((whole / "encoder.json").read_text())
    train, held_out = (set(record["subjects"][part]) for part in ("train", "held_out"))
    with open_archive(toys[0]) as archive:
        expected = {archive.subjects[row] for row in rows_of(*toys, 0, "train")}
    assert train | held_out == expected and not train & held_out and held_out
    assert record["fold"] == 0 and record["measured"]["step"] == 9


def test_subjects_who_share_a_picture_are_held_out_together(tmp_path):
    rng = np.random.default_rng(0)
    with ArchiveWriter(tmp_path / "twins.zip") as writer:
        for index in range(24):  # the last picture of each subject is the first of the next but one
            shared = np.random.default_rng(index // 4).integers(0, 255, (16, 16)).astype(np.uint8)
            own = rng.integers(0, 255, (16, 16)).astype(np.uint8)
            writer.add(own, ImageRecord(subject=f"p{index:02d}"))
            writer.add(shared, ImageRecord(subject=f"p{index:02d}"))
    pretrain_run(tmp_path / "twins.zip", tmp_path / "run", replace(QUICK, hold_out=0.5, steps=1))
    subjects = json.loads((tmp_path / "run" / "encoder.json").read_text())["subjects"]
    families = [{int(name[1:]) // 4 for name in subjects[part]} for part in ("train", "held_out")]
    assert not families[0] & families[1] and families[0] | families[1] == set(range(6))


def test_the_network_learns_to_see_what_was_blanked(tmp_path):
    rng, pixels = np.random.default_rng(0), []
    with ArchiveWriter(tmp_path / "bars.zip") as writer:
        for subject in range(48):  # a bright bar at one of eight places
            picture = np.full((16, 16), 40) + rng.integers(0, 10, (16, 16))
            picture[:, 2 * (subject % 8) : 2 * (subject % 8) + 2] += 160
            pixels.append(picture)
            writer.add(picture.astype(np.uint8), ImageRecord(subject=f"p{subject:02d}"))
    config = replace(QUICK, steps=60, batch_size=16, validate_every=60, augment=False)
    summary = pretrain_run(tmp_path / "bars.zip", tmp_path / "run", config)
    measured = summary.measured
    assert measured["val_mse_dropped"] < 0.3 < 0.9  # plain gray would have 1
    assert measured["val_mse"] < 0.7 * measured["noised_mse"]


def test_one_cycle_is_fastais():
    config = replace(QUICK, steps=50, lr=0.01, warmup=0.3)
    rate = combined_cos(0.3, 0.01 / 25, 0.01, 0.01 / 1e4)
    momentum = combined_cos(0.3, 0.95, 0.85, 0.95)
    for step in range(50):
        assert one_cycle(step, config) == pytest.approx((rate(step / 50), momentum(step / 50)), rel=1e-5)


def test_a_folder_is_gone_on_with_only_as_it_was_begun(toys, whole, tmp_path):
    with pytest.raises(ClassifierError, match=r"already holds a finished pretraining.*--overwrite"):
        pretrain_run(toys[0], whole, QUICK, split_path=toys[1])
    with pytest.raises(Stop):
        pretrain_run(toys[0], tmp_path / "run", QUICK, split_path=toys[1], progress=stop_after(5))
    with pytest.raises(
        ClassifierError, match=r"begun otherwise \(fold was 0, now 1; .*lr was 0.002, now 0.1"
    ):
        pretrain_run(toys[0], tmp_path / "run", replace(QUICK, lr=0.1), split_path=toys[1], fold=1)
    pretrain_run(toys[0], tmp_path / "run", QUICK, split_path=toys[1], overwrite=True)
    assert same_result(whole, tmp_path / "run")


def test_a_damaged_state_is_named(toys, tmp_path):
    with pytest.raises(Stop):
        pretrain_run(toys[0], tmp_path / "run", QUICK, split_path=toys[1], progress=stop_after(5))
    state = tmp_path / "run" / "pretraining-state.safetensors"
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(ClassifierError, match="expected the state of a training, got a fault"):
        pretrain_run(toys[0], tmp_path / "run", QUICK, split_path=toys[1])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": "bce"}, r'loss must be one of mse, ssim\+l1, got "bce"'),
        ({"hold_out": 0.9}, "hold_out must be above 0 and at most 0.5, got 0.9"),
        ({"steps": 0}, "steps must be at least 1, got 0"),
    ],
)
def test_settings_outside_their_range_are_refused(changes, message):
    with pytest.raises(SettingsError, match=message):
        replace(QUICK, **changes)
