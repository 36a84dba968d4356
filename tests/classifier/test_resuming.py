import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from classifier.config import ClassifierConfig
from classifier.errors import ClassifierError
from classifier.job import train_run
from classifier.resuming import STATE, KeptState
from classifier.training import train_classifier
from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.split import make_split, write_split
from tests.classifier.toys import CLASSES, toy_images, toy_pixels

EVERYTHING = ClassifierConfig(
    steps=12, batch_size=16, validate_every=3, frozen_share=0.25, schedule="plateau", plateau_patience=1,
    mixup=0.3, cutmix=0.5, ema=0.9, dropout=0.3, head=(8,), lr=0.01, stage_lr_ratio=0.1,
)  # fmt: skip


class Killed(Exception):
    pass


def train(config: ClassifierConfig, kept: KeptState | None = None, die_at: int | None = None):
    def look(step: int, measured: dict[str, float]) -> None:
        if step == die_at:
            raise Killed

    images = toy_images(48, seed=1), toy_images(18, seed=2)
    return train_classifier(*images, CLASSES, config, on_look=look, kept=kept)


@pytest.mark.parametrize(
    "changes", [{}, {"optimizer": "sgd"}, {"schedule": "one_cycle", "ema": None, "keep": "last"}]
)
@pytest.mark.parametrize("die_at", [6, 9, 12])
def test_a_training_that_died_after_any_look_ends_with_the_same_bits(tmp_path, changes, die_at):
    config = replace(EVERYTHING, **changes)
    whole = train(config)
    kept = KeptState(tmp_path / STATE, {"what": "toys"}, interval_sec=0.0)
    with pytest.raises(Killed):
        train(config, kept, die_at)
    assert kept.path.exists()
    resumed = train(config, kept)
    for a, b in zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    columns = [name for name in whole.history if name != "seconds"]
    assert whole.history[columns].equals(resumed.history[columns])
    assert whole.temperature == resumed.temperature


def test_a_state_of_other_settings_or_a_damaged_one_is_refused_and_kept(tmp_path):
    kept = KeptState(tmp_path / STATE, {"steps": 12}, interval_sec=0.0)
    with pytest.raises(Killed):
        train(EVERYTHING, kept, 9)
    before = kept.path.read_bytes()
    with pytest.raises(ClassifierError, match=r"begun otherwise \(steps was 12, now 13\)"):
        train(EVERYTHING, replace(kept, made_with={"steps": 13}))
    with pytest.raises(ClassifierError, match="does not fit"):
        train(replace(EVERYTHING, head=(9,)), kept)
    assert kept.path.read_bytes() == before
    kept.path.write_bytes(before[:5000])
    with pytest.raises(ClassifierError, match="expected the state of a training"):
        train(EVERYTHING, kept)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resuming")
    labels = np.arange(240) % 3
    with ArchiveWriter(folder / "toys.zip") as writer:
        for number, pixels in enumerate(toy_pixels(labels, 32, seed=0)):
            writer.add(pixels[0], ImageRecord(label=CLASSES[labels[number]], subject=f"s{number // 3}"))
    with open_archive(folder / "toys.zip") as archive:
        write_split(
            make_split(archive, num_folds=3, fractions=[1.0], val_share=0.2, seed=0), folder / "s.json"
        )
    return folder


def test_a_real_kill_in_the_middle_and_the_same_command_give_the_same_run(data, tmp_path):
    command = [sys.executable, "-m", "scripts.cli", "classifier", "train", "--data", str(data / "toys.zip"),
               "--split", str(data / "s.json"), "--steps", "120", "--validate-every", "5", "--batch", "16",
               "--device", "cpu", "--outdir", str(tmp_path / "run")]  # fmt: skip
    code = (
        "import sys; from classifier import job; from classifier.resuming import KeptState;"
        "job.KeptState = lambda path, made_with: KeptState(path, made_with, 0.0);"
        f"sys.argv = {['synthlabel', *command[3:]]!r}; from scripts.cli import main; main()"
    )
    environment = {**os.environ, "SYNTHLABEL_CACHE": str(tmp_path / "cache")}
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE)
    for _ in range(1200):
        if (tmp_path / "run" / STATE).exists() or process.poll() is not None:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (tmp_path / "run" / STATE).exists() and not (tmp_path / "run" / "model.json").exists()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "run" / STATE).exists()

    config = ClassifierConfig(steps=120, validate_every=5, batch_size=16, device="cpu")
    train_run(data / "toys.zip", data / "s.json", 0, 1.0, config, tmp_path / "whole")
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("run", "whole"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_overwrite_goes_on_with_the_same_training_and_replaces_another(tmp_path):
    kept = KeptState(tmp_path / STATE, {"steps": 12}, interval_sec=0.0)
    with pytest.raises(Killed):
        train(EVERYTHING, kept, 9)
    kept.remove_another()
    assert kept.path.exists()
    replace(kept, made_with={"steps": 13}).remove_another()
    assert not kept.path.exists()
