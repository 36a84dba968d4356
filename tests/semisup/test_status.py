"""How far a study is, read from its files: states by arm, time left, and what is at work."""

import json
import os
import time

import pytest

from semisup.config import load_study
from semisup.folders import write_json
from semisup.heartbeat import SILENCE_SEC, Heartbeat, heartbeat_path, read_heartbeat
from semisup.outcomes import describe_run
from semisup.plan import make_plan
from semisup.status import status_json, status_table, study_status
from semisup.study import describe_study
from semisup.times import note_time, read_times
from semisup.workers import Verdict


@pytest.fixture
def study(write_study, tmp_path):
    """A planned study of two generators, with nothing done, and its plan."""
    primary = {"arm": "pseudo_gan_full", "fraction": 0.4}
    arms = ["supervised", "pseudo_gan_full"]
    plan = make_plan(load_study(write_study(arms=arms, primary=primary, folds="all")))
    (tmp_path / "out").mkdir()
    write_json(tmp_path / "out" / "study.json", describe_study(plan, {}, []))
    return tmp_path / "out", plan


def finish(study_dir, job, seconds):
    folder = study_dir / job.folder / job.key
    folder.mkdir(parents=True)
    if job.kind == "run":
        write_json(folder / "run.json", {**describe_run(job), "status": "done", "seconds": seconds})
    else:
        write_json(folder / f"{job.kind}.json", {"key": job.key})
        note_time(study_dir, job, Verdict("done", seconds=seconds))


def beat(study_dir, job, done, total, seconds, **more):
    content = {"pid": os.getpid(), "title": job.title, "done": done, "total": total, "message": "at work",
               "seconds": seconds, **more}  # fmt: skip
    heartbeat_path(study_dir, job).parent.mkdir(exist_ok=True)
    heartbeat_path(study_dir, job).write_text(json.dumps(content))


def test_before_anything_is_done_the_time_left_is_unknown(study):
    status = study_status(study[0])
    assert status.seconds_left is None and not status.is_over
    assert status.counts["generators"]["open"] == 2 and status.counts["supervised"]["open"] == 2
    assert "time left: unknown" in status_table(status)


def test_the_time_left_follows_from_finished_jobs_of_the_same_kind(study):
    study_dir, plan = study
    gans = [job for job in plan.jobs if job.kind == "gan"]
    pools = [job for job in plan.jobs if job.kind == "pool"]
    first = {run.arm: run for run in reversed(plan.runs)}
    finish(study_dir, gans[0], 100.0)
    finish(study_dir, pools[0], 10.0)
    finish(study_dir, first["supervised"], 4.0)
    status = study_status(study_dir)
    left = {group.name: group.seconds_left for group in status.groups}
    # No run of pseudo_gan_full is done: its one training each is judged by the supervised run.
    assert left == {"generators": 100, "synthetic images": 10, "supervised": 4, "pseudo_gan_full": 8}
    assert status.seconds_left == 122
    finish(study_dir, first["pseudo_gan_full"], 6.0)
    assert study_status(study_dir).seconds_left == 120  # 100 + 10 + 4 + 6


def test_a_running_job_counts_for_what_is_left_of_it_at_its_own_pace(study):
    study_dir, plan = study
    gans = [job for job in plan.jobs if job.kind == "gan"]
    for job in plan.jobs:
        if job not in gans:
            finish(study_dir, job, 1.0)
    beat(study_dir, gans[0], 750, 1000, seconds=50.0, first_share=0.5)  # a quarter in 50 s, a quarter left
    beat(study_dir, gans[1], 500, 1000, seconds=100.0)
    status = study_status(study_dir)
    assert status.counts["generators"]["running"] == 2 and status.num_processes == 2
    assert status.seconds_left == 100  # the second one's; the first ends after 50
    assert status_table(status).endswith("time left: about 2 min with 2 processes")
    json.dumps(status_json(status), allow_nan=False)


def test_a_job_on_another_machine_lives_as_long_as_it_speaks(study):
    study_dir, plan = study
    job = plan.runs[0]
    beat(study_dir, job, 1, 2, seconds=1.0, host="another-machine", pid=2**22 - 1)
    path = heartbeat_path(study_dir, job)
    assert read_heartbeat(path)["host"] == "another-machine"
    long_ago = time.time() - SILENCE_SEC - 1
    os.utime(path, (long_ago, long_ago))
    assert read_heartbeat(path) is None


def test_a_heartbeat_knows_what_share_its_own_attempt_has_to_do(study):
    study_dir, plan = study
    heart = Heartbeat(plan.jobs[0], study_dir, lambda *_: None)
    heart(0, 1, "starting")
    heart(600, 1000, "goes on")
    heart(1000, 1000, "done")
    assert heart.share == pytest.approx(0.4)


def test_times_are_of_whole_jobs_and_a_torn_line_is_left_out(study):
    study_dir, plan = study
    note_time(study_dir, plan.jobs[0], Verdict("done", seconds=30.0, share=0.25))
    note_time(
        study_dir, plan.jobs[1], Verdict("done", seconds=1.0, share=0.01)
    )  # says nothing of a whole one
    with open(study_dir / "times.jsonl", "a") as handle:
        handle.write('{"key": "abc", "sec')
    assert read_times(study_dir) == {plan.jobs[0].key: 120.0}


def test_a_study_begun_before_its_jobs_were_listed_has_a_status(study):
    study_dir, plan = study
    content = json.loads((study_dir / "study.json").read_text())
    content.pop("jobs")
    write_json(study_dir / "study.json", content)
    finish(study_dir, plan.runs[0], 5.0)
    status = study_status(study_dir)
    assert [group.name for group in status.groups] == ["supervised", "pseudo_gan_full"]
    assert status.seconds_left == 15


def test_a_run_of_fixmatch_counts_as_many_trainings_as_its_batches_hold_images(write_study, tmp_path):
    arms = ["supervised", "fixmatch_real"]
    primary = {"arm": "fixmatch_real", "fraction": 0.4}
    plan = make_plan(load_study(write_study(arms=arms, primary=primary, fixmatch={"mu": 3})))
    (tmp_path / "out").mkdir()
    write_json(tmp_path / "out" / "study.json", describe_study(plan, {}, []))
    finish(tmp_path / "out", next(run for run in plan.runs if run.arm == "supervised"), 4.0)
    assert study_status(tmp_path / "out").seconds_left == 4 * (1 + 2 * 3)


def test_a_heartbeat_does_not_wait_for_the_disk(study, monkeypatch):
    """On a busy disk each wait takes seconds, and nobody needs a heartbeat after a power cut."""
    study_dir, plan = study
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("waited for the disk"))
    Heartbeat(plan.jobs[0], study_dir, lambda *_: None)(1, 4, "at work")
    assert read_heartbeat(heartbeat_path(study_dir, plan.jobs[0]))["done"] == 1
