"""The table of guards in the design, row by row: each fault is planted as a user would, and seen refused.

| what goes wrong | tested |
|---|---|
| slices of one subject on both sides | here; pictures and volumes without a subject: tests/scripts/test_extract_commands.py, tests/extract/test_images.py; an identical picture on two sides, and every other planted fault of a split: tests/extract/test_split.py, test_split_laws.py; near duplicates: test_near_duplicates.py |
| a model judged by whom it learned from | here; classifiers: tests/scripts/test_classifier_commands.py; pretrained encoders: tests/classifier/test_encoder_file.py, test_study.py |
| generator trained on test images | here, by command; at each reading of a pool: test_pool.py; `gan evaluate`: tests/gan/test_quality.py, test_snapshot.py; imported ones: tests/gan/test_official.py |
| pseudo-labels in validation | here, and tests/classifier/test_training.py; synthetic images in a split: tests/extract/test_split.py |
| nearly everything passes the threshold | here: calibration, alarm, caps and counts; in numbers: test_rounds.py, test_select.py, test_summary.py |
| files moved or deleted | here; in an unpacked folder: tests/extract/test_archive_pack.py |
| folder names that contradict the options | here |
| mirrored lateralised anatomy | here; `gan train`: tests/gan/test_options.py |
| preprocessing differs | here; every way from a file to probabilities: tests/classifier/test_one_path.py |
| an unreadable image replaced | here; volumes: tests/scripts/test_extract_commands.py; prediction: tests/scripts/test_classifier_use_commands.py |
| the test part opened twice, faults on purpose | here, and test_leaks.py |
"""  # noqa: E501

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result
from PIL import Image

from classifier.data import LabeledImages
from classifier.errors import ClassifierError
from classifier.run import load_classifier
from classifier.training import train_classifier
from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.errors import SettingsError
from extract.split import make_split, write_split
from gan.config import TrainConfig
from gan.snapshot import read_snapshot
from gan.training import train
from scripts.cli import cli
from semisup.config import load_study
from semisup.errors import StudyError
from semisup.guards import refuse_seen_subjects
from semisup.plan import make_plan
from semisup.records import read_records
from semisup.run_data import SealedTest
from semisup.study import run_study
from semisup.summary import summarize
from tests.classifier.toys import CLASSES, toy_images
from tests.semisup.conftest import draw_picture, study_settings
from tests.semisup.test_pool import GAN_ARMS, TINY_GAN


def synthlabel(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def said(result: Result) -> str:
    return " ".join(result.output.split())


def run_of(study_dir: Path, arm: str) -> tuple[Path, dict]:
    found = [(path.parent, json.loads(path.read_text())) for path in study_dir.glob("runs/*/run.json")]
    return next((folder, info) for folder, info in found if info["arm"] == arm)


@pytest.fixture(scope="module")
def small_gans(data_dir, tmp_path_factory) -> dict[str, Path]:
    """Two snapshots that learned from the training part of fold 0, and from everybody."""
    options = {**TINY_GAN, "grid": (2, 2), "kimg": 0.016}
    data, split = data_dir / "tiny.zip", data_dir / "tiny.split.json"
    folder = tmp_path_factory.mktemp("gans")
    return {
        "fold 0": train(TrainConfig(data=data, split=split, outdir=folder / "fit", **options)),
        "all": train(TrainConfig(data=data, outdir=folder / "leaky", **options)),
    }


# Subjects on two sides ----------------------------------------------------------------------------


def test_a_split_in_which_a_test_subject_was_put_into_training_runs_no_study(data_dir, write_study, tmp_path):
    split = json.loads((data_dir / "tiny.split.json").read_text())
    moved = split["folds"][0]["test"][0]
    split["folds"][0]["train"].append(moved)
    split["folds"][0]["labeled"]["1.0"].append(moved)
    (tmp_path / "edited.split.json").write_text(json.dumps(split))
    path = write_study(split=str(tmp_path / "edited.split.json"))
    refused = synthlabel("semisup", "run", "--study", path, "--outdir", tmp_path / "out")
    assert refused.exit_code == 1 and moved in said(refused) and "train" in said(refused)
    assert not (tmp_path / "out").exists()


def test_turned_slices_of_a_volume_stay_on_one_side(tmp_path):
    from extract.phantom import PhantomConfig, write_phantoms

    write_phantoms(tmp_path / "v", 9, 0, PhantomConfig(voxel_mm=6.0))
    made = synthlabel(
        "extract", "volumes", "--source", tmp_path / "v", "--dest", tmp_path / "a.zip", "--size", 16,
        "--angles=-20:20:10", "--slices-per-plane", 2, "--noise-below", 0.7, "--workers", 1,
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    with open_archive(tmp_path / "a.zip") as archive:
        split = make_split(archive, num_folds=2, fractions=[0.5], val_share=0.3, seed=0)
        for fold in range(2):
            sides = [
                set(archive.subjects[split.rows(archive, fold, part)]) for part in ("train", "val", "test")
            ]
            assert all(sides) and len(set.union(*sides)) == sum(map(len, sides)) == 9
            angles = archive.manifest["angle_deg"].to_numpy()[split.rows(archive, fold, "test")]
            assert len(set(angles)) == 5  # all turns of a head went with it


def test_a_teacher_that_learned_from_a_test_subject_is_found_out(data_dir, write_study, tmp_path):
    tested = json.loads((data_dir / "tiny.split.json").read_text())["folds"][0]["test"][0]
    path = write_study(arms=["supervised", "pseudo_real"], pseudo={"rounds": 0})
    assert run_study(path, tmp_path / "out", jobs=1).failures == ()
    description = run_of(tmp_path / "out", "supervised")[0] / "model" / "model.json"
    content = json.loads(description.read_text())
    assert tested not in content["subjects"]["train"]
    content["subjects"]["train"].append(
        tested
    )  # as a model would say that was trained elsewhere and put here
    description.write_text(json.dumps(content))
    shutil.rmtree(run_of(tmp_path / "out", "pseudo_real")[0])
    ((title, cause),) = run_study(path, tmp_path / "out", jobs=1).failures
    assert title.startswith("pseudo_real")
    assert f"chosen by, 1 of the 8 subjects that it would be tested on ({tested})" in cause


def test_subjects_in_training_and_test_are_named():
    with pytest.raises(StudyError, match=r"2 of the 3 subjects that it would be tested on \(b, c\)"):
        refuse_seen_subjects(["a", "c", "b"], np.array(["b", "c", "d"]))
    refuse_seen_subjects(["a"], np.array(["b"]))


# Generators ---------------------------------------------------------------------------------------


def test_a_generator_that_saw_test_subjects_ends_the_command_with_their_names(
    small_gans, write_study, tmp_path
):
    path = write_study(gan={"network": str(small_gans["all"])}, **GAN_ARMS)
    for arguments in (("plan", "--study", path), ("run", "--study", path, "--outdir", tmp_path / "out")):
        refused = synthlabel("semisup", *arguments)
        assert refused.exit_code == 1
        assert "was trained on 8 of the 8 subjects of the test part of fold 0 (s" in said(refused)
    assert not (tmp_path / "out").exists()


def test_the_name_of_a_folder_says_nothing_about_what_a_generator_saw(small_gans, write_study, tmp_path):
    lying = tmp_path / "00007-tiny-cond-mirror-fold1-kimg25000"
    lying.mkdir()
    shutil.copy(small_gans["fold 0"], lying / "network-snapshot-025000.safetensors")
    network = {"network": str(lying)}
    make_plan(load_study(write_study(gan=network, **GAN_ARMS)))  # of fold 0, as its header says
    refused = synthlabel("semisup", "plan", "--study", write_study(gan=network, folds=[1], **GAN_ARMS))
    assert refused.exit_code == 1 and "subjects of the test part of fold 1" in said(refused)
    snapshot = read_snapshot(lying)
    assert (snapshot.fold, snapshot.classes, snapshot.kimg) == (0, (), pytest.approx(0.016))
    shutil.copy(
        small_gans["all"], lying / "network-snapshot-025000.safetensors"
    )  # "fold1", and saw everybody
    refused = synthlabel("semisup", "plan", "--study", write_study(gan=network, folds=[1], **GAN_ARMS))
    assert refused.exit_code == 1 and "was trained on 8 of the 8 subjects" in said(refused)


# Validation and test ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["is_pseudo", "origin"])
def test_validation_takes_no_image_that_a_model_has_labeled_or_drawn(how):
    from classifier.config import ClassifierConfig

    val = toy_images(12, seed=2)
    planted = np.arange(12) < 5
    val = replace(val, **{how: planted if how == "is_pseudo" else np.where(planted, "synthetic", "real")})
    config = ClassifierConfig(steps=1, batch_size=6)
    with pytest.raises(ClassifierError, match="validation accepts only real images with expert labels, got"):
        train_classifier(toy_images(12, seed=1), val, CLASSES, config)


def test_the_test_part_opens_once_in_a_run():
    sealed = SealedTest(lambda: LabeledImages.concat([toy_images(6, seed=0)]))
    assert len(sealed.open()) == 6
    with pytest.raises(StudyError, match="the test part was opened already in this run"):
        sealed.open()
    assert sealed.openings == 1


# Thresholds ---------------------------------------------------------------------------------------


def test_a_threshold_that_nearly_everything_passes_rings_an_alarm_and_a_cap_holds(write_study, tmp_path):
    pseudo = {"threshold": 0.01, "rounds": 1}
    run_study(write_study(arms=["supervised", "pseudo_real"], pseudo=pseudo), tmp_path / "open", jobs=1)
    (done,) = run_of(tmp_path / "open", "pseudo_real")[1]["rounds"][1:]
    assert done["coverage"] == 1 and done["alarm"] and done["temperature"] != 1
    assert sum(done["per_class_selected"]) == done["num_selected"] == done["pool_size"]
    (warning,) = (
        text for text in summarize(read_records(tmp_path / "open"), 50).warnings if "pseudo_real" in text
    )
    assert "A threshold that nearly everything passes is no selection" in warning
    capped = {**pseudo, "max_per_class": 3}
    run_study(write_study(arms=["supervised", "pseudo_real"], pseudo=capped), tmp_path / "capped", jobs=1)
    (done,) = run_of(tmp_path / "capped", "pseudo_real")[1]["rounds"][1:]
    assert max(done["per_class_selected"]) <= 3 and not done["alarm"]


# Files --------------------------------------------------------------------------------------------


def state_of(folder: Path) -> dict[str, tuple[str, int]]:
    return {
        path.relative_to(folder).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns
        )
        for path in folder.rglob("*") if path.is_file()
    }  # fmt: skip


def write_pictures(folder: Path, classes: tuple[str, str], num_subjects: int = 16) -> Path:
    """`folder/CLASS/sNN.png`, one of each class a subject."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for subject in range(num_subjects):
            Image.fromarray(draw_picture(label, rng)).save(folder / name / f"s{subject:02d}.png")
    return folder


def test_sources_and_archives_are_read_and_never_touched(tmp_path):
    source = write_pictures(tmp_path / "pictures", ("bar", "disc"))
    before = state_of(source)
    archive, split = tmp_path / "tiny.zip", tmp_path / "tiny.split.json"
    made = [
        synthlabel("extract", "images", "--source", source, "--dest", archive, "--size", 16,
                   "--subject-pattern", r"(s\d+)", "--workers", 1),
        synthlabel("extract", "split", "--data", archive, "--dest", split, "--folds", 2, "--val-share", 0.3,
                   "--fractions", "0.4"),
    ]  # fmt: skip
    assert [result.exit_code for result in made] == [0, 0], [result.output for result in made]
    files = {path: path.read_bytes() for path in (archive, split)}
    settings = study_settings(tmp_path, arms=["supervised", "pseudo_real"])
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(settings))
    ran = synthlabel(
        "semisup", "run", "--study", tmp_path / "study.yaml", "--outdir", tmp_path / "out", "--jobs", 1
    )
    assert ran.exit_code == 0, ran.output
    assert state_of(source) == before  # selected or not: decisions stand in the ledger
    assert files == {path: path.read_bytes() for path in files}
    again = synthlabel("extract", "images", "--source", source, "--dest", archive, "--size", 16,
                       "--subject-pattern", r"(s\d+)")  # fmt: skip
    assert again.exit_code != 0 and archive.read_bytes() == files[archive]


def test_an_archive_that_was_exchanged_under_a_study_is_refused(data_dir, write_study, tmp_path):
    for name in ("tiny.zip", "tiny.split.json"):
        shutil.copy(data_dir / name, tmp_path / name)
    files = {"data": str(tmp_path / "tiny.zip"), "split": str(tmp_path / "tiny.split.json")}
    path = write_study(arms=["supervised", "pseudo_real"], pseudo={"rounds": 0}, **files)
    plan = make_plan(load_study(path))
    rng = np.random.default_rng(9)
    with ArchiveWriter(tmp_path / "tiny.zip", overwrite=True) as writer:
        for subject in range(16):
            for label in (0, 1):
                record = ImageRecord(label=("bar", "disc")[label], subject=f"s{subject:02d}")
                writer.add(draw_picture(label, rng), record)
    from semisup.execute import attempt

    verdict = attempt(plan.runs[0], plan.basis(tmp_path / "out"))
    assert verdict.state == "failed" and "archive" in verdict.text


def test_an_unreadable_picture_is_named_counted_and_never_replaced(tmp_path):
    source = write_pictures(tmp_path / "pictures", ("bar", "disc"), 4)
    (source / "bar" / "s02.png").write_bytes(b"\x89PNG cut")
    arguments = ["extract", "images", "--source", source, "--dest", tmp_path / "a.zip", "--size", 16,
                 "--subject-pattern", r"(s\d+)", "--workers", 1]  # fmt: skip
    refused = synthlabel(*arguments)
    assert refused.exit_code == 1 and "1 of 8 pictures cannot be used" in said(refused)
    assert "bar/s02.png" in said(refused) and not (tmp_path / "a.zip").exists()
    assert synthlabel(*arguments, "--skip-unreadable").exit_code == 0
    with open_archive(tmp_path / "a.zip") as archive:
        assert len(archive) == 7 and archive.preparation["left_out"] == ["bar/s02.png"]
        assert "bar/s02.png" not in set(archive.manifest["source"])


# Left and right -----------------------------------------------------------------------------------


@pytest.mark.parametrize("section", ["classifier", "gan"])
def test_classes_that_name_a_side_are_not_mirrored(section, tmp_path):
    source = write_pictures(tmp_path / "pictures", ("pulmon-izquierdo", "right_lung"))
    made = synthlabel("extract", "images", "--source", source, "--dest", tmp_path / "tiny.zip", "--size", 16,
                      "--subject-pattern", r"(s\d+)", "--workers", 1)  # fmt: skip
    assert made.exit_code == 0, made.output
    with open_archive(tmp_path / "tiny.zip") as archive:
        write_split(
            make_split(archive, num_folds=2, fractions=[0.4], val_share=0.3, seed=0),
            tmp_path / "tiny.split.json",
        )
    settings = study_settings(tmp_path, **GAN_ARMS, gan=TINY_GAN)
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(settings))
    make_plan(load_study(path))  # off by default
    settings[section] = {**settings[section], "mirror": True}
    path.write_text(yaml.safe_dump(settings))
    refused = synthlabel("semisup", "plan", "--study", path)
    assert refused.exit_code == 2
    assert (
        f"{section}.mirror mirrors images left-right, but classes name a side (pulmon-izquierdo, right_lung)"
        in said(refused)
    )


def test_a_classifier_of_sided_classes_is_not_trained_on_mirrored_images():
    from classifier.config import ClassifierConfig

    config = ClassifierConfig(steps=1, batch_size=6, mirror=True)
    with pytest.raises(
        SettingsError, match=r"--mirror mirrors images left-right, but classes name a side \(knee_L\)"
    ):
        train_classifier(toy_images(12, seed=1), toy_images(12, seed=2), ("knee_L", "other", "none"), config)


# Preprocessing ------------------------------------------------------------------------------------


def test_a_model_prepares_images_as_it_was_trained_whatever_it_is_given(finished_study, tmp_path):
    folder, _ = run_of(finished_study, "supervised")
    shutil.copytree(folder / "model", tmp_path / "model")
    model = load_classifier(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "model.json").read_text())["preprocessing"]["version"]
    pictures = toy_images(6, seed=0, size=32).images
    with pytest.raises(ClassifierError, match="16"):
        model.predict_probs(pictures)  # of another size than in training: never scaled in silence
    content = json.loads((tmp_path / "model" / "model.json").read_text())
    content["preprocessing"]["version"] = 99
    (tmp_path / "model" / "model.json").write_text(json.dumps(content))
    with pytest.raises(ClassifierError, match="version"):
        load_classifier(tmp_path / "model")
