"""Synthetic pools: which generator they may come from, and what a study keeps about them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from extract.archive import open_archive
from extract.errors import SettingsError
from extract.split import read_split
from gan.config import TrainConfig
from gan.errors import GanError
from gan.snapshot import read_snapshot
from gan.training import train
from semisup.errors import StudyError
from semisup.guards import read_fit_snapshot
from semisup.ledger import read_ledger
from semisup.study import run_study
from tests.semisup.conftest import study_settings

TINY_GAN = {
    "cfg": "small", "kimg": 0.1, "batch": 16, "channel_base": 128, "latent_dim": 16, "grid": [2, 2],
    "aug": "noaug",
}  # fmt: skip
GAN_ARMS = {
    "arms": ["supervised", "pseudo_gan_full"],
    "primary": {"arm": "pseudo_gan_full", "fraction": 0.4},
    "pool": {"num_images": 20, "truncation_psi": 0.7},
    "pseudo": {"threshold": 0.5, "rounds": 1, "gates": []},  # what these generators draw would pass none
}


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory) -> Path:
    """A finished study that trained its own generator."""
    folder = tmp_path_factory.mktemp("with-gan")
    settings = study_settings(data_dir, gan=TINY_GAN, **GAN_ARMS)
    (folder / "study.yaml").write_text(yaml.safe_dump(settings))
    summary = run_study(folder / "study.yaml", folder / "out", jobs=1)
    assert summary.failures == ()
    return folder


def the_pool(study_dir: Path) -> tuple[Path, dict]:
    (folder,) = (study_dir / "pools").iterdir()
    return folder, json.loads((folder / "pool.json").read_text())


def the_pseudo_run(study_dir: Path) -> tuple[Path, dict]:
    found = [(path.parent, json.loads(path.read_text())) for path in study_dir.glob("runs/*/run.json")]
    return next((folder, info) for folder, info in found if info["arm"] == "pseudo_gan_full")


def test_the_generator_sees_the_training_part_of_its_fold_and_nobody_else(finished, data_dir):
    _, made = the_pool(finished / "out")
    snapshot = read_snapshot(finished / "out" / made["network"])
    fold = json.loads((data_dir / "tiny.split.json").read_text())["folds"][0]
    assert set(snapshot.subjects) == set(fold["train"])
    assert snapshot.classes == ()  # no label was used


def test_every_synthetic_image_can_be_traced_to_snapshot_seed_and_psi(finished):
    folder, info = the_pseudo_run(finished / "out")
    pool_folder, made = the_pool(finished / "out")
    ledger = read_ledger(folder / "ledger.parquet")
    assert info["pool_key"] == pool_folder.name
    assert set(ledger["snapshot_sha256"]) == {made["snapshot_sha256"]}
    assert set(ledger["archive_sha256"]) == {made["archive_sha256"]}
    assert ledger["seed"].tolist() == list(range(made["first_seed"], made["first_seed"] + 20))
    assert ledger["truncation_psi"].tolist() == [0.7] * 20
    assert all(done["oracle_accuracy"] is None for done in info["rounds"])


def test_a_snapshot_that_is_already_there_can_be_used(finished, write_study, tmp_path):
    _, made = the_pool(finished / "out")
    network = str(finished / "out" / made["network"])
    path = write_study(gan={"network": {0: network}}, **GAN_ARMS)
    run_study(path, tmp_path / "out", jobs=1)
    assert not (tmp_path / "out" / "gans").exists()
    again = the_pseudo_run(tmp_path / "out")[1]
    assert again["test_metrics"] == the_pseudo_run(finished / "out")[1]["test_metrics"]


@pytest.fixture(scope="module")
def leaky(data_dir, tmp_path_factory) -> Path:
    """A snapshot trained without a split: it saw everybody."""
    options = {**TINY_GAN, "grid": (2, 2), "kimg": 0.016}
    return train(TrainConfig(data=data_dir / "tiny.zip", outdir=tmp_path_factory.mktemp("leaky"), **options))


def test_a_generator_that_saw_a_judge_is_refused_before_any_work(leaky, data_dir, write_study, tmp_path):
    with pytest.raises(GanError) as caught:
        run_study(write_study(gan={"network": str(leaky)}, **GAN_ARMS), tmp_path / "out", jobs=1)
    fold = json.loads((data_dir / "tiny.split.json").read_text())["folds"][0]
    assert "trained on 8 of the 8 subjects of the test part of fold 0" in str(caught.value)
    assert sorted(fold["test"])[0] in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_generator_of_another_fold_is_refused(finished, write_study, tmp_path):
    _, made = the_pool(finished / "out")  # trained on fold 0, whose training subjects are tested in fold 1
    path = write_study(folds=[1], gan={"network": str(finished / "out" / made["network"])}, **GAN_ARMS)
    with pytest.raises(GanError, match="subjects of the test part of fold 1"):
        run_study(path, tmp_path / "out", jobs=1)


def test_a_generator_that_saw_validation_or_draws_other_images_is_refused_too(
    finished, monkeypatch, data_dir
):
    import gan.snapshot

    network = finished / "out" / the_pool(finished / "out")[1]["network"]
    with open_archive(data_dir / "tiny.zip") as archive:
        split = read_split(data_dir / "tiny.split.json", archive)
        validating = split.folds[0].val[1.0][-1]
        snapshot = read_fit_snapshot(network, archive, split, 0)
        for change, refusal in (
            ({"subjects": (*snapshot.subjects, validating)}, f"the val part of fold 0 .{validating}"),
            ({"image_shape": (3, 32, 32)}, "expected a generator of images"),
            ({"classes": ("bar", "disc")}, "expected an unconditional generator"),
        ):
            changed = replace(snapshot, **change)
            monkeypatch.setattr(gan.snapshot, "read_snapshot", lambda path, changed=changed: changed)
            with pytest.raises((GanError, StudyError), match=refusal):
                read_fit_snapshot(network, archive, split, 0)


def test_a_leaky_generator_slipped_in_later_fails_the_run_and_not_the_others(finished, leaky, tmp_path):
    shutil.copytree(finished / "out", tmp_path / "out")
    folder, made = the_pool(tmp_path / "out")
    (folder / "pool.json").write_text(json.dumps({**made, "network": str(leaky)}))
    shutil.rmtree(the_pseudo_run(tmp_path / "out")[0])
    summary = run_study(finished / "study.yaml", tmp_path / "out", jobs=1)
    assert summary.num_done == 1
    assert "subjects of the test part of fold 0" in the_pseudo_run(tmp_path / "out")[1]["error"]


def test_a_missing_snapshot_is_refused_before_any_work(write_study, tmp_path):
    with pytest.raises(
        SettingsError, match=r"gan.network: expected a snapshot for fold 0 at .*gone.safetensors"
    ):
        run_study(write_study(gan={"network": "gone.safetensors"}, **GAN_ARMS), tmp_path / "out", jobs=1)
    with pytest.raises(SettingsError, match=r"gan.network: names no snapshot for fold 0"):
        run_study(write_study(gan={"network": {1: "gone.safetensors"}}, **GAN_ARMS), tmp_path / "out", jobs=1)


def test_a_pool_archive_that_was_exchanged_is_refused(finished, data_dir, tmp_path):
    shutil.copytree(finished / "out", tmp_path / "out")
    folder, _ = the_pool(tmp_path / "out")
    shutil.copy(data_dir / "tiny.zip", folder / "synthetic.zip")  # test images, labels and all
    run_folder, _ = the_pseudo_run(tmp_path / "out")
    shutil.rmtree(run_folder)
    summary = run_study(finished / "study.yaml", tmp_path / "out", jobs=1)
    ((_, cause),) = summary.failures
    assert "expected the archive that was generated" in cause and "remove" in cause


def test_an_exchanged_snapshot_means_another_plan(finished, data_dir, write_study, tmp_path):
    network = tmp_path / "net.safetensors"
    shutil.copy(finished / "out" / the_pool(finished / "out")[1]["network"], network)
    path = write_study(gan={"network": str(network)}, **GAN_ARMS)
    run_study(path, tmp_path / "out", jobs=1)
    options = {**TINY_GAN, "grid": (2, 2), "kimg": 0.016}
    split = data_dir / "tiny.split.json"
    other = train(
        TrainConfig(data=data_dir / "tiny.zip", split=split, outdir=tmp_path / "gan", seed=5, **options)
    )
    shutil.copy(other, network)
    with pytest.raises(StudyError, match=r"another plan \(another generator"):
        run_study(path, tmp_path / "out", jobs=1)


def test_a_generator_is_not_trained_for_runs_that_are_done(finished, tmp_path):
    shutil.copytree(finished / "out", tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / "gans")
    assert run_study(finished / "study.yaml", tmp_path / "out", jobs=1).num_performed == 0
