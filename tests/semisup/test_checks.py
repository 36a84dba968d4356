"""The leakage sheet finds what was planted, and says so where nobody can miss it."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from semisup.checks import check_data, gather
from semisup.examples import Shelf
from semisup.records import read_records
from semisup.report import write_report
from tests.semisup.study_folder import FakeStudy, make_study

SMALL = FakeStudy(
    num_subjects=24, images_per_subject=3, folds=(0,), fractions=(0.2, 0.5), pool_size=40, image_size=16
)


def outcomes(study) -> dict[str, str]:
    return {name: check.outcome for name, check in sheet(study).items()}


def sheet(study):
    records = read_records(study)
    with Shelf(records) as shelf:
        return {check.name: check for check in check_data(gather(records, shelf))}


def edit_split(study, change) -> None:
    """Change the split by hand, and make study.json believe that it was always so."""
    import hashlib

    path = study / "planes.split.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    plan = json.loads((study / "study.json").read_text())
    plan["split_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    (study / "study.json").write_text(json.dumps(plan))


def edit_run(study, change, arm="pseudo_gan_full") -> None:
    path = next(p for p in sorted(study.glob("runs/*/run.json")) if json.loads(p.read_text())["arm"] == arm)
    info = json.loads(path.read_text())
    change(info, path.parent)
    path.write_text(json.dumps(info))


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path, SMALL)


def test_a_clean_study_fails_no_check(study):
    found = outcomes(study)
    assert "failed" not in found.values()
    by_split = ("same files", "subjects disjoint", "tested once", "pictures disjoint", "split")
    for name in (*by_split, "test labels", "pools", "kept rounds", "test openings"):
        assert found[name] == "passed", name


def test_what_no_file_says_is_unknown(study):
    found = outcomes(study)
    assert found["near duplicates"] == "unknown"  # the split was made without --link-near
    assert found["settings"] == "unknown"  # these runs do not say theirs
    assert found["models' subjects"] == "unknown"  # and have no models
    assert found["source"] == "unknown"


def test_a_subject_on_two_sides_is_found_whatever_the_hashes_say(study):
    seen = []

    def plant(content):
        seen.append(content["folds"][0]["test"][0])
        content["folds"][0]["train"].append(seen[0])

    edit_split(study, plant)
    check = sheet(study)["subjects disjoint"]
    assert check.outcome == "failed" and check.vetoes
    assert f"{seen[0]} (train / test, fold 0)" in check.found


def test_a_planted_leak_takes_the_headline_and_stands_above_every_number(study):
    edit_split(
        study, lambda content: content["folds"][0]["val"]["1.0"].append(content["folds"][0]["test"][0])
    )
    summary = write_report(study)
    page = summary.path.read_text(encoding="utf-8")
    assert "a check of the data failed" in summary.verdict
    assert any("on two sides" in fault for fault in summary.faults)
    assert page.index('id="faults"') < page.index("<table")
    assert 'class="verdict no-headline"' in page
    assert '<tr class="failed">' in page
    assert "**FAILED**" in (study / "report.md").read_text()
    results = json.loads((study / "results.json").read_text())
    assert results["verdict"]["kind"] == "no headline"
    assert any(check["outcome"] == "failed" for check in results["checks"])


def test_a_split_changed_after_the_plan_is_named(study):
    path = study / "planes.split.json"
    path.write_text(path.read_text() + "\n")
    check = sheet(study)["same files"]
    assert check.outcome == "failed" and "split" in check.found and not check.vetoes


def test_a_picture_of_two_sides_is_found_by_its_hash(study, tmp_path):
    """Two subjects on either side of the split with one and the same picture."""
    split = json.loads((study / "planes.split.json").read_text())
    sides = split["folds"][0]
    path = tmp_path / "other" / "planes.zip"
    path.parent.mkdir()
    with open_archive(study / "planes.zip") as old, ArchiveWriter(path) as writer:
        twin = old.read_image(int(np.flatnonzero(old.subjects == sides["train"][0])[0]))[0]
        first = int(np.flatnonzero(old.subjects == sides["test"][0])[0])
        for row in range(len(old)):
            record = ImageRecord(old.classes[old.labels[row]], str(old.subjects[row]))
            writer.add(twin if row == first else old.read_image(row)[0], record)
    path.replace(study / "planes.zip")
    with open_archive(study / "planes.zip") as archive:
        sha256 = archive.sha256
    edit_split(study, lambda content: content.update(archive_sha256=sha256))
    plan = json.loads((study / "study.json").read_text())
    (study / "study.json").write_text(json.dumps({**plan, "archive_sha256": sha256}))
    check = sheet(study)["pictures disjoint"]
    assert check.outcome == "failed" and check.vetoes
    assert "test / train" in check.found


def test_a_model_that_knows_a_tested_subject_is_found(study):
    def plant(info, folder):
        tested = pd.read_parquet(folder / "predictions.parquet")["subject"].iat[0]
        (folder / "model").mkdir()
        content = {"subjects": {"train": [str(tested)], "val": []}}
        (folder / "model" / "model.json").write_text(json.dumps(content))

    edit_run(study, plant)
    check = sheet(study)["models' subjects"]
    assert check.outcome == "failed" and check.vetoes
    assert "pseudo_gan_full, fold 0, seed 0" in check.found


def test_a_changed_test_label_is_found(study):
    def plant(info, folder):
        table = pd.read_parquet(folder / "predictions.parquet")
        table.loc[0, "label"] = (table.loc[0, "label"] + 1) % 3
        table.to_parquet(folder / "predictions.parquet", index=False)

    edit_run(study, plant)
    check = sheet(study)["test labels"]
    assert check.outcome == "failed"
    assert "1 images" in check.found


def test_a_pseudo_labeled_test_image_is_found(study):
    with open_archive(study / "planes.zip") as archive:
        tested = json.loads((study / "planes.split.json").read_text())["folds"][0]["test"]
        digest = archive.manifest["sha256"][archive.subjects == tested[0]].iat[0]

    def plant(info, folder):
        ledger = pd.read_parquet(folder / "ledger.parquet")
        ledger["image_sha256"] = digest
        ledger.to_parquet(folder / "ledger.parquet", index=False)

    edit_run(study, plant)
    assert sheet(study)["pools"].outcome == "failed"


def test_a_round_kept_for_another_reason_than_validation_is_found(study):
    def plant(info, folder):
        info["best_round"] = (info["best_round"] + 1) % 3

    edit_run(study, plant)
    assert sheet(study)["kept rounds"].outcome == "failed"


def test_a_second_opening_of_the_test_part_is_found(study):
    edit_run(study, lambda info, folder: info.update(test_openings=2))
    check = sheet(study)["test openings"]
    assert check.outcome == "failed" and "2 times in a run" in check.found


def test_without_archives_nothing_is_claimed(tmp_path):
    found = outcomes(make_study(tmp_path, replace(SMALL, has_images=False)))
    assert "failed" not in found.values()
    for name in ("same files", "subjects disjoint", "pictures disjoint", "test labels", "pools"):
        assert found[name] == "unknown", name


def test_a_pool_whose_images_were_replaced_is_found(study):
    pool = study / "pools" / "pool0"
    made = {"fold": 0, "network": "gone.safetensors", "snapshot_sha256": "b" * 64, "archive_sha256": "0" * 64,
            "num_images": 40}  # fmt: skip
    (pool / "pool.json").write_text(json.dumps(made))
    found = sheet(study)
    assert found["generator of pool pool0"].outcome == "unknown"  # its snapshot is not there
    assert "snapshot is not there" in found["generator of pool pool0"].found
