"""How long a study takes, foreseen: jobs that wait for one another, and what a size of study can show."""

import json
from dataclasses import replace

import pytest

from classifier import training
from classifier.training import train_classifier
from semisup.config import load_study
from semisup.estimate import estimate_study, job_seconds, measure_sizes
from semisup.forecast import Task, longest_chain, wall_seconds
from semisup.plan import make_plan
from semisup.plan_table import estimate_table, plan_json
from semisup.probing import ClassifierCost, GeneratorCost

GAN = Task("gan", (), 60)
TASKS = [GAN, Task("pool", ("gan",), 5), Task("a", (), 10), Task("b", ("pool", "a"), 20), Task("c", (), 30)]
COST = ClassifierCost(
    setup_seconds=1, step_seconds=0.1, look_seconds=2, image_seconds=0.01, model_bytes=1000, num_steps=9
)


def test_one_process_takes_the_sum_and_many_the_longest_chain():
    assert wall_seconds(TASKS, 1) == 125
    assert wall_seconds(TASKS, 8) == longest_chain(TASKS)[0] == 85
    assert longest_chain(TASKS)[1] == ("gan", "pool", "b")


def test_a_wide_job_leaves_no_place_for_others():
    wide = [Task("gan", (), 60, places=2), Task("a", (), 10)]
    assert wall_seconds(wide, 2) == 70 and wall_seconds(wide, 3) == 60
    assert wall_seconds(wide, 1) == 70  # wider than there are places: alone


def test_needs_that_are_done_hold_nothing_up_and_circles_are_refused():
    assert wall_seconds([Task("b", ("done long ago",), 3)], 1) == 3
    with pytest.raises(ValueError, match="a waits for itself"):
        wall_seconds([Task("a", ("a",), 1)], 1)


def test_a_run_costs_its_steps_looks_and_the_images_it_scores(write_study):
    plan = make_plan(load_study(write_study(pseudo={"threshold": 0.5, "rounds": 2})))
    sizes = measure_sizes(plan)
    seconds = {run.arm: job_seconds(run, plan, sizes, COST, None) for run in plan.runs}
    training = 1 + 12 * 0.1 + 2 * 2  # a look every 6 of 12 steps
    assert seconds["supervised"] == pytest.approx(training + 0.01 * (sizes.test + 2 * sizes.val[0.4]))
    pool = sizes.unlabeled[0.4]
    scored = sizes.test + 3 * sizes.val[0.4] + 2 * pool
    assert pool > 0 and seconds["pseudo_real"] == pytest.approx(2 * training + 0.01 * scored)


def test_fixmatch_costs_its_own_steps(write_study):
    arms = ["supervised", "fixmatch_real"]
    plan = make_plan(load_study(write_study(arms=arms, primary={"arm": "fixmatch_real", "fraction": 0.4})))
    sizes = measure_sizes(plan)
    plain, dear = (
        {run.arm: job_seconds(run, plan, sizes, cost, None) for run in plan.runs}
        for cost in (COST, replace(COST, fixmatch_step_seconds=1.5))
    )
    assert dear["supervised"] == plain["supervised"]
    assert dear["fixmatch_real"] - plain["fixmatch_real"] == pytest.approx(12 * (1.5 - 0.1))


def test_the_trial_measures_the_steps_of_fixmatch_where_the_study_has_it(write_study, monkeypatch):
    tried = []

    def note_and_train(*args, unlabeled=None, **settings):
        tried.append(None if unlabeled is None else unlabeled.config.mu)
        return train_classifier(*args, unlabeled=unlabeled, **settings)

    monkeypatch.setattr(training, "train_classifier", note_and_train)
    arms = ["supervised", "fixmatch_real"]
    primary = {"arm": "fixmatch_real", "fraction": 0.4}
    with_it = make_plan(load_study(write_study(arms=arms, primary=primary, fixmatch={"mu": 4})))
    estimate = estimate_study(with_it, probe_sec=0.3)
    assert tried == [None, 4] and estimate.fixmatch_ratio > 0  # how much, the load of the machine says
    assert f"a step of FixMatch takes {estimate.fixmatch_ratio:.1f} times" in estimate_table(estimate)
    without = estimate_study(make_plan(load_study(write_study())), probe_sec=0.1)
    assert tried == [None, 4, None]
    assert without.fixmatch_ratio is None and "FixMatch" not in estimate_table(without)


def test_a_generator_costs_its_kimg_and_a_pool_its_images(write_study):
    primary = {"arm": "pseudo_gan_full", "fraction": 0.4}
    plan = make_plan(load_study(write_study(arms=["supervised", "pseudo_gan_full"], primary=primary)))
    generator = GeneratorCost(kimg=40, sec_per_kimg=3, image_seconds=0.5, folder_bytes=7)
    gan, pool, *_ = plan.jobs
    sizes = measure_sizes(plan)
    assert job_seconds(gan, plan, sizes, COST, generator) == 120
    assert job_seconds(pool, plan, sizes, COST, generator) == 1000


def test_a_plan_is_estimated_from_a_short_trial(write_study, data_dir):
    plan = make_plan(load_study(write_study(seeds=[0, 1], folds="all")))
    estimate = estimate_study(plan, probe_sec=0.1, num_processes=2)
    assert estimate.steps == plan.num_trainings * 12 == 144
    assert estimate.seconds_by_kind and estimate.wall_seconds and estimate.chain_seconds
    total = estimate.seconds_by_kind["run"]
    assert total / 2 <= estimate.wall_seconds + 1e-6 < total
    assert 0 < estimate.chain_seconds <= estimate.wall_seconds
    assert estimate.detectable.num_subjects == 16 and estimate.detectable.images_per_subject == 8
    assert "no number of processes makes it shorter" in estimate_table(estimate)
    much, middling, little = estimate.detectable.differences
    assert 0 < much < middling < little
    json.dumps(plan_json(plan, estimate), allow_nan=False)


def test_without_a_trial_there_are_sizes_and_no_times(write_study):
    plan = make_plan(load_study(write_study()))
    estimate = estimate_study(plan, probe_sec=0)
    assert estimate.wall_seconds is None and estimate.bytes_by_kind["run"] > 0
    assert "time: not measured (--probe 0)" in estimate_table(estimate)
