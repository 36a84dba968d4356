"""The order of work: needs first, failures with all that hangs on them, nothing for its own sake."""

from semisup.plan import GanJob, PoolJob, RunJob
from semisup.schedule import Schedule


def run(key, teacher=None, pool=None):
    return RunJob(key, "arm", 0, 0, 0.2, 1, teacher, pool, {})


GAN, POOL = GanJob("gan", 0, 1), PoolJob("pool", 0, "gan", None, 0)
TEACHER, STUDENT, OTHER = run("teacher"), run("student", "teacher", "pool"), run("other")
JOBS = (GAN, POOL, TEACHER, OTHER, STUDENT)


def schedule(*done):
    return Schedule(JOBS, lambda job: job.key in done)


def work_off(plan):
    order = []
    while ready := plan.ready():
        plan.start(ready[0])
        order.append(ready[0].key)
        plan.finish(ready[0])
    return order


def test_every_job_comes_after_what_it_needs():
    assert work_off(schedule()) == ["gan", "pool", "teacher", "other", "student"]


def test_independent_jobs_are_ready_at_once():
    assert [job.key for job in schedule().ready()] == ["gan", "teacher", "other"]


def test_what_is_done_is_left_out():
    assert work_off(schedule("gan", "teacher", "other")) == ["pool", "student"]


def test_a_generator_nobody_waits_for_is_not_trained():
    assert work_off(schedule("student", "teacher")) == ["other"]
    assert work_off(schedule("pool")) == ["teacher", "other", "student"]


def test_a_failure_takes_along_what_hangs_on_it_and_nothing_else():
    plan = schedule()
    plan.start(GAN)
    fallen = plan.fail(GAN, "it burnt")
    assert [(job.key, cause) for job, cause in fallen] == [
        ("gan", "it burnt"),
        ("pool", "generator of fold 0 failed: it burnt"),
        ("student", "generator of fold 0 failed: it burnt"),
    ]
    assert work_off(plan) == ["teacher", "other"]


def test_a_job_that_was_put_back_comes_first():
    plan = schedule()
    plan.start(TEACHER)
    plan.put_back(TEACHER)
    assert plan.ready()[0] is TEACHER
