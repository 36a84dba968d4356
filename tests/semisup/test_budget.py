"""What each arm cost, and whether two arms had the same."""

import json

import pytest

from semisup.budget import Budget
from semisup.budget_words import compare_budgets
from semisup.folders import read_json
from semisup.generators import training_seconds
from semisup.records import read_records
from semisup.summary import summarize
from tests.semisup.study_folder import FakeStudy, make_study

FEW = FakeStudy(
    num_subjects=24, images_per_subject=3, folds=(0,), fractions=(0.2, 0.5), pool_size=40, has_images=False
)


def budget(**changes) -> Budget:
    values = {
        "arm": "supervised", "fraction": 0.2, "num_runs": 3, "num_models": 3, "trainings": 3,
        "steps_per_training": (300,), "steps": 900, "seconds": 10.0, "test_openings": (1,),
    }  # fmt: skip
    return Budget(**{**values, **changes})


ROUNDS = {"arm": "pseudo_gan", "num_models": 9, "trainings": 6, "steps": 1800}


def by_cell(study, num_draws=50):
    summary = summarize(read_records(study), num_draws)
    return summary, {(b.arm, b.fraction): b for b in summary.budgets}


def test_arms_of_equal_steps_are_said_to_be_equal_and_nothing_else():
    assert compare_budgets(budget(arm="a"), budget(arm="b")) == [
        "Equal: every model of a and of b was trained with 300 optimiser steps."
    ]


def test_more_rounds_and_a_generator_are_named_as_unequal():
    own = budget(
        **ROUNDS, generators=("f" * 64,), gan_kimg=40.0, gan_seconds=7200.0,
        shares_generators_with=(("pseudo_both", 0.2),),
    )  # fmt: skip
    text = " ".join(compare_budgets(own, budget()))
    assert "chooses from 3 models a run by real validation, supervised from 1" in text
    assert "trained 6 times more, 1,800 steps in all" in text
    assert (
        "generators as well (1): thousands of real images shown to them: 40, hours of training: 2.0" in text
    )
    assert "serve other arms as well and were trained once: pseudo_both (20 %)" in text


def test_a_generator_of_unknown_cost_is_unknown_and_not_free():
    own = budget(**ROUNDS, generators=("f" * 64,), gan_kimg=None, gan_seconds=None)
    assert any(
        "shown to them: unknown, hours of training: unknown" in t for t in compare_budgets(own, budget())
    )


def test_unequal_steps_come_first():
    first = compare_budgets(budget(steps_per_training=(200, 300)), budget(arm="b"))[0]
    assert first.startswith("Unequal: a training of supervised has 200, 300 optimiser steps and one of b 300")


def test_fixmatch_counts_its_unlabeled_images_and_every_run_its_batches(tmp_path):
    study = make_study(tmp_path, FEW)
    for path in study.glob("runs/*/run.json"):
        info = json.loads(path.read_text())
        info["settings"] = {"classifier": {"batch_size": 16, "validate_every": 60}}
        if info["arm"] == "pseudo_real":
            info["settings"]["fixmatch"] = {"mu": 7}
        path.write_text(json.dumps(info))
    _, budgets = by_cell(study)
    assert budgets["supervised", 0.2].images_seen == 3 * 200 * 16
    assert budgets["supervised", 0.2].unlabeled_seen == 0
    assert budgets["supervised", 0.2].validation_looks == 3 * 4  # 200 steps, each 60
    assert budgets["pseudo_real", 0.2].unlabeled_seen == 7 * budgets["pseudo_real", 0.2].images_seen


def test_passes_over_the_pool_are_the_rows_of_the_ledgers(tmp_path):
    _, budgets = by_cell(make_study(tmp_path, FEW))
    assert budgets["pseudo_gan_full", 0.2].pool_passes == 3 * 2 * 40  # seeds, rounds, images
    assert budgets["supervised", 0.2].pool_passes == 0


def test_a_teacher_that_is_asked_eight_times_counts_eight_times(tmp_path):
    study = make_study(tmp_path, FEW)
    for path in study.glob("runs/*/run.json"):
        info = json.loads(path.read_text())
        info["settings"] = {"pseudo": {"uncertainty": {"method": "tta", "samples": 8}}}
        path.write_text(json.dumps(info))
    _, budgets = by_cell(study)
    assert budgets["pseudo_gan_full", 0.2].pool_passes == 8 * 3 * 2 * 40


def test_older_runs_say_what_they_did_not_record(tmp_path):
    _, budgets = by_cell(make_study(tmp_path, FEW))
    old = budgets["supervised", 0.2]
    assert (old.images_seen, old.process_seconds, old.devices) == (None, None, ())


def test_a_generator_that_several_arms_draw_from_is_counted_once_and_named_as_shared(tmp_path):
    study = make_study(tmp_path, FEW)
    for path in study.glob("runs/*/run.json"):
        info = json.loads(path.read_text())
        if info["arm"] == "pseudo_gan_full":
            path.write_text(json.dumps({**info, "pool_key": "pool0"}))
    (study / "pools" / "pool0").mkdir(parents=True)
    made = {"fold": 0, "network": "x.safetensors", "snapshot_sha256": "b" * 64, "archive_sha256": "0" * 64,
            "num_images": 40, "gan_kimg": 24.0, "gan_seconds": 600.0}  # fmt: skip
    (study / "pools" / "pool0" / "pool.json").write_text(json.dumps(made))
    summary, budgets = by_cell(study)
    (generator,) = summary.generators
    assert (generator.kimg, generator.seconds, generator.num_runs) == (24.0, 600.0, 6)
    assert generator.used_by == (("pseudo_gan_full", 0.2), ("pseudo_gan_full", 0.5))
    own = budgets["pseudo_gan_full", 0.2]
    assert (own.gan_kimg, own.shares_generators_with) == (24.0, (("pseudo_gan_full", 0.5),))
    assert budgets["supervised", 0.2].generators == ()


def test_the_time_of_a_training_is_read_up_to_its_snapshot(tmp_path):
    lines = [
        {"Progress/kimg": {"mean": k}, "Timing/total_sec": {"mean": 10.0 * k}} for k in (0.0, 4.02, 8.0, 12.0)
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    (tmp_path / "stats.jsonl").write_text(text + '\n{"cut short')
    snapshot = tmp_path / "network-snapshot-000008.safetensors"
    assert training_seconds(snapshot, 8.0) == 80.0
    assert training_seconds(snapshot, 4.0) == pytest.approx(40.2)
    assert training_seconds(tmp_path / "elsewhere" / "x.safetensors", 8.0) is None


def test_a_run_records_device_times_and_versions(finished_study):
    for path in finished_study.glob("runs/*/run.json"):
        info = read_json(path)
        assert info["device"] == "cpu"
        assert info["process_seconds"] > 0 and info["seconds"] > 0
        assert info["versions"]["torch"]
    _, budgets = by_cell(finished_study)
    assert budgets["supervised", 0.4].devices == ("cpu",)
    assert budgets["supervised", 0.4].images_seen == 12 * 16
