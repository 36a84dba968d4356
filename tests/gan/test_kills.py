"""Killed at any moment and gone on with, a training gives bit for bit what it gives undisturbed."""

import errno
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import equal

import gan.session
from gan.config import TrainConfig, config_to_json
from gan.errors import GanError
from gan.runfolder import create_run_dir, hold_run_dir
from gan.state import STATE_NAME, read_state_header
from gan.training import train

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


class Forker:
    """Starts trainings as forks of one process that has imported everything."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.gan.killed_run"], cwd=REPOSITORY, env=ENVIRONMENT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def start(self, config: TrainConfig, kill_at: tuple[int, str] | None = None) -> int:
        """The number of a process that trains."""
        order = {"config": config_to_json(config), "kill_at": kill_at}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wait(self) -> int:
        """The exit code of the training, once it has ended."""
        return int(self.process.stdout.readline())

    def run(self, config: TrainConfig, kill_at: tuple[int, str] | None = None) -> int:
        self.start(config, kill_at)
        return self.wait()


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    started = Forker()
    yield started
    started.process.stdin.close()
    started.process.wait(timeout=30)


@pytest.fixture(scope="module")
def config(tiny: TrainConfig) -> TrainConfig:
    return replace(tiny, cond=True, mirror=True, aug="ada", resume="auto", kimg=0.072)


@pytest.fixture(scope="module")
def undisturbed(config: TrainConfig, forker: Forker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    outdir = tmp_path_factory.mktemp("undisturbed")
    assert forker.run(replace(config, outdir=outdir)) == 0
    return only_run(outdir)


def only_run(outdir: Path) -> Path:
    (run_dir,) = outdir.iterdir()
    return run_dir


def assert_same_run(run_dir: Path, undisturbed: Path) -> None:
    names = files_of(undisturbed)
    assert files_of(run_dir) == names  # no temporary files either
    for name in names:
        if name.endswith(".safetensors"):
            one, other = load_file(run_dir / name), load_file(undisturbed / name)
            assert one.keys() == other.keys()
            assert [key for key in one if not equal(one[key], other[key])] == []
        if name.endswith(".png"):
            assert (run_dir / name).read_bytes() == (undisturbed / name).read_bytes()
    assert learned(run_dir) == learned(undisturbed)
    assert_readable(run_dir / "log.txt", num_ticks=len(learned(run_dir)))


def files_of(run_dir: Path) -> list[str]:
    """Names of a run's files, but for those of TensorBoard: each process begins one with its number."""
    names = (path.name for path in run_dir.iterdir())
    return sorted(name for name in names if not name.startswith("events.out.tfevents."))


def learned(run_dir: Path) -> list[dict]:
    """The lines of stats.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (run_dir / "stats.jsonl").read_text().splitlines()]
    clock = ("Timing/", "Resources/", "timestamp")
    return [{name: value for name, value in line.items() if not name.startswith(clock)} for line in lines]


def assert_readable(log: Path, num_ticks: int) -> None:
    """Every tick has its line, and no line is two."""
    lines = log.read_text().splitlines()
    status = [line for line in lines if line.startswith("tick")]
    assert all(re.fullmatch(r"tick \d+ .* augment \d\.\d{3} left [\ddhms ]+", line) for line in status)
    assert all(line.count("tick ") == 2 for line in status)  # its own and sec/tick
    assert {int(line.split()[1]) for line in status} == set(range(num_ticks))


def test_three_kills_at_random_moments_change_nothing(
    config: TrainConfig, undisturbed: Path, forker: Forker, tmp_path: Path
):
    chance = random.Random(3)
    outcomes = []
    for _ in range(3):
        process = forker.start(replace(config, outdir=tmp_path))
        time.sleep(chance.uniform(0.05, 0.6))
        os.kill(process, signal.SIGKILL)
        outcomes.append(forker.wait())
    assert outcomes == [-signal.SIGKILL] * 3
    assert forker.run(replace(config, outdir=tmp_path)) == 0
    assert_same_run(only_run(tmp_path), undisturbed)


def test_kills_between_any_two_files_change_nothing(
    config: TrainConfig, undisturbed: Path, forker: Forker, tmp_path: Path
):
    # Files are finished in this order: options, reals.png, fakes_init.png, stats.jsonl, the state; then at
    # each tick fakes, snapshot, state. A continuation begins with stats.jsonl.
    for kill_at in (
        (3, "before"),  # before there is a state
        (5, "before"),  # while the first is written
        (7, "after"),  # between a snapshot and its state
        (4, "before"),  # while that state is written
        (6, "before"),  # while the next snapshot is
    ):
        assert forker.run(replace(config, outdir=tmp_path), kill_at) == -signal.SIGKILL
        assert len(list(only_run(tmp_path).glob(".*.part"))) == (kill_at[1] == "before")
    assert forker.run(replace(config, outdir=tmp_path)) == 0
    assert_same_run(only_run(tmp_path), undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_at_random_moments_change_nothing(config: TrainConfig, forker: Forker, tmp_path: Path):
    settings, killed, whole = tmp_path / "config.json", tmp_path / "killed", tmp_path / "whole"
    endless = replace(config, outdir=killed, kimg=1000.0)
    settings.write_text(json.dumps(config_to_json(endless)))
    chance = random.Random(20)
    for _ in range(4):  # freshly started processes, which spend seconds on imports
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.gan.killed_run", str(settings)], cwd=REPOSITORY, env=ENVIRONMENT
        )
        time.sleep(chance.uniform(0.0, 10.0))
        process.kill()
        assert process.wait() == -signal.SIGKILL

    started = time.monotonic()
    assert forker.run(replace(config, outdir=tmp_path / "first", kimg=0.008)) == 0
    start_sec = time.monotonic() - started
    for _ in range(16):
        number = forker.start(endless)
        time.sleep(chance.uniform(0.0, 4 * start_sec))  # while it starts, and longer in training
        os.kill(number, signal.SIGKILL)
        assert forker.wait() == -signal.SIGKILL

    kimg = read_state_header(only_run(killed))["images_seen"] / 1000 + 0.1
    assert forker.run(replace(endless, kimg=kimg)) == 0
    assert forker.run(replace(config, outdir=whole, kimg=kimg)) == 0
    assert_same_run(only_run(killed), only_run(whole))
    log = (only_run(killed) / "log.txt").read_text()
    assert log.count("Resuming at") >= 8
    assert log.splitlines()[-1] == "Exiting..."
    print(f"{kimg:.2f} kimg, gone on with {log.count('Resuming at')} times")


def test_sigterm_at_the_very_start_writes_a_state_that_goes_on_to_the_same(
    config: TrainConfig, undisturbed: Path, forker: Forker, tmp_path: Path
):
    process = forker.start(replace(config, outdir=tmp_path))
    wait_for(lambda: any(tmp_path.glob("*/log.txt")))  # the networks are built, nothing is trained yet
    os.kill(process, signal.SIGTERM)
    assert forker.wait() == 128 + signal.SIGTERM
    assert read_state_header(only_run(tmp_path))["images_seen"] < 40
    assert forker.run(replace(config, outdir=tmp_path)) == 0
    assert_same_run(only_run(tmp_path), undisturbed)


def wait_for(is_there, seconds: float = 60) -> None:
    for _ in range(int(seconds / 0.005)):
        if is_there():
            return
        time.sleep(0.005)
    raise AssertionError("nothing happened")


def test_a_second_sigterm_ends_a_training_at_once(config: TrainConfig, forker: Forker, tmp_path: Path):
    process = forker.start(replace(config, outdir=tmp_path, kimg=1000.0))
    wait_for(lambda: any(tmp_path.glob(f"*/{STATE_NAME}")))
    os.kill(process, signal.SIGTERM)
    time.sleep(0.002)
    os.kill(process, signal.SIGTERM)
    assert forker.wait() in (-signal.SIGTERM, 128 + signal.SIGTERM)  # the latter if it was quick
    assert read_state_header(only_run(tmp_path))["iteration"] >= 0


def test_sigterm_with_a_full_disk_keeps_the_state_before_and_says_so(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    written: list[bytes] = []
    original = gan.session.write_state

    def write_state_once(run_dir: Path, *rest: object) -> None:
        if written:
            raise OSError(errno.ENOSPC, "No space left on device", str(run_dir / STATE_NAME))
        original(run_dir, *rest)
        written.append((run_dir / STATE_NAME).read_bytes())
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(gan.session, "write_state", write_state_once)
    with pytest.raises(OSError, match="No space left") as caught:
        train(replace(tiny, outdir=tmp_path))
    run_dir = only_run(tmp_path)
    assert caught.value.__notes__ == [
        f"free some space, then go on with: synthlabel gan train --resume {run_dir}"
    ]
    assert (run_dir / STATE_NAME).read_bytes() == written[0]


def test_an_abandoned_start_is_begun_again_in_its_folder_and_the_log_says_so(
    tiny: TrainConfig, config: TrainConfig, tmp_path: Path
):
    config = replace(config, outdir=tmp_path, kimg=0.008)
    probe = train(config).parent
    description = re.sub(r"^\d+-", "", probe.name)
    start = create_run_dir(tmp_path / "again", description)
    (start / "log.txt").write_text("Loading training set...\nNum ima")
    (start / ".reals.png.abcd.part").write_bytes(b"cut short")
    assert train(replace(config, outdir=start.parent)).parent == start
    lines = (start / "log.txt").read_text().splitlines()
    assert lines[1] == "Num ima"
    assert lines[2].startswith("An earlier start in this folder was ended before its first state")
    assert list(start.glob(".*.part")) == []


def test_without_auto_an_abandoned_start_is_named_and_left(tiny: TrainConfig, tmp_path: Path):
    start = create_run_dir(tmp_path, "shapes")
    with pytest.raises(GanError, match="ended before it wrote one is started again without --resume"):
        train(replace(tiny, resume=str(start)))
    with pytest.raises(GanError, match=r"--resume=latest: expected a run .* or with --resume=auto"):
        train(replace(tiny, outdir=tmp_path, resume="latest"))


def test_a_run_that_another_process_is_training_is_refused(trained: Path, tiny: TrainConfig):
    sentence = "expected a run that nobody is training, got one in which"
    with hold_run_dir(trained.parent), pytest.raises(GanError, match=sentence):
        train(replace(tiny, resume=str(trained.parent)))
    with hold_run_dir(trained.parent):
        assert trained.exists()  # it was let go


def test_another_number_of_threads_is_said_in_the_log(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = train(replace(tiny, kimg=0.008, outdir=tmp_path))
    monkeypatch.setattr("torch.get_num_threads", lambda: 7)
    train(replace(tiny, kimg=0.016, outdir=tmp_path, resume="latest"))
    sentence = r"The state was written with \d+ threads?, now there are 7: .*\(OMP_NUM_THREADS=\d+ gives the"
    assert re.search(sentence, (first.parent / "log.txt").read_text())
