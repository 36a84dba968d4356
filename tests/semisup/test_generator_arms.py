"""Arms whose images come from a generator: what it may have seen, who shares it, what the classifier sees."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from extract.archive import open_archive
from extract.errors import SettingsError
from extract.split import read_split
from gan.config import TrainConfig
from gan.data import open_training_images
from gan.snapshot import read_snapshot
from semisup import run_models, runs
from semisup.config import load_study
from semisup.errors import StudyError
from semisup.guards import read_fit_snapshot
from semisup.ledger import read_ledger
from semisup.plan import GanJob, PoolJob, make_plan
from semisup.report import write_report
from semisup.study import run_study
from tests.semisup.conftest import study_settings
from tests.semisup.test_pool import TINY_GAN

ARMS = ["supervised", "pseudo_gan", "pseudo_both", "conditional_gan", "gan_only"]
SETTINGS = {
    "arms": ARMS,
    "primary": {"arm": "pseudo_gan", "fraction": 0.4},
    "pool": {"num_images": 20, "truncation_psi": 0.7},
    "gan": {**TINY_GAN, "kimg": 0.016},
    "pseudo": {"threshold": 0.5, "rounds": 1, "gates": []},  # what these generators draw would pass none
}


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory) -> tuple[Path, dict[str, list]]:
    """A finished study, and what each training saw."""
    folder = tmp_path_factory.mktemp("generators")
    (folder / "study.yaml").write_text(yaml.safe_dump(study_settings(data_dir, **SETTINGS)))
    trained: dict[str, list] = {name: [] for name in ARMS}
    train, perform = run_models.train_classifier, runs.perform_run
    now: list[str] = []

    def spy(images, val, *rest, **more):
        trained[now[-1]].append((images, val))
        return train(images, val, *rest, **more)

    def note(job, basis, progress):
        now.append(job.arm)
        perform(job, basis, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_models, "train_classifier", spy)
        patch.setattr(runs, "perform_run", note)
        summary = run_study(folder / "study.yaml", folder / "out", jobs=1)
    assert summary.failures == ()
    return folder, trained


def infos(study_dir: Path) -> dict[str, dict]:
    found = [json.loads(path.read_text()) for path in sorted(study_dir.glob("runs/*/run.json"))]
    return {info["arm"]: info for info in found}


def network_of(study_dir: Path, info: dict) -> Path:
    return (
        study_dir / json.loads((study_dir / "pools" / info["pool_key"] / "pool.json").read_text())["network"]
    )


def test_generators_are_shared_by_the_runs_that_need_the_same_one(write_study):
    settings = {**SETTINGS, "arms": [*ARMS, "pseudo_gan_full"], "seeds": [0, 1], "fractions": [0.4, 1.0]}
    plan = make_plan(load_study(write_study(**settings)))
    seen = sorted((job.fraction or 0, job.conditional) for job in plan.jobs if isinstance(job, GanJob))
    assert seen == [(0, False), (0.4, False), (0.4, True), (1.0, True)]
    assert sum(isinstance(job, PoolJob) for job in plan.jobs) == 4

    def pools(arm: str, fraction: float) -> set:
        return {run.pool_key for run in plan.runs if (run.arm, run.fraction) == (arm, fraction)}

    assert pools("conditional_gan", 0.4) == pools("gan_only", 0.4) != pools("pseudo_gan", 0.4)
    assert pools("pseudo_both", 0.4) == pools("pseudo_gan_full", 0.4) == pools("pseudo_gan", 1.0)
    assert pools("pseudo_both", 1.0) == set()  # no real image is without its label there
    places = [job.key for job in plan.jobs]
    assert all(places.index(need) < places.index(job.key) for job in plan.jobs for need in job.needs)


def test_each_generator_saw_whom_its_arm_allows_and_says_so(finished, data_dir):
    folder, _ = finished
    fold = json.loads((data_dir / "tiny.split.json").read_text())["folds"][0]
    found = infos(folder / "out")
    for arm, subjects, classes in (
        ("pseudo_gan", fold["labeled"]["0.4"], ()),
        ("conditional_gan", fold["labeled"]["0.4"], ("bar", "disc")),
        ("pseudo_both", fold["train"], ()),
    ):
        snapshot = read_snapshot(network_of(folder / "out", found[arm]))
        assert (set(snapshot.subjects), snapshot.classes) == (set(subjects), classes)


def test_a_generator_that_saw_withheld_subjects_or_no_classes_is_refused(finished, data_dir):
    folder, _ = finished
    network = network_of(folder / "out", infos(folder / "out")["pseudo_both"])  # saw all training subjects
    with open_archive(data_dir / "tiny.zip") as archive:
        split = read_split(data_dir / "tiny.split.json", archive)
        assert read_fit_snapshot(network, archive, split, 0)
        with pytest.raises(StudyError, match=r"at 40% alone, got one that saw \d+ subjects whose labels are"):
            read_fit_snapshot(network, archive, split, 0, fraction=0.4)
        with pytest.raises(StudyError, match="draws the classes bar, disc, got one that knows of none"):
            read_fit_snapshot(network, archive, split, 0, conditional=True)


def test_the_pool_of_both_is_the_withheld_images_and_the_synthetic_ones(finished, data_dir):
    folder, _ = finished
    info = infos(folder / "out")["pseudo_both"]
    ledger = read_ledger(folder / "out" / "runs" / info["key"] / "ledger.parquet")
    synthetic = ledger["snapshot_sha256"] != ""
    assert synthetic.sum() == 20 and (~synthetic).sum() == info["rounds"][1]["pool_size"] - 20 > 0
    assert ledger.loc[synthetic, "archive_sha256"].nunique() == 1
    assert set(ledger.loc[synthetic, "archive_sha256"]).isdisjoint(ledger.loc[~synthetic, "archive_sha256"])
    assert info["rounds"][1]["oracle_accuracy"] is not None  # of the real images among the selected


def test_images_of_known_class_have_the_shares_of_the_labeled_ones_and_are_all_used(finished):
    folder, trained = finished
    ((images, _),) = trained["conditional_gan"]
    synthetic = images.origin == "synthetic"
    assert synthetic.sum() == 20 and images.is_pseudo[synthetic].all()
    assert np.bincount(images.labels[synthetic]).tolist() == [10, 10]
    info = infos(folder / "out")["conditional_gan"]
    assert len(info["rounds"]) == 2 and not info["rounds"][1]["alarm"]
    ledger = read_ledger(folder / "out" / "runs" / info["key"] / "ledger.parquet")
    assert (ledger["decision"] == "selected").all() and set(ledger["rule"]) == {"by construction"}
    assert ledger["predicted"].tolist() == images.labels[synthetic].tolist()


def test_gan_only_sees_synthetic_images_alone_and_is_judged_on_real_ones(finished):
    folder, trained = finished
    ((images, val),) = trained["gan_only"]
    assert (images.origin == "synthetic").all() and len(images) == 20
    assert (val.origin == "real").all() and not val.is_pseudo.any()
    info = infos(folder / "out")["gan_only"]
    assert (info["trainings_here"], info["best_round"], info["test_openings"]) == (1, 0, 1)
    assert info["rounds"][0]["num_train_images"] == 20


def test_all_generator_arms_stand_in_the_report(finished):
    folder, _ = finished
    write_report(folder / "out")
    page = (folder / "out" / "report.html").read_text()
    assert all(name in page for name in ARMS)


def test_a_generator_of_a_fraction_learns_from_its_labeled_subjects_alone(data_dir):
    archive, split = data_dir / "tiny.zip", data_dir / "tiny.split.json"
    fold = json.loads(split.read_text())["folds"][1]
    some = open_training_images(archive, split, 1, fraction=0.4)
    assert set(some.subjects) == set(fold["labeled"]["0.4"])
    assert set(open_training_images(archive, split, 1).subjects) == set(fold["train"])
    with pytest.raises(SettingsError, match="fraction must be one of"):
        open_training_images(archive, split, 1, fraction=0.3)
    with pytest.raises(SettingsError, match="expected the split that it belongs to"):
        TrainConfig(data=archive, outdir=archive.parent, fraction=0.4)


def test_a_given_snapshot_does_not_serve_an_arm_whose_generator_may_see_less(write_study, tmp_path):
    with pytest.raises(SettingsError, match="'pseudo_gan' may see the labeled images of each fraction alone"):
        load_study(write_study(**{**SETTINGS, "gan": {"network": "net.safetensors"}}))
