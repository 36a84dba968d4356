"""The processes that `--gpus=2` or torchrun starts: stopped, killed and gone on with; none is left behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import equal

from gan.config import TrainConfig
from gan.errors import GanError
from gan.runfolder import find_latest_run
from gan.state import STATE_NAME, read_state_header
from gan.training import train

REPOSITORY = Path(__file__).parents[2]
PROC = Path("/proc")
pytestmark = pytest.mark.skipif(not PROC.is_dir(), reason="looks for processes in /proc")
CLI = ["-m", "scripts.cli", "gan", "train"]
TORCHRUN = [
    "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m", "scripts.cli", "gan", "train"
]  # fmt: skip


def start(tiny: TrainConfig, outdir: Path, launcher: list[str] = CLI, *options: str) -> subprocess.Popen:
    """A training of two processes that would go on for hours."""
    arguments = [
        "--data", str(tiny.data), "--outdir", str(outdir), "--kimg=1000", "--batch=8", "--snap=1",
        "--gamma=1", "--channel-base=128", "--channel-max=16", "--latent-dim=16", "--grid=2x2",
        "--device=cpu", *options,
    ]  # fmt: skip
    return subprocess.Popen(
        [sys.executable, *launcher, *arguments], cwd=REPOSITORY, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def children(process: int) -> list[int]:
    """Numbers of the processes that this one has started and that still run, in order of their start."""
    found = []
    for entry in PROC.glob("[0-9]*/stat"):
        try:
            state, parent, *_ = entry.read_text().rpartition(")")[2].split()
        except OSError:  # ended meanwhile
            continue
        if int(parent) == process and state != "Z":
            found.append(int(entry.parent.name))
    return sorted(found)


def is_alive(process: int) -> bool:
    try:
        return (PROC / str(process) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(is_there: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not is_there():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


def wait_until_trained(launcher: subprocess.Popen, outdir: Path) -> tuple[Path, list[int]]:
    """Run folder and process numbers, once the first tick is over."""
    wait_for(lambda: any(outdir.glob("*/network-snapshot-*")) or launcher.poll() is not None)
    assert launcher.poll() is None, launcher.communicate()
    run_dir = find_latest_run(outdir)
    assert run_dir is not None
    return run_dir, children(launcher.pid)


def finish(launcher: subprocess.Popen) -> tuple[int, str]:
    """Exit code and standard error, in bounded time."""
    try:
        _, errors = launcher.communicate(timeout=90)
    finally:
        launcher.kill()
    return launcher.returncode, errors


def test_a_killed_process_ends_the_training_with_a_sentence_and_a_state_to_go_on_from(
    tiny: TrainConfig, tmp_path: Path
):
    workers: list[int] = []
    before = children(os.getpid())

    def kill_second() -> None:
        wait_for(lambda: any(tmp_path.glob("*/network-snapshot-*")))
        workers.extend(worker for worker in children(os.getpid()) if worker not in before)
        os.kill(workers[1], signal.SIGKILL)

    killer = threading.Thread(target=kill_second)
    killer.start()
    with pytest.raises(GanError) as caught:
        train(replace(tiny, gpus=2, kimg=1000.0, outdir=tmp_path))
    killer.join()
    run_dir = find_latest_run(tmp_path)
    assert len(workers) == 2 and run_dir is not None
    assert str(caught.value) == (
        f"process 1 of 2 (number {workers[1]}) was ended by SIGKILL, and the others were stopped; the state "
        f"written last is whole, and this goes on with it: synthlabel gan train --resume {run_dir}"
    )
    assert not any(is_alive(worker) for worker in workers)
    assert read_state_header(run_dir)["num_ranks"] == 2


@pytest.mark.slow
def test_the_command_tells_of_a_killed_process_once_and_soon(tiny: TrainConfig, tmp_path: Path):
    launcher = start(tiny, tmp_path, CLI, "--gpus=2")
    _, workers = wait_until_trained(launcher, tmp_path)
    killed_at = time.monotonic()
    os.kill(workers[0], signal.SIGKILL)
    code, errors = finish(launcher)
    assert code == 1 and time.monotonic() - killed_at < 30
    assert errors.count("Error:") == 1
    assert f"process 0 of 2 (number {workers[0]}) was ended by SIGKILL" in errors
    assert not any(is_alive(worker) for worker in workers)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("to", ["launcher", "first process", "torchrun", "second process of torchrun"])
def test_a_signal_to_any_process_stops_all_after_the_same_iteration(
    tiny: TrainConfig, tmp_path: Path, number: signal.Signals, to: str
):
    by_torchrun = "torchrun" in to
    launcher = start(tiny, tmp_path, *([TORCHRUN] if by_torchrun else [CLI, "--gpus=2"]))
    run_dir, workers = wait_until_trained(launcher, tmp_path)
    before = read_state_header(run_dir)["images_seen"]
    chosen = {"first process": workers[0], "second process of torchrun": workers[-1]}.get(to, launcher.pid)
    os.kill(chosen, number)
    code, errors = finish(launcher)
    if by_torchrun:
        assert code != 0  # torchrun has codes of its own
    else:
        assert code == 128 + number
    assert errors.count(f"Training was stopped by {number.name}") == 1
    assert not any(is_alive(worker) for worker in workers)
    header = read_state_header(run_dir)
    assert header["images_seen"] > before
    assert list(run_dir.glob(".*.part")) == []


@pytest.mark.slow
def test_a_process_killed_under_torchrun_ends_the_others(tiny: TrainConfig, tmp_path: Path):
    launcher = start(tiny, tmp_path, TORCHRUN)
    run_dir, workers = wait_until_trained(launcher, tmp_path)
    os.kill(workers[-1], signal.SIGKILL)
    code, _ = finish(launcher)
    assert code != 0
    assert not any(is_alive(worker) for worker in workers)
    assert read_state_header(run_dir)["num_ranks"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_processes_do_not_outlive_their_launcher(tiny: TrainConfig, tmp_path: Path, number: signal.Signals):
    launcher = start(tiny, tmp_path, CLI, "--gpus=2")
    _, workers = wait_until_trained(launcher, tmp_path)
    launcher.send_signal(number)
    if number == signal.SIGTERM:
        time.sleep(0.05)
        launcher.send_signal(number)  # the second ends it at once
    launcher.wait(timeout=60)
    launcher.communicate()
    wait_for(lambda: not any(is_alive(worker) for worker in workers), seconds=30)


@pytest.mark.slow
def test_sigterm_while_the_processes_start_ends_all_of_them(tiny: TrainConfig, tmp_path: Path):
    launcher = start(tiny, tmp_path, CLI, "--gpus=2")
    wait_for(lambda: len(children(launcher.pid)) == 2)
    workers = children(launcher.pid)
    launcher.send_signal(signal.SIGTERM)
    assert finish(launcher)[0] in (-signal.SIGTERM, 128 + signal.SIGTERM)
    assert not any(is_alive(worker) for worker in workers)


@pytest.mark.slow
def test_torchrun_and_gpus_train_the_same_and_go_on_from_one_another(tiny: TrainConfig, tmp_path: Path):
    one, other, whole = (tmp_path / name for name in ("one", "other", "whole"))
    for outdir, launcher, again in ((one, [CLI, "--gpus=2"], [TORCHRUN]), (other, [TORCHRUN], [CLI])):
        process = start(tiny, outdir, *launcher, "--kimg=0.04")
        assert finish(process)[0] == 0
        process = start(tiny, outdir, *again, "--kimg=0.08", "--resume=latest")
        assert finish(process)[0] == 0
    assert finish(start(tiny, whole, CLI, "--gpus=2", "--kimg=0.08"))[0] == 0
    states = [load_file(next(outdir.glob(f"*/{STATE_NAME}"))) for outdir in (one, other, whole)]
    for state in states[1:]:
        assert [name for name in state if not equal(state[name], states[0][name])] == []


@pytest.mark.slow
def test_a_killed_training_of_two_goes_on_bit_for_bit(tiny: TrainConfig, tmp_path: Path):
    launcher = start(tiny, tmp_path / "killed", CLI, "--gpus=2")
    run_dir, workers = wait_until_trained(launcher, tmp_path / "killed")
    os.kill(workers[0], signal.SIGKILL)
    assert finish(launcher)[0] == 1
    kimg = (read_state_header(run_dir)["images_seen"] + 80) / 1000
    config = replace(
        tiny, gpus=2, kimg=kimg, snap=1, tick_kimg=4.0, outdir=run_dir.parent, resume=str(run_dir)
    )  # fmt: skip
    again = train(config)
    undisturbed = train(replace(config, outdir=tmp_path / "whole", resume=None))
    ours, theirs = (load_file(path.parent / STATE_NAME) for path in (again, undisturbed))
    assert [name for name in theirs if not equal(ours[name], theirs[name])] == []
