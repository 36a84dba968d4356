"""Runs are read once and again when they change; a look at a study disturbs nobody."""

import json
import os
import random
import shutil

import pytest

from semisup import run_list
from semisup.at_work import is_at_work
from semisup.errors import StudyError
from semisup.forecast import Task, wall_seconds
from semisup.run_list import RunReader
from semisup.status import study_status
from semisup.study import locked
from tests.semisup.study_folder import FakeStudy, fail_run, make_study

SMALL = FakeStudy(
    num_subjects=12, folds=(0, 1), seeds=(0,), fractions=(0.2, 0.5), has_images=False, pool_size=10
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("listed") / "study", SMALL)


@pytest.fixture
def study_dir(made, tmp_path):
    return shutil.copytree(made, tmp_path / "study")


@pytest.fixture
def reads(monkeypatch):
    """The records that are really read."""
    found = []
    real = run_list.read_json
    monkeypatch.setattr(run_list, "read_json", lambda path: found.append(path.parent.name) or real(path))
    return found


def test_only_what_changed_is_read_again(study_dir, reads):
    reader = RunReader(study_dir)
    first = reader.read()
    assert len(reads) == len(first.runs) == 14
    reads.clear()
    assert reader.read() == first and not reads
    fail_run(study_dir, "out of memory")
    second = reader.read()
    assert len(reads) == 1 and second.state != first.state and second.newest_ns >= first.newest_ns
    (failed,) = (run for run in second.runs.values() if not run.is_done)
    assert (failed.arm, failed.error, failed.seconds) == ("pseudo_real", "out of memory", None)
    shutil.rmtree(study_dir / "runs" / failed.key)
    third = reader.read()
    assert failed.key not in third.runs and len(third.runs) == 13 and third.state != second.state


def test_runs_of_an_arm_come_by_fold_and_seed(made):
    runs = RunReader(made).read()
    assert [run.fold for run in runs.done("pseudo_real", 0.2)] == [0, 1]
    assert {run.fraction for run in runs.done("supervised_full", 1.0)} == {1.0}
    assert not runs.done("pseudo_real", 0.3)


def test_half_made_folders_and_foreign_records_are_passed_over(study_dir):
    before = RunReader(study_dir).read().runs
    (study_dir / "runs" / ".0000.part").mkdir()
    (study_dir / "runs" / "empty").mkdir()
    (study_dir / "runs" / "foreign").mkdir()
    (study_dir / "runs" / "foreign" / "run.json").write_text('{"status": "done"}')
    (study_dir / "runs" / "notes.txt").write_text("mine")
    assert RunReader(study_dir).read().runs == before


def test_a_damaged_record_is_told(study_dir):
    key = next(iter(RunReader(study_dir).read().runs))
    (study_dir / "runs" / key / "run.json").write_text("{")
    with pytest.raises(StudyError, match=f"{key}.*run.json: expected JSON"):
        RunReader(study_dir).read()


def test_a_study_without_a_run_is_empty(tmp_path):
    assert not RunReader(tmp_path).read().runs


def test_the_status_is_the_same_from_runs_that_were_read_before(study_dir):
    fail_run(study_dir, "out of memory")
    assert study_status(study_dir) == study_status(study_dir, RunReader(study_dir).read().runs)


# At work or not -----------------------------------------------------------------------------------


def test_a_command_at_work_is_seen_by_its_lock(study_dir):
    assert not is_at_work(study_dir)
    with locked(study_dir):
        assert is_at_work(study_dir)
        with pytest.raises(StudyError, match="another `semisup run` is at work"), locked(study_dir):
            raise AssertionError("the lock is held")
    assert not is_at_work(study_dir)


def test_without_a_list_of_locks_running_jobs_tell(study_dir, tmp_path):
    with locked(study_dir):
        assert not is_at_work(study_dir, tmp_path / "no such list")
    (study_dir / "progress").mkdir()
    beat = {"pid": os.getpid(), "title": "a job", "done": 1, "total": 2, "message": ""}
    path = study_dir / "progress" / "0.json"
    path.write_text(json.dumps(beat))
    assert is_at_work(study_dir, tmp_path / "no such list")
    path.write_text(json.dumps({**beat, "pid": 2**22 - 1}))
    assert not is_at_work(study_dir, tmp_path / "no such list")


def test_other_locks_are_not_ours(study_dir, tmp_path):
    (study_dir / ".lock").touch()
    inode = (study_dir / ".lock").stat().st_ino
    table = tmp_path / "locks"
    table.write_text(
        f"1: POSIX  ADVISORY  WRITE 1 fe:01:{inode} 0 EOF\n2: FLOCK  ADVISORY  WRITE 1 fe:01:7 0 EOF\n"
    )
    assert not is_at_work(study_dir, table)
    table.write_text(f"3: FLOCK  ADVISORY  WRITE 1 fe:01:{inode} 0 EOF\n")
    assert is_at_work(study_dir, table)


# The forecast --------------------------------------------------------------------------------------


def slowly(tasks, places):
    """The same by looking through all that wait, again and again."""
    waiting, running, free, now, ended = list(tasks), [], places, 0.0, 0.0
    left = {task.key for task in tasks}
    while waiting or running:
        for task in list(waiting):
            if left & set(task.needs):
                continue
            taken = min(task.places, places)
            if taken > free:
                break
            waiting.remove(task)
            free -= taken
            running.append((now + task.seconds, task.key, taken))
        running.sort()
        now, key, taken = running.pop(0)
        left.discard(key)
        free += taken
        ended = max(ended, now)
    return ended


@pytest.mark.parametrize("seed", range(30))
def test_the_forecast_is_that_of_looking_through_all_that_wait(seed):
    rng = random.Random(seed)
    keys = [f"job{number}" for number in range(rng.randint(1, 40))]
    tasks = []
    for number, key in enumerate(keys):
        needs = rng.sample(keys[:number], rng.randint(0, min(number, 3)))
        tasks.append(Task(key, tuple(needs), rng.choice([1.0, 2.5, 7.0]), rng.choice([1, 1, 1, 2])))
    rng.shuffle(tasks)
    for places in (1, 2, 5):
        assert wall_seconds(tasks, places) == pytest.approx(slowly(tasks, places))
