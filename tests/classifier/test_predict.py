import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from classifier.data import ImageTable
from classifier.decision import DecisionRule
from classifier.errors import ClassifierError
from classifier.predict import predict_files, refuse_unreadable_inputs, reject_below, write_predictions
from classifier.preparation import SliceChoice, input_settings, kept_settings
from classifier.run import Provenance, load_classifier
from extract.archive import open_archive
from extract.cache import open_images
from extract.errors import ExtractError, SettingsError
from extract.images import ImageConfig, SubjectRule, build_image_archive
from extract.phantom import PhantomConfig, write_phantoms
from extract.planes import SliceConfig
from extract.volumes import build_volume_archive
from tests.classifier.served import toy_table, untrained


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Pictures of all kinds and two phantom volumes, and an archive of each."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    (folder / "pictures" / "a").mkdir(parents=True)
    pictures = {
        "wide.png": Image.fromarray(rng.integers(0, 256, (40, 70)).astype(np.uint8)),
        "deep.png": Image.fromarray(rng.integers(0, 60000, (50, 50)).astype(np.uint16)),
        "color.jpg": Image.fromarray(rng.integers(0, 256, (64, 48, 3)).astype(np.uint8)),
        "tall.tif": Image.fromarray(rng.integers(0, 256, (90, 30)).astype(np.uint8)),
    }
    for name, picture in pictures.items():
        picture.save(folder / "pictures" / "a" / name)
    rule = SubjectRule(pattern=r"(?P<subject>\w+)\.")
    build_image_archive(folder / "pictures", folder / "pictures.zip", ImageConfig(32, fit="crop"), rule)
    write_phantoms(folder / "volumes", 2, 0, PhantomConfig(voxel_mm=6.0))
    (folder / "volumes" / "subjects.csv").unlink()
    config = SliceConfig(planes=("axial", "coronal"), angles_deg=(0.0, 10.0), size=32, slices_per_plane=4)
    build_volume_archive(folder / "volumes", folder / "volumes.zip", config)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def classifier_of(archive_path, **provenance):
    """A classifier over the images of an archive, which knows how they were made."""
    with open_archive(archive_path) as archive:
        images = ImageTable(open_images(archive))
        known = Provenance(preparation=kept_settings(archive.preparation), **provenance)
    return untrained(images, provenance=known), images


def test_a_folder_of_pictures_is_judged_as_the_archive_made_of_it(place):
    classifier, images = classifier_of(place / "pictures.zip")
    found = predict_files(classifier, [place / "pictures"])
    assert found.images["file"].tolist() == ["a/color.jpg", "a/deep.png", "a/tall.tif", "a/wide.png"]
    probs = found.images[[f"p_{name}" for name in classifier.classes]].to_numpy()
    np.testing.assert_array_equal(probs, classifier.predict_probs(images))
    assert (found.images["class"] == found.images["decision"]).all() and not len(found.volumes)
    single = predict_files(classifier, [place / "pictures" / "a" / "wide.png"])
    np.testing.assert_allclose(single.images["confidence"][0], probs[3].max(), atol=1e-6)


def test_an_archive_is_judged_by_its_entries_and_seen_subjects_are_told(place):
    classifier, _ = classifier_of(place / "pictures.zip")
    classifier.train_subjects, classifier.val_subjects = ("deep",), ("tall",)
    found = predict_files(classifier, [place / "pictures.zip"])
    assert found.images["file"][0] == "00000/img00000000.png"
    assert found.images["seen"].tolist() == ["", "train", "val", ""]
    assert found.images["label"].tolist() == ["a"] * 4
    assert "2 of 4 images are of subjects that the classifier has seen" in found.notes[0]


def test_a_volume_becomes_the_very_slices_of_the_training(place):
    classifier, images = classifier_of(place / "volumes.zip")
    found = predict_files(classifier, [place / "volumes"])
    with open_archive(place / "volumes.zip") as archive:
        manifest = archive.manifest
    assert found.images["volume"].tolist() == manifest["source"].tolist()
    for column in ("plane", "angle_deg", "slice_index", "position_mm"):
        expected = manifest[column] if column == "plane" else manifest[column].astype(float)
        got = found.images[column] if column == "plane" else found.images[column].astype(float)
        pd.testing.assert_series_equal(got, expected, check_names=False, atol=1e-3, check_dtype=False)
    probs = found.images[[f"p_{name}" for name in classifier.classes]].to_numpy()
    np.testing.assert_array_equal(probs, classifier.predict_probs(images))
    assert found.volumes["volume"].tolist() == ["phantom000.nrrd", "phantom001.nrrd"]
    first = (manifest["source"] == "phantom000.nrrd").to_numpy()
    np.testing.assert_allclose(
        found.volumes.loc[0, [f"p_{name}" for name in classifier.classes]].to_numpy(float),
        probs[first].mean(axis=0),
    )
    assert found.volumes["num_slices"][0] == first.sum()
    counts = found.volumes.loc[0, [f"num_{name}" for name in classifier.classes]]
    assert counts.sum() == first.sum()


def test_a_run_that_does_not_record_its_archive_asks_how_volumes_and_pictures_become_images(place):
    known, images = classifier_of(place / "volumes.zip")
    old = untrained(images)
    volume = place / "volumes" / "phantom000.nrrd"
    with pytest.raises(SettingsError, match="does not say how it sliced them: give --like ARCHIVE"):
        predict_files(old, [volume])
    with pytest.raises(SettingsError, match="70x40 pixels, and the classifier does not say"):
        predict_files(old, [place / "pictures" / "a" / "wide.png"])
    assert len(predict_files(old, [place / "pictures" / "a" / "deep.png"]).images) == 1  # a square one
    expected = predict_files(known, [volume]).images
    alike = predict_files(old, [volume], settings=input_settings(old, like=place / "volumes.zip")).images
    pd.testing.assert_frame_equal(alike, expected)
    fov = known.preparation["fov_mm"]
    choice = SliceChoice(("axial", "coronal"), (0.0, 10.0), slices_per_plane=4, fov_mm=fov)
    by_hand = predict_files(old, [volume], settings=input_settings(old, slicing=choice)).images
    pd.testing.assert_frame_equal(by_hand, expected)
    with pytest.raises(SettingsError, match="name the planes with --planes"):
        input_settings(old, slicing=SliceChoice(fov_mm=100.0))


def test_a_classifier_of_pictures_refuses_volumes(place):
    classifier, _ = classifier_of(place / "pictures.zip")
    for given in (place / "volumes", place / "volumes" / "phantom000.nrrd"):
        with pytest.raises(SettingsError, match="was trained on pictures"):
            predict_files(classifier, [given])


def test_a_dicom_series_is_a_volume_and_one_file_of_it_is_not(place, tmp_path):
    pytest.importorskip("pydicom", reason="the extra dicom is not installed")
    from tests.extract.making import head_volume
    from tests.extract.test_dicom_series import write_series

    classifier, _ = classifier_of(place / "volumes.zip")
    write_series(tmp_path / "study" / "t1", (head_volume() * 200).astype(np.int16))
    config = input_settings(classifier).slices
    build_volume_archive(tmp_path / "study", tmp_path / "study.zip", config)
    expected = predict_files(classifier, [tmp_path / "study.zip"]).images
    for given, name in ((tmp_path / "study", "t1"), (tmp_path / "study" / "t1", "series-3")):
        found = predict_files(classifier, [given])
        assert found.volumes["volume"].tolist() == [name] and len(found.images) == len(expected)
        np.testing.assert_allclose(found.images["confidence"], expected["confidence"], atol=1e-6)
    with pytest.raises(SettingsError, match="give the folder that holds the whole series"):
        predict_files(classifier, [next((tmp_path / "study" / "t1").iterdir())])


def test_images_that_were_masked_afterwards_take_archives_alone(place):
    classifier, _ = classifier_of(place / "pictures.zip")
    known = {**classifier.preparation, "segment": {"keep": "lungs"}}
    classifier.provenance = Provenance(preparation=known)
    with pytest.raises(SettingsError, match="trained on images masked by"):
        predict_files(classifier, [place / "pictures"])
    assert len(predict_files(classifier, [place / "pictures.zip"]).images) == 4
    settings = input_settings(classifier, fit="crop")  # for pictures that are masked already
    assert len(predict_files(classifier, [place / "pictures"], settings=settings).images) == 4


def test_an_archive_of_another_size_is_refused_both_ways(place, tmp_path):
    classifier, _ = classifier_of(place / "pictures.zip")
    rule = SubjectRule(pattern=r"(?P<subject>\w+)\.")
    build_image_archive(place / "pictures", tmp_path / "large.zip", ImageConfig(64), rule)
    with pytest.raises(ClassifierError, match=r"expected images of shape \(1, 32, 32\)"):
        predict_files(classifier, [tmp_path / "large.zip"])
    with pytest.raises(ClassifierError, match="--like wants an archive made as the training's"):
        input_settings(classifier, like=tmp_path / "large.zip")


def test_unreadable_files_are_listed_and_the_others_judged(place, tmp_path):
    classifier, _ = classifier_of(place / "pictures.zip")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    Image.new("L", (32, 32), 100).save(tmp_path / "good.png")
    found = predict_files(classifier, [tmp_path])
    assert found.images["file"].tolist() == ["good.png"]
    assert [item.file for item in found.unreadable] == ["broken.png"]
    with pytest.raises(ClassifierError, match="1 files could not be read, the others were judged"):
        refuse_unreadable_inputs(found, skip=False)
    refuse_unreadable_inputs(found, skip=True)
    only = predict_files(classifier, [tmp_path / "broken.png"])
    with pytest.raises(ClassifierError, match="could not be read"):
        refuse_unreadable_inputs(only, skip=True)  # nothing is left


@pytest.mark.parametrize(
    ("name", "sentence"), [("none.png", "nothing there"), ("notes.txt", "expected a pict")]
)
def test_inputs_of_no_known_kind_end_in_a_sentence(place, tmp_path, name, sentence):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ExtractError, match=sentence):
        predict_files(classifier_of(place / "pictures.zip")[0], [tmp_path / name])


def test_below_the_threshold_the_decision_is_not_sure(place):
    classifier, images = classifier_of(place / "pictures.zip")
    confidence = classifier.predict_probs(images).max(axis=1)
    middle = float(np.median(confidence))
    rule = DecisionRule(
        classes=classifier.classes, thresholds={}, positive=None, reject_confidence=middle, wanted="coverage",
        target=0.5, risk=0.1, coverage=0.5, num_images=4, num_subjects=4,
    )  # fmt: skip
    for decide in (reject_below(middle), rule.decide):
        found = predict_files(classifier, [place / "pictures"], decide=decide).images
        assert ((found["decision"] == "not sure") == (confidence < middle)).all()
        assert (found["decision"] == "not sure").sum() == 2 and (found["class"] != "not sure").all()
    with pytest.raises(SettingsError, match=r"--reject-below must be in \[0, 1\]"):
        reject_below(1.5)


def test_images_unlike_the_training_are_marked(place, tmp_path):
    classifier, _ = classifier_of(place / "pictures.zip")
    Image.new("L", (32, 32), 250).save(tmp_path / "blank.png")
    found = predict_files(classifier, [tmp_path / "blank.png", place / "pictures"])
    assert "standard deviation of its gray levels 0" in found.images["unlike_training"][0]
    assert (found.images["unlike_training"][1:] == "").all()
    assert "1 of 5 images do not look like the training images" in found.notes[0]


def test_results_are_written_as_csv_or_json(place, tmp_path):
    classifier, _ = classifier_of(place / "volumes.zip")
    found = predict_files(classifier, [place / "volumes"])
    written = write_predictions(found, tmp_path / "out.csv")
    assert [path.name for path in written] == ["out.csv", "out-volumes.csv"]
    table = pd.read_csv(tmp_path / "out.csv")
    assert len(table) == len(found.images) and table["plane"].tolist() == found.images["plane"].tolist()
    write_predictions(found, tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["volumes"][1]["volume"] == "phantom001.nrrd"
    assert content["images"][0]["slice_index"] == 0 and content["unreadable"] == []
    with pytest.raises(SettingsError, match=r"must end in \.csv or \.json"):
        write_predictions(found, tmp_path / "out.txt")


def test_preparation_and_ranges_come_back_from_a_saved_run_and_older_ones_lack_them(place, tmp_path):
    classifier, _ = classifier_of(place / "volumes.zip")
    classifier.save(tmp_path)
    loaded = load_classifier(tmp_path)
    assert loaded.usual == classifier.usual
    assert input_settings(loaded) == input_settings(classifier)
    assert input_settings(loaded).slices.angles_deg == (0.0, 10.0)
    description = json.loads((tmp_path / "model.json").read_text())
    assert "left_out" not in description["preparation"]
    del description["preparation"], description["usual_inputs"]
    (tmp_path / "model.json").write_text(json.dumps(description))
    old = load_classifier(tmp_path)
    assert old.preparation is None and old.usual is None
    assert old.predict_probs(toy_table()).shape == (6, 3)
