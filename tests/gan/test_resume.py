"""The resume law: stopping and going on gives bit for bit what never stopping gives."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import gan.config
from extract.errors import SettingsError
from gan.config import PRESETS, TrainConfig
from gan.errors import GanError
from gan.runfolder import find_latest_run
from gan.snapshot import read_snapshot, write_snapshot
from gan.state import STATE_NAME
from gan.training import train

REPOSITORY = Path(__file__).parents[2]


def assert_same_weights(one: Path, other: Path):
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert different == []


@pytest.fixture(scope="module")
def uninterrupted(tiny: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(replace(tiny, cond=True, mirror=True, aug="ada", outdir=tmp_path_factory.mktemp("whole")))


def test_half_and_half_with_a_stop_between_equals_the_whole(
    tiny: TrainConfig, uninterrupted: Path, tmp_path: Path
):
    config = replace(tiny, cond=True, mirror=True, aug="ada", outdir=tmp_path)
    first = train(replace(config, kimg=tiny.kimg / 2))
    torch.manual_seed(1234)  # what happens in between must not matter
    second = train(replace(config, resume="latest"))
    assert first.parent == second.parent
    assert_same_weights(second, uninterrupted)
    ours, theirs = (load_file(path.parent / STATE_NAME) for path in (second, uninterrupted))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_stopped_by_a_signal_goes_on_to_the_same_result(
    tiny: TrainConfig, uninterrupted: Path, tmp_path: Path, stop: signal.Signals
):
    command = [
        sys.executable, "-m", "scripts.cli", "gan", "train", "--data", str(tiny.data),
        "--outdir", str(tmp_path), "--cond=1", "--mirror=1", "--aug=ada", "--kimg=1000", "--batch=8",
        "--gamma=1", "--channel-base=128", "--channel-max=16", "--latent-dim=16", "--grid=2x2",
        "--device=cpu",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: any(tmp_path.glob(f"*/{STATE_NAME}")), process)
        process.send_signal(stop)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    run_dir = find_latest_run(tmp_path)
    if stop == signal.SIGTERM:
        assert process.returncode == 128 + signal.SIGTERM
        assert f"gan train --resume {run_dir}" in errors
        assert list(run_dir.glob(".*.part")) == []

    stopped_at = json.loads(safetensors_header(run_dir / STATE_NAME))["images_seen"]
    kimg = max(tiny.kimg, (stopped_at + 8) / 1000)
    config = replace(tiny, cond=True, mirror=True, aug="ada", outdir=tmp_path)
    again = train(replace(config, kimg=kimg, resume=str(run_dir), tick_kimg=4.0))
    if kimg > tiny.kimg:  # the process was quick: compare with a whole run of that length
        uninterrupted = train(replace(config, kimg=kimg, outdir=tmp_path / "whole"))
    assert_same_weights(again, uninterrupted)


def wait_for(is_there, process: subprocess.Popen, seconds: float = 60):
    for _ in range(int(seconds / 0.02)):
        if is_there():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("nothing happened")


def safetensors_header(path: Path) -> str:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as opened:
        return opened.metadata()["synthlabel"]


def test_a_state_cut_short_is_refused(trained: Path, tiny: TrainConfig, tmp_path: Path):
    run_dir = tmp_path / "00000-broken"
    run_dir.mkdir()
    whole = (trained.parent / STATE_NAME).read_bytes()
    (run_dir / STATE_NAME).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(GanError, match=r"expected a training state, got a file that is none or is cut short"):
        train(replace(tiny, resume=str(run_dir)))


def test_going_on_with_other_settings_is_refused(trained: Path, tiny: TrainConfig, shapes_split: Path):
    with pytest.raises(
        SettingsError, match=r"--gamma: the run in .* was trained with 1.0, now 5.0 is asked for"
    ):
        train(replace(tiny, split=shapes_split, fold=1, gamma=5.0, resume=str(trained.parent)))


def test_a_finished_run_is_returned_as_it_is(trained: Path, tiny: TrainConfig, shapes_split: Path):
    before = trained.read_bytes()
    config = replace(tiny, split=shapes_split, fold=1, kimg=0.04, resume="auto", outdir=trained.parent.parent)
    assert train(config) == trained
    assert trained.read_bytes() == before


def test_a_run_keeps_its_numbers_though_its_preset_has_changed(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = replace(tiny, cfg="small", gamma=None, aug="noaug", kimg=0.016, outdir=tmp_path)
    first = train(config)
    changed = replace(PRESETS["small"], lr=0.5, gamma_factor=9.0, mapping_layers=1)
    monkeypatch.setattr(gan.config, "PRESETS", {**PRESETS, "small": changed})
    second = train(replace(config, kimg=0.032, resume="latest"))
    assert second.parent == first.parent
    monkeypatch.undo()
    assert_same_weights(second, train(replace(config, kimg=0.032, outdir=tmp_path / "whole")))


def test_latest_without_a_run_says_so(tiny: TrainConfig, tmp_path: Path):
    with pytest.raises(GanError, match=r"--resume=latest: expected a run with .* got none"):
        train(replace(tiny, outdir=tmp_path, resume="latest"))


def test_whom_a_starting_snapshot_saw_stays_in_the_record_of_what_is_trained_from_it(
    tiny: TrainConfig, trained: Path, shapes_split: Path, tmp_path: Path
):
    other_fold = replace(tiny, split=shapes_split, fold=0, outdir=tmp_path, resume=str(trained), kimg=0.016)
    first = train(other_fold)
    seen = set(read_snapshot(first).subjects)
    assert set(read_snapshot(trained).subjects) < seen  # fine-tuning does not launder whom it started from
    longer = train(replace(other_fold, resume=str(first.parent), kimg=0.032))
    assert set(read_snapshot(longer).subjects) == seen


def test_a_full_disk_keeps_the_state_and_says_how_to_go_on(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    written: list[Path] = []

    def write_once(path: Path, *rest: object) -> None:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        write_snapshot(path, *rest)

    monkeypatch.setattr("gan.session.write_snapshot", write_once)
    with pytest.raises(OSError, match="No space left") as caught:
        train(replace(tiny, outdir=tmp_path))
    (run_dir,) = tmp_path.iterdir()
    assert caught.value.__notes__ == [
        f"free some space, then go on with: synthlabel gan train --resume {run_dir}"
    ]
    monkeypatch.undo()
    assert train(replace(tiny, outdir=tmp_path, resume=str(run_dir))).parent == run_dir
