import csv
import os
from pathlib import Path

import numpy as np
import pytest

from classifier.errors import ClassifierError
from classifier.recipe_data import recipe_data
from classifier.recipes import RECIPES, with_size
from extract.archive import open_archive
from extract.layouts import SubjectRule
from extract.png import encode_png
from extract.split import read_split

DATA = Path(os.environ.get("SYNTHLABEL_DATA", Path(__file__).parents[2] / "../shared/data"))
CHEST, TUMOURS = DATA / "chest_xray" / "train", DATA / "brain_mri"
SMALL = with_size(RECIPES["tumour-resnet50"], 32)  # ten folds


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    """Two classes, 30 pictures each, two a person."""
    rng = np.random.default_rng(0)
    for label in ("glioma", "none"):
        (tmp_path / "mri" / label).mkdir(parents=True)
        for number in range(30):
            pixels = rng.integers(0, 256, (40, 36)).astype(np.uint8)
            (tmp_path / "mri" / label / f"{label[0]}{number // 2:02d}-{number % 2}.png").write_bytes(
                encode_png(pixels)
            )
    return tmp_path / "mri"


def write_manifest(folder, **extra):
    with (folder / "manifest.csv").open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["file", "patient", *extra])
        for file in sorted(folder.rglob("*.png")):
            name = file.relative_to(folder).as_posix()
            writer.writerow([name, file.name[:3], *(value(name) for value in extra.values())])


def parts_of(made):
    with open_archive(made.archive) as archive:
        split = read_split(made.split, archive)
        shares = [len(split.rows(archive, 0, part)) / len(archive) for part in ("train", "val", "test")]
        return archive.classes, archive.image_shape, set(archive.subjects), shares


def test_a_folder_of_classes_becomes_an_archive_and_a_split_of_eight_one_and_one_tenth(tmp_path, folder):
    write_manifest(folder)
    made = recipe_data(SMALL, folder, None, tmp_path / "run")
    classes, shape, subjects, shares = parts_of(made)
    assert classes == ("glioma", "none") and shape == (1, 32, 32)
    assert subjects == {f"{letter}{number:02d}" for letter in "gn" for number in range(15)}
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.04)
    assert made.split == tmp_path / "run.split.json" and "cache" in str(made.archive)
    assert not any("person of its own" in note for note in made.notes)


def test_without_subjects_the_risk_is_told_every_time(tmp_path, folder):
    for _ in range(2):
        made = recipe_data(SMALL, folder, None, tmp_path / "run")
        assert len(parts_of(made)[2]) == 60
        assert any("counts as a person of its own" in note for note in made.notes)


def test_a_rule_goes_before_the_folders_own_table(tmp_path, folder):
    write_manifest(folder)
    made = recipe_data(SMALL, folder, None, tmp_path / "run", rule=SubjectRule(pattern=r"(\w+-\d)\.png"))
    subjects = parts_of(made)[2]
    assert len(subjects) == 60 and "g00-1" in subjects
    assert not any("person of its own" in note for note in made.notes)


def test_the_table_gives_the_classes_that_the_recipe_asks_for(tmp_path, folder):
    write_manifest(folder, type=lambda name: "healthy" if "none" in name else f"grade{int(name[8:10]) % 2}")
    made = recipe_data(with_size(RECIPES["chest"], 32), folder, None, tmp_path / "run")
    assert parts_of(made)[0] == ("grade0", "grade1", "healthy")
    assert parts_of(recipe_data(SMALL, folder, None, tmp_path / "other"))[0] == ("glioma", "none")


def test_the_same_folder_gives_the_same_split_again_and_a_changed_one_is_told(tmp_path, folder):
    write_manifest(folder)
    first = recipe_data(SMALL, folder, None, tmp_path / "run")
    content = first.split.read_bytes()
    again = recipe_data(SMALL, folder, None, tmp_path / "run", seed=5)
    assert again.archive == first.archive and again.split.read_bytes() == content
    assert any(note.startswith("found ") for note in again.notes)
    next(folder.rglob("*.png")).unlink()
    with pytest.raises(ClassifierError, match=r"run\.split\.json: expected the split of these images"):
        recipe_data(SMALL, folder, None, tmp_path / "run")


def test_an_archive_with_its_split_is_taken_as_it_is(tmp_path, folder):
    write_manifest(folder)
    first = recipe_data(SMALL, folder, None, tmp_path / "run")
    taken = recipe_data(SMALL, first.archive, first.split, tmp_path / "other")
    assert (taken.archive, taken.split, taken.notes) == (first.archive, first.split, ())
    assert not (tmp_path / "other.split.json").exists()


def test_images_smaller_than_the_recipe_shows_its_network_are_told(tmp_path, folder):
    write_manifest(folder)
    first = recipe_data(SMALL, folder, None, tmp_path / "run")
    larger = recipe_data(with_size(SMALL, 48), first.archive, first.split, tmp_path / "run")
    assert any("32x32 pixels, tumour-resnet50 shows its network 48" in note for note in larger.notes)


@pytest.mark.slow
@pytest.mark.skipif(not CHEST.is_dir(), reason=f"no chest X-rays at {CHEST} (see SYNTHLABEL_DATA)")
def test_the_real_chest_folder_gives_three_classes_split_by_patient(tmp_path):
    made = recipe_data(with_size(RECIPES["chest"], 32), CHEST, None, tmp_path / "run")
    classes, _, subjects, _ = parts_of(made)
    assert classes == ("bacteria", "normal", "virus") and len(subjects) == 3654


@pytest.mark.slow
@pytest.mark.skipif(not TUMOURS.is_dir(), reason=f"no brain MRI at {TUMOURS} (see SYNTHLABEL_DATA)")
def test_the_real_tumour_folder_is_split_eight_one_one_with_both_risks_told(tmp_path):
    made = recipe_data(SMALL, TUMOURS, None, tmp_path / "run")
    classes, _, _, shares = parts_of(made)
    assert classes == ("glioma", "meningioma", "notumor", "pituitary")
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    told = " ".join(made.notes)
    assert "counts as a person of its own" in told and "predict the class" in told
