"""Calibration on real subjects: parts that no subject straddles, and an error that was not fitted away."""

import json

import numpy as np
import pytest
from scipy.special import softmax

from classifier.calibration import fit_temperature
from classifier.evaluate import expected_calibration_error
from extract.archive import open_archive
from extract.errors import SettingsError
from extract.split import make_split, write_split
from semisup import run_models
from semisup.calibrating import UNDIVIDED, Parts, calibrate, deal_parts, draw_held_out
from semisup.config import load_study
from semisup.plan import make_plan
from semisup.study import run_study

CLASSES = ("bar", "disc", "ring")


def clustered(num_subjects: int, images: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Subjects, labels and overconfident logits of images that are right or wrong by subject."""
    rng = np.random.default_rng(seed)
    subjects = np.repeat([f"s{k:03d}" for k in range(num_subjects)], images)
    labels = np.repeat(np.arange(num_subjects) % 3, images)
    is_right = np.repeat(rng.random(num_subjects) < 0.7, images)
    told = np.where(is_right, labels, (labels + 1) % 3)
    return subjects, labels, 4.0 * np.eye(3)[told] + rng.normal(0, 1, (len(labels), 3))


def test_parts_divide_subjects_and_share_out_every_class():
    subjects, labels, _ = clustered(33, 4)
    number = deal_parts(subjects, labels, CLASSES, seed=1).number
    members = [set(subjects[number == part]) for part in range(5)]
    assert set.union(*members) == set(subjects) and sum(map(len, members)) == 33
    assert {len(part) for part in members} <= {6, 7}
    for label in range(3):
        counts = [len(np.unique(subjects[(number == part) & (labels == label)])) for part in range(5)]
        assert max(counts) - min(counts) <= 1


def test_parts_follow_from_names_and_seed_whatever_the_order_of_the_images():
    subjects, labels, _ = clustered(12, 3)
    order = np.random.default_rng(5).permutation(len(subjects))
    number = deal_parts(subjects, labels, CLASSES, seed=1).number
    assert np.array_equal(deal_parts(subjects[order], labels[order], CLASSES, seed=1).number, number[order])
    others = [deal_parts(subjects, labels, CLASSES, seed=seed).number for seed in range(2, 7)]
    assert any(not np.array_equal(other, number) for other in others)


@pytest.mark.parametrize(("subjects", "labels", "reason"), [
    (["a", "a", "b", "b", "c", "c"], [0, 1, 0, 1, 0, 1], "at least 4 validation subjects, there are 3"),
    (["a", "b", "c", "d", "e"], [0, 0, 0, 0, 1], "a second validation subject of class disc"),
])  # fmt: skip
def test_there_are_no_parts_of_too_few_subjects(subjects, labels, reason):
    found = deal_parts(np.array(subjects), np.array(labels), CLASSES, seed=0)
    assert found.number is None and reason in found.why_not


def test_each_part_is_judged_at_a_temperature_of_the_others_and_all_give_the_one_in_force():
    subjects, labels, logits = clustered(30, 4)
    parts = deal_parts(subjects, labels, CLASSES, seed=0)
    found = calibrate(fit_temperature, logits, labels, parts)
    assert found.is_cross_fitted is True
    assert found.temperature == fit_temperature(logits, labels)
    assert np.array_equal(found.probs, softmax(logits / found.temperature, axis=1))
    temperatures = set()
    for part in range(5):
        own, others = parts.number == part, parts.number != part
        temperatures.add(fit_temperature(logits[others], labels[others]))
        expected = softmax(logits[own] / fit_temperature(logits[others], labels[others]), axis=1)
        assert np.array_equal(found.judged_probs[own], expected)
    assert len(temperatures) == 5


def test_the_cross_fitted_error_is_that_of_new_subjects_where_the_fitted_one_is_too_small():
    fitted, crossed, new = [], [], []
    for seed in range(100):
        subjects, labels, logits = clustered(60, 2, seed)
        found = calibrate(fit_temperature, logits, labels, deal_parts(subjects, labels, CLASSES, seed))
        fitted.append(expected_calibration_error(found.probs, labels))
        crossed.append(expected_calibration_error(found.judged_probs, labels))
        _, new_labels, new_logits = clustered(60, 2, 1000 + seed)
        new.append(expected_calibration_error(softmax(new_logits / found.temperature, axis=1), new_labels))
    assert np.mean(fitted) < np.mean(new) - 0.015
    assert abs(np.mean(crossed) - np.mean(new)) < 0.01


def test_without_parts_the_error_is_that_of_the_fitted_images_and_says_so():
    _, labels, logits = clustered(3, 4)
    found = calibrate(fit_temperature, logits, labels, UNDIVIDED)
    assert found.is_cross_fitted is False and found.judged_probs is found.probs


def test_without_calibration_nothing_is_fitted():
    _, labels, logits = clustered(6, 4)
    found = calibrate(None, logits, labels, Parts(np.arange(24) % 5))
    assert (found.temperature, found.is_cross_fitted) == (1.0, None)
    assert np.array_equal(found.judged_probs, softmax(logits, axis=1))


def test_held_out_images_alone_give_the_temperature():
    _, labels, logits = clustered(12, 4, seed=1)
    _, other_labels, other_logits = clustered(12, 4, seed=2)
    found = calibrate(fit_temperature, logits, labels, UNDIVIDED, (other_logits, other_labels))
    assert found.temperature == fit_temperature(other_logits, other_labels) != fit_temperature(logits, labels)
    assert found.is_cross_fitted is True


@pytest.mark.parametrize("share", [0.2, 0.5, 0.7])
def test_held_out_subjects_are_the_share_of_each_class_whatever_the_order(share):
    subjects, labels, _ = clustered(60, 2)
    drawn = draw_held_out(subjects, labels, share, seed=3)
    assert not set(subjects[drawn]) & set(subjects[~drawn])
    for label in range(3):
        assert len(np.unique(subjects[drawn & (labels == label)])) == round(20 * share)
    order = np.random.default_rng(0).permutation(len(subjects))
    assert np.array_equal(draw_held_out(subjects[order], labels[order], share, seed=3), drawn[order])


def test_a_rare_class_stays_on_both_sides_where_two_subjects_show_it():
    subjects = np.array([f"s{k}" for k in range(10)] + ["rare1", "rare2"])
    labels = np.array([0] * 10 + [1, 1])
    for seed in range(5):
        drawn = draw_held_out(subjects, labels, 0.1, seed)
        assert drawn[labels == 1].sum() == 1 and drawn[labels == 0].sum() == 1


def run_infos(study_dir):
    found = [json.loads(path.read_text()) for path in sorted(study_dir.glob("runs/*/run.json"))]
    return {info["arm"]: info for info in found}


def test_a_run_records_that_its_calibration_error_is_cross_fitted(finished_study):
    found = run_infos(finished_study)
    for info in found.values():
        few = info["num_val_subjects"] < 4
        assert [entry["ece_after_is_cross_fitted"] for entry in info["rounds"]] == [not few] * len(
            info["rounds"]
        )
        assert ("cross-fitted" in info["calibration"]["ece_after_measured"]) != few
        assert info["calibration"]["num_subjects"] == info["num_val_subjects"]
    assert {info["num_val_subjects"] < 4 for info in found.values()} == {True}  # so the sentence is tested


def test_subjects_held_out_for_calibration_choose_nothing(write_study, data_dir, tmp_path, monkeypatch):
    seen, num_fitted = [], []
    train, fit = run_models.train_classifier, fit_temperature

    def spy(images, val, *rest, **more):
        seen.append(frozenset(val.subjects.tolist()))
        return train(images, val, *rest, **more)

    def spy_fit(logits, labels):
        num_fitted.append(len(labels))
        return fit(logits, labels)

    monkeypatch.setattr(run_models, "train_classifier", spy)
    monkeypatch.setattr("semisup.run_methods.fit_temperature", spy_fit)
    with open_archive(data_dir / "tiny.zip") as archive:
        split = make_split(archive, num_folds=2, fractions=[0.5], val_share=0.5, seed=0)
    write_split(split, tmp_path / "half.split.json")
    path = write_study(
        split=str(tmp_path / "half.split.json"),
        fractions=[0.5],
        primary={"arm": "pseudo_real", "fraction": 0.5},
        pseudo={"threshold": 0.5, "rounds": 1, "calibration_share": 0.5},
    )
    run_study(path, tmp_path / "out", jobs=1)
    found = run_infos(tmp_path / "out")
    for arm, fraction in (("supervised", 0.5), ("pseudo_real", 0.5), ("supervised_full", 1.0)):
        info, everybody = found[arm], set(split.subjects(0, "val", fraction))
        model = json.loads((tmp_path / "out" / "runs" / info["key"] / "model" / "model.json").read_text())
        assert set(model["subjects"]["val"]) == everybody  # nobody may be judged by whom it was fitted on
        assert info["num_val_subjects"] == info["calibration"]["num_subjects"] == len(everybody) // 2
        assert info["calibration"]["is_held_out"]
        assert all(entry["ece_after_is_cross_fitted"] for entry in info["rounds"])
    assert set(num_fitted) == {info["calibration"]["num_images"] for info in found.values()}
    assert len(seen) == 3 and seen[0] in seen[1:]  # supervised and its student choose by the same subjects
    assert all(choosing < set(split.subjects(0, "val", 1.0)) for choosing in seen)


def test_a_share_of_nothing_leaves_the_keys_as_they_are(write_study):
    keys = [
        {job.arm: job.key for job in make_plan(load_study(write_study(pseudo=pseudo))).runs}
        for pseudo in ({"rounds": 1}, {"rounds": 1, "calibration_share": 0})
    ]
    assert keys[0] == keys[1]


def test_a_share_that_leaves_a_class_out_is_refused_before_any_work(write_study):
    path = write_study(pseudo={"calibration_share": 0.5}, fractions=[0.4])
    with pytest.raises(SettingsError, match=r"calibration_share: with 0.5 .* in fold 0 at fraction 0.4"):
        make_plan(load_study(path))


def test_a_share_without_calibration_is_refused(write_study):
    path = write_study(pseudo={"calibration_share": 0.5, "calibrate": False})
    with pytest.raises(SettingsError, match="holds subjects out for a temperature, and calibrate is false"):
        load_study(path)
