"""The oracle: fresh phantoms in place of a generator's images, and nothing of it for other archives."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import yaml

from extract.archive import open_archive, read_record
from extract.errors import ExtractError, SettingsError
from extract.fresh_phantoms import fresh_slices
from extract.phantom import PhantomConfig, make_phantom, write_phantoms, write_volume
from extract.phantom_origin import read_phantom_origin
from extract.planes import SliceConfig
from extract.split import make_split, write_split
from extract.volumes import build_volume_archive
from semisup.config import load_study
from semisup.errors import StudyError
from semisup.execute import perform
from semisup.ledger import read_ledger
from semisup.oracle import oracle_pool
from semisup.plan import PoolJob, make_plan
from semisup.query import query_study
from semisup.records import read_records
from semisup.report import write_report
from semisup.study import run_study
from semisup.summary import summarize
from tests.semisup.conftest import study_settings

COARSE = PhantomConfig(voxel_mm=6.0)
ORACLE = {
    "arms": ["supervised", "oracle"],
    "primary": {"arm": "oracle", "fraction": 0.4},
    "pool": {"num_images": 31},
    "classifier": {"steps": 8, "batch_size": 16, "validate_every": 4, "augment": False, "device": "cpu"},
}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory) -> Path:
    """`tiny.zip` of nine phantoms, 16 pixels, and its split."""
    folder = tmp_path_factory.mktemp("phantoms")
    write_phantoms(folder / "volumes", 9, 5, COARSE)
    slicing = SliceConfig(size=16, slices_per_plane=3, angles_deg=(0.0, 10.0), noise_below=0.7)
    build_volume_archive(folder / "volumes", folder / "tiny.zip", slicing, workers=1)
    with open_archive(folder / "tiny.zip") as archive:
        split = make_split(archive, num_folds=2, fractions=[0.4], val_share=0.3, seed=0)
    write_split(split, folder / "tiny.split.json")
    return folder


@pytest.fixture(scope="module")
def finished(phantoms, tmp_path_factory, own_cache) -> Path:
    folder = tmp_path_factory.mktemp("oracle")
    (folder / "study.yaml").write_text(yaml.safe_dump(study_settings(phantoms, **ORACLE)))
    assert run_study(folder / "study.yaml", folder / "out", jobs=1).failures == ()
    return folder / "out"


def the_run(study_dir: Path) -> dict:
    found = [json.loads(path.read_text()) for path in study_dir.glob("runs/*/run.json")]
    return next(info for info in found if info["arm"] == "oracle")


def test_the_seed_of_the_archive_gives_its_own_images_to_the_bit(phantoms):
    with open_archive(phantoms / "tiny.zip") as archive:
        origin = read_phantom_origin(archive.preparation, "tiny.zip")
        assert origin.seeds == (5,) and origin.phantom == COARSE
        made = list(islice(fresh_slices(origin, 5, "phantom"), 2))
        expected = [archive.read_image(row)[0] for row in range(len(made[0]) + len(made[1]))]
        rows = [archive.row(row) for row in range(len(expected))]
    import cv2

    for one, pixels, row in zip([*made[0], *made[1]], expected, rows, strict=True):
        decoded = cv2.imdecode(np.frombuffer(one.png, np.uint8), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(decoded, pixels)
        assert (one.record.label, one.record.affine) == (row["label"], read_record(row, "").affine)


def test_the_pool_has_new_subjects_as_many_images_as_asked_and_keeps_their_labels_back(finished, phantoms):
    info = the_run(finished)
    with open_archive(finished / "pools" / info["pool_key"] / "synthetic.zip") as pool:
        with open_archive(phantoms / "tiny.zip") as archive:
            assert len(pool) == 31 and pool.classes == archive.classes
            assert pool.image_shape == archive.image_shape
            assert not set(pool.subjects) & set(archive.subjects)
            assert not set(pool.manifest["sha256"]) & set(archive.manifest["sha256"])
        names = pool.manifest["file"].tolist()
    ledger = read_ledger(finished / "runs" / info["key"] / "ledger.parquet")
    assert ledger.loc[ledger["round_index"] == 1, "image"].tolist() == names
    assert info["rounds"][1]["pool_size"] == 31
    assert 0 <= info["rounds"][1]["oracle_accuracy"] <= 1  # known, because the labels are


def test_it_stands_in_the_report_and_the_ledger_like_any_arm(finished):
    records = read_records(finished)
    summary = summarize(records, num_draws=50)
    assert summary.primary.arm == "oracle"
    assert "what a perfect generator could do" in write_report(finished).path.read_text(encoding="utf-8")
    (row,) = query_study(finished, "SELECT count(*) AS n FROM ledger WHERE arm = 'oracle'").to_dict("records")
    assert row["n"] >= 31


def test_the_pool_is_the_same_each_time_and_another_in_each_fold(phantoms, tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(study_settings(phantoms, **ORACLE, folds="all")))
    plan = make_plan(load_study(path))
    jobs = [job for job in plan.jobs if isinstance(job, PoolJob)]
    assert [job.title for job in jobs] == ["fresh phantoms for fold 0", "fresh phantoms for fold 1"]
    made = []
    for name, job in (("a", jobs[0]), ("b", jobs[0]), ("c", jobs[1])):
        perform(job, plan.basis(tmp_path / name))
        made.append((tmp_path / name / "pools" / job.key / "synthetic.zip").read_bytes())
    assert made[0] == made[1] != made[2]
    basis, key = plan.basis(tmp_path / "a"), jobs[0].key
    with open_archive(phantoms / "tiny.zip") as archive:
        assert len(oracle_pool(basis, key, archive).images) == 31
        (tmp_path / "a" / "pools" / key / "synthetic.zip").write_bytes((phantoms / "tiny.zip").read_bytes())
        with pytest.raises(
            StudyError, match=r"expected the fresh phantoms .* with 9 subjects and \d+ pictures"
        ):
            oracle_pool(basis, key, archive)


def test_other_archives_are_refused_in_one_sentence(write_study, data_dir):
    arms = {"arms": ["supervised", "oracle"], "primary": {"arm": "oracle", "fraction": 0.4}}
    with pytest.raises(
        SettingsError, match=r"'oracle' draws new subjects from the process behind an archive of"
    ):
        make_plan(load_study(write_study(**arms)))


def test_volumes_that_are_not_all_phantoms_of_one_kind_say_nothing_of_phantoms(tmp_path):
    write_phantoms(tmp_path / "a", 2, 0, COARSE)
    write_volume(tmp_path / "a" / "own.nrrd", make_phantom(1, "RAS", COARSE))  # without a recipe
    write_phantoms(tmp_path / "b" / "one", 1, 0, COARSE)
    write_phantoms(tmp_path / "b" / "two", 1, 1, PhantomConfig(voxel_mm=5.0))
    for name in "ab":
        slicing = SliceConfig(size=16, slices_per_plane=2)
        build_volume_archive(tmp_path / name, tmp_path / f"{name}.zip", slicing, workers=1)
        with open_archive(tmp_path / f"{name}.zip") as archive:
            assert "phantom" not in archive.preparation
            with pytest.raises(ExtractError, match="got one that does not say so"):
                read_phantom_origin(archive.preparation, name)


def test_slices_that_were_changed_afterwards_are_no_samples_of_the_process(phantoms):
    with open_archive(phantoms / "tiny.zip") as archive:
        changed = {**archive.preparation, "segment": {"model": "x"}}
    with pytest.raises(ExtractError, match=r"images that were changed afterwards \(segment\)"):
        read_phantom_origin(changed, "x.zip")
