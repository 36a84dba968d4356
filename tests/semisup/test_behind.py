"""The images behind a number: as many rows as the number says, in every cell of every table."""

import json
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from extract.archive import open_archive
from semisup.behind import (
    ORDERS,
    PoolChoice,
    TestedChoice,
    confusion_of_tests,
    count_reasons,
    each_once,
    has_ledger,
    read_recorded,
    rows_behind,
)
from semisup.behind_pictures import Pictures, images_of
from semisup.errors import StudyError
from semisup.folders import read_json
from semisup.ledger import read_ledger
from semisup.pool_copies import COPIES_FILE, CopyLimits, PoolCopies, write_copies
from semisup.records import read_records
from semisup.run_list import RunReader
from semisup.summary import round_results, summarize
from tests.semisup.study_folder import FakeStudy, make_study

SMALL = FakeStudy(num_subjects=18, folds=(0, 1), seeds=(0, 1), fractions=(0.2,), image_size=16, pool_size=40)
GATES = ("memorised", "off manifold")
DRAWS = 50


def plant(study_dir):
    """What the plain fake lacks: gates, a cap, kept labels, each in ledger and record alike."""
    rng = np.random.default_rng(3)
    for path in sorted(study_dir.glob("runs/*/ledger.parquet")):
        info = json.loads((path.parent / "run.json").read_text())
        ledger = pd.read_parquet(path)
        first = ledger["round_index"] == 1
        out = rng.random(first.sum()) < 0.3
        reason = np.where(out, rng.choice(GATES, first.sum()), "")
        ledger["gate"] = np.concatenate([reason, reason])  # the same in both rounds, as gates are
        ledger["gate_value"] = np.where(ledger["gate"] != "", 1.25, np.nan)
        ledger["gate_nearest"] = np.where(ledger["gate"] != "", "00000/img00000003.png", "")
        ledger["decision"] = np.where(ledger["gate"] != "", ledger["gate"], ledger["decision"])
        capped = (ledger["decision"] == "below threshold") & (rng.random(len(ledger)) < 0.4)
        ledger.loc[capped, "decision"] = "over cap"
        chosen = (ledger["decision"] == "selected").to_numpy()
        kept = (ledger["predicted"] + (rng.random(len(ledger)) < 0.2)) % len(SMALL.classes)
        ledger["pseudo_label"] = np.where(chosen, kept, -1)
        ledger.to_parquet(path, index=False)
        for entry in info["rounds"][1:]:
            own = ledger[ledger["round_index"] == entry["round_index"]]
            labels = own.loc[own["decision"] == "selected", "pseudo_label"]
            passed = int((own["gate"] == "").sum())
            entry["pool_size"], entry["num_gated"] = passed, len(own) - passed
            entry["num_selected"] = len(labels)
            entry["coverage"] = len(labels) / passed
            entry["per_class_selected"] = np.bincount(labels, minlength=len(SMALL.classes)).tolist()
            entry["gates"] = [
                {"gate": name, "num_out": int((own["gate"] == name).sum()), "num_asked": len(own),
                 "limit": 1.0, "real_share": 0.0, "text": ""}
                for name in GATES
            ]  # fmt: skip
        (path.parent / "run.json").write_text(json.dumps(info))


@pytest.fixture(scope="module")
def study_dir(tmp_path_factory):
    folder = make_study(tmp_path_factory.mktemp("behind") / "study", SMALL)
    plant(folder)
    return folder


@pytest.fixture(scope="module")
def study(study_dir):
    return read_json(study_dir / "study.json")


@pytest.fixture(scope="module")
def runs(study_dir):
    return RunReader(study_dir).read()


@pytest.fixture(scope="module")
def summary(study_dir):
    return summarize(read_records(study_dir), DRAWS)


# The law ------------------------------------------------------------------------------------------


def count_mean(study_dir, study, chosen, choice):
    return len(rows_behind(study_dir, study, chosen, choice)) / len(chosen)


def check_rounds(study_dir, study, runs, results):
    for r in results:
        chosen = runs.done(r.arm, r.fraction)

        def mean(outcome="selected", said=None, reason="", r=r, chosen=chosen):
            choice = PoolChoice(r.round_index, outcome, said, reason)
            return count_mean(study_dir, study, chosen, choice)

        assert mean() == pytest.approx(r.num_selected)
        assert [mean(said=k) for k in range(len(study["classes"]))] == pytest.approx(r.per_class_selected)
        assert mean("passed over") == pytest.approx(r.pool_size - r.num_selected)
        for gate in r.gates:
            assert mean("turned away", reason=gate.reason) == pytest.approx(gate.num_out)
        assert mean("turned away") == pytest.approx(sum(gate.num_out for gate in r.gates))


def test_every_number_of_the_rounds_has_as_many_rows(study_dir, study, runs, summary):
    results = [r for r in summary.rounds if r.round_index]
    assert len(results) == 2 * 2 and all(r.gates for r in results)  # arms, rounds
    check_rounds(study_dir, study, runs, results)


def test_so_it_is_in_a_study_that_was_really_run(finished_study):
    results = summarize(read_records(finished_study), DRAWS).rounds
    study = read_json(finished_study / "study.json")
    found = [r for r in results if r.round_index]
    assert found and sum(r.num_selected for r in found) > 0
    check_rounds(finished_study, study, RunReader(finished_study).read(), found)


def test_every_cell_of_the_confusion_matrices_has_as_many_rows(study_dir, study, runs, summary):
    for result in summary.arms:
        chosen = runs.done(result.arm, result.fraction)
        found = confusion_of_tests(study_dir, chosen, len(study["classes"]))
        assert found == pytest.approx(result.confusion)
        for (label, said), wanted in np.ndenumerate(result.confusion):
            rows = rows_behind(study_dir, study, chosen, TestedChoice(label, said))
            assert len(rows) / len(SMALL.seeds) == pytest.approx(wanted)  # seeds averaged, folds added up
        missed = rows_behind(study_dir, study, chosen, TestedChoice(0, only_wrong=True))
        assert len(missed) / len(SMALL.seeds) == pytest.approx(result.confusion[0, 1:].sum())
        assert (missed["said"] != missed["label"]).all() and (missed["label"] == 0).all()
        recall = 1 - len(missed) / len(SMALL.seeds) / result.confusion[0].sum()
        assert recall == pytest.approx(result.recall[0])


def test_rounds_of_records_alone_are_those_of_the_report(study_dir, runs, summary):
    for arm, fraction in {(r.arm, r.fraction) for r in summary.rounds}:
        recorded = read_recorded(study_dir, runs.done(arm, fraction))
        wanted = [r for r in summary.rounds if (r.arm, r.fraction) == (arm, fraction)]
        assert round_results(recorded, len(summary.classes)) == wanted


def test_one_fold_or_seed_has_its_own_part(study_dir, study, runs):
    chosen = runs.done("pseudo_gan_full", 0.2)
    whole = rows_behind(study_dir, study, chosen, PoolChoice(1))
    parts = [rows_behind(study_dir, study, [run], PoolChoice(1)) for run in chosen]
    assert sum(map(len, parts)) == len(whole)
    for run, part in zip(chosen, parts, strict=True):
        own = whole[(whole["fold"] == run.fold) & (whole["seed"] == run.seed)]
        assert own["image"].tolist() == part["image"].tolist()


# Rows and images ----------------------------------------------------------------------------------


def test_reasons_add_up_to_what_was_passed_over(study_dir, study, runs):
    chosen = runs.done("pseudo_gan_full", 0.2)
    rows = rows_behind(study_dir, study, chosen, PoolChoice(2, "passed over"))
    reasons = count_reasons(rows)
    assert set(reasons) == {"below threshold", "over cap"} and sum(reasons.values()) == len(rows)
    for reason, count in reasons.items():
        own = rows_behind(study_dir, study, chosen, PoolChoice(2, "passed over", reason=reason))
        assert len(own) == count and set(own["reason"]) == {reason}


def test_rows_are_those_of_the_ledger(study_dir, study, runs):
    chosen = runs.done("pseudo_real", 0.2)
    rows = rows_behind(study_dir, study, chosen, PoolChoice(2))
    for number, run in enumerate(chosen):
        ledger = read_ledger(study_dir / "runs" / run.key / "ledger.parquet")
        for row in rows[rows["run"] == number].to_dict("records"):
            entry = ledger.iloc[row["row"]]
            assert (entry["image"], entry["round_index"], entry["decision"]) == (row["image"], 2, "selected")
            assert (entry["pseudo_label"], entry["confidence"]) == (row["said"], row["confidence"])


def test_each_image_is_shown_once_however_many_runs_count_it(study_dir, study, runs):
    rows = rows_behind(study_dir, study, runs.done("pseudo_gan_full", 0.2), PoolChoice(1))
    mixed, falling, rising = (each_once(rows, order) for order in ORDERS)
    keys = [set(zip(t["archive_sha256"], t["image"], strict=True)) for t in (rows, mixed, falling, rising)]
    assert keys[0] == keys[1] == keys[2] == keys[3]
    assert len(mixed) == len(falling) == len(keys[0]) < len(rows)  # the seeds of a fold share a pool
    assert mixed["times"].sum() == len(rows)
    means = rows.groupby(["archive_sha256", "image"], observed=True)["confidence"].mean()
    ordered = [means[key] for key in zip(falling["archive_sha256"], falling["image"], strict=True)]
    assert ordered == sorted(ordered, reverse=True)
    assert ordered[::-1] == pytest.approx(
        [means[key] for key in zip(rising["archive_sha256"], rising["image"], strict=True)]
    )
    assert mixed["image"].tolist() == each_once(rows)["image"].tolist()  # the same each time
    assert mixed["image"].tolist() != falling["image"].tolist()


def test_nothing_behind_a_number_is_an_empty_table(study_dir, study, runs):
    rows = rows_behind(study_dir, study, runs.done("pseudo_gan_full", 0.2), PoolChoice(7))
    assert rows.empty and each_once(rows).empty and not count_reasons(rows)
    assert rows_behind(study_dir, study, [], PoolChoice(1)).empty


def test_arms_without_a_pool_have_no_ledger(study_dir, runs):
    assert has_ledger(study_dir, runs.done("pseudo_real", 0.2))
    assert not has_ledger(study_dir, runs.done("supervised", 0.2))


def test_a_ledger_from_before_there_were_gates_is_read(study_dir, study, runs, tmp_path):
    folder = shutil.copytree(study_dir, tmp_path / "old")
    run = runs.done("pseudo_real", 0.2)[0]
    path = folder / "runs" / run.key / "ledger.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns(["gate", "gate_value", "gate_nearest", "pseudo_label"]), path)
    rows = rows_behind(folder, study, [run], PoolChoice(1))
    wanted = rows_behind(study_dir, study, [run], PoolChoice(1))
    assert rows["image"].tolist() == wanted["image"].tolist()


@pytest.mark.parametrize("choice", [PoolChoice(1), TestedChoice(0)])
def test_a_damaged_file_is_told_by_its_name(study_dir, study, runs, tmp_path, choice):
    folder = shutil.copytree(study_dir, tmp_path / "damaged")
    run = runs.done("pseudo_real", 0.2)[0]
    name = "ledger.parquet" if isinstance(choice, PoolChoice) else "predictions.parquet"
    (folder / "runs" / run.key / name).write_bytes(b"no table")
    with pytest.raises(StudyError, match=f"{run.key}/{name}: expected a table of the study") as told:
        rows_behind(folder, study, [run], choice)
    assert str(tmp_path) not in str(told.value)


# Pictures -----------------------------------------------------------------------------------------


def test_an_image_comes_with_everything_that_is_recorded_of_it(study_dir, study, runs):
    chosen, choice = runs.done("pseudo_gan_full", 0.2), PoolChoice(1, "turned away")
    page = each_once(rows_behind(study_dir, study, chosen, choice)).iloc[:5]
    with Pictures(study_dir, study) as pictures:
        images = images_of(study_dir, chosen, page, choice, pictures)
        assert [image.image for image in images] == page["image"].tolist()
        for image, entry in zip(images, page.to_dict("records"), strict=True):
            run = chosen[entry["run"]]
            ledger = read_ledger(study_dir / "runs" / run.key / "ledger.parquet").iloc[entry["row"]]
            assert image.generator_seed == ledger["seed"] and image.truncation_psi == 0.7
            assert image.probs == tuple(ledger[f"p_{k}"] for k in range(3)) and image.reason in GATES
            assert (image.nearest, image.gate_value) == ("00000/img00000003.png", 1.25)
            assert (image.fold, image.seed, image.label) == (run.fold, run.seed, None)
            folder = study_dir / "pools" / f"pool{run.fold}"
            with open_archive(folder / "synthetic.zip") as pool:
                wanted = pool.read_image(pool.names.index(image.image))
            assert np.array_equal(pictures.read(image.archive_sha256, image.image), wanted)


def test_real_images_come_with_the_expert_s_class_and_the_person(study_dir, study, runs):
    chosen = runs.done("pseudo_real", 0.2)
    with Pictures(study_dir, study) as pictures, open_archive(study_dir / "planes.zip") as archive:
        for choice in (PoolChoice(1), TestedChoice(only_wrong=True)):
            page = each_once(rows_behind(study_dir, study, chosen, choice)).iloc[:6]
            for image in images_of(study_dir, chosen, page, choice, pictures):
                number = archive.names.index(image.image)
                assert (image.label, image.subject) == (archive.labels[number], archive.subjects[number])
                assert image.generator_seed is None and image.truncation_psi is None


def test_the_most_alike_training_image_is_known_where_copies_were_measured(study_dir, study, runs, tmp_path):
    folder = shutil.copytree(study_dir, tmp_path / "measured")
    chosen, choice = runs.done("pseudo_gan_full", 0.2)[:1], PoolChoice(1)
    page = each_once(rows_behind(folder, study, chosen, choice)).iloc[:1]
    with Pictures(folder, study) as pictures:
        assert images_of(folder, chosen, page, choice, pictures)[0].nearest == ""
    pool = folder / "pools" / f"pool{chosen[0].fold}"
    with open_archive(pool / "synthetic.zip") as archive:
        names, nearest = np.array(archive.names), np.array([f"real of {name}" for name in archive.names])
        limits = CopyLimits(0.5, 0.99, 0, 0, 0, None, None)
        ones = np.ones(len(names))
        copies = PoolCopies(names, names, ones, ones, nearest, limits, archive.sha256)
    write_copies(copies, pool / COPIES_FILE)
    with Pictures(folder, study) as pictures:
        (image,) = images_of(folder, chosen, page, choice, pictures)
        assert image.nearest == f"real of {image.image}"


def test_archives_that_are_gone_or_others_have_no_pictures(study_dir, study, runs, tmp_path):
    folder = shutil.copytree(study_dir, tmp_path / "gone")
    shutil.rmtree(folder / "pools" / "pool0")
    other = {**study, "data": str(folder / "pools" / "pool1" / "synthetic.zip")}
    chosen, choice = runs.done("pseudo_gan_full", 0.2), PoolChoice(1)
    page = each_once(rows_behind(folder, study, chosen, choice))
    with Pictures(folder, other) as pictures:
        images = images_of(folder, chosen, page, choice, pictures)
        shown = {image.fold: pictures.has(image.archive_sha256) for image in images}
        assert shown == {0: False, 1: True}
        assert pictures.data_was_replaced and not pictures.has(pictures.data_sha256)
        assert pictures.read(pictures.data_sha256, "00000/img00000000.png") is None
        assert pictures.expert(pictures.data_sha256, "00000/img00000000.png") == (None, "")
