import errno
import json

import numpy as np
import pytest

from classifier.config import ClassifierConfig
from classifier.errors import ClassifierError
from classifier.run import Provenance, load_classifier
from classifier.training import train_classifier
from extract.preprocessing import PRESETS
from tests.classifier.toys import CLASSES, toy_images


@pytest.fixture(scope="module")
def classifier():
    config = ClassifierConfig(steps=4, batch_size=16, validate_every=2, lr=5e-3)
    provenance = Provenance("a" * 64, "b" * 64, 1, 0.2)
    return train_classifier(
        toy_images(24, seed=1), toy_images(12, seed=2), CLASSES, config, provenance=provenance
    )


@pytest.fixture
def run_dir(classifier, tmp_path):
    classifier.save(tmp_path)
    return tmp_path


def test_a_saved_classifier_gives_the_same_logits(classifier, run_dir):
    images = toy_images(30, seed=3).images
    loaded = load_classifier(run_dir)
    assert np.array_equal(loaded.predict_logits(images), classifier.predict_logits(images))
    assert np.array_equal(loaded.predict_probs(images), classifier.predict_probs(images))


def test_everything_about_it_comes_back(classifier, run_dir):
    loaded = load_classifier(run_dir)
    for name in (
        "classes",
        "config",
        "preprocessing",
        "temperature",
        "provenance",
        "train_subjects",
        "val_subjects",
    ):
        assert getattr(loaded, name) == getattr(classifier, name), name
    assert loaded.train_subjects == tuple(sorted(f"s1-{number}" for number in range(12)))
    assert loaded.history["step"].tolist() == [2, 4]


def test_a_run_holds_no_pickle(run_dir):
    assert sorted(path.name for path in run_dir.iterdir()) == [
        "history.csv",
        "model.json",
        "model.safetensors",
    ]


def test_probabilities_use_the_temperature(classifier):
    images = toy_images(9, seed=4).images
    logits = classifier.predict_logits(images).astype(np.float64) / classifier.temperature
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(classifier.predict_probs(images), expected, atol=1e-12)


def test_batching_does_not_change_the_scores(classifier):
    images = toy_images(10, seed=5).images
    np.testing.assert_allclose(
        classifier.predict_logits(images, batch_size=3), classifier.predict_logits(images), atol=1e-5
    )


def test_images_of_another_size_are_refused(classifier):
    with pytest.raises(ClassifierError, match=r"expected uint8 images of shape .* \(1, 16, 16\)"):
        classifier.predict_logits(toy_images(3, seed=1, size=32).images)


def test_a_missing_run_is_one_sentence(tmp_path):
    with pytest.raises(ClassifierError, match=r"model\.json does not exist: give the folder"):
        load_classifier(tmp_path / "nowhere")


def test_missing_weights_are_one_sentence(run_dir):
    (run_dir / "model.safetensors").unlink()
    with pytest.raises(ClassifierError, match="the run is incomplete"):
        load_classifier(run_dir)


@pytest.mark.parametrize("keep", [0, 5, 400])
def test_cut_weights_are_one_sentence(run_dir, keep):
    path = run_dir / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ClassifierError, match="the weights cannot be read"):
        load_classifier(run_dir)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 99}'])
def test_a_damaged_description_is_one_sentence(run_dir, text):
    (run_dir / "model.json").write_text(text)
    with pytest.raises(ClassifierError, match=r"model\.json: expected"):
        load_classifier(run_dir)


def test_a_description_without_an_entry_says_which(run_dir):
    path = run_dir / "model.json"
    description = json.loads(path.read_text())
    del description["temperature"]
    path.write_text(json.dumps(description))
    with pytest.raises(ClassifierError, match="an entry is missing or malformed \\('temperature'\\)"):
        load_classifier(run_dir)


def test_weights_of_another_network_are_refused(classifier, run_dir):
    path = run_dir / "model.json"
    description = json.loads(path.read_text())
    description["classes"].append("fourth")
    path.write_text(json.dumps(description))
    with pytest.raises(ClassifierError, match="do not fit the architecture"):
        load_classifier(run_dir)


def test_new_weights_never_stand_beside_an_old_description(classifier, run_dir, monkeypatch):
    # It names the subjects seen: beside other weights it would let a leak through.
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("classifier.run.write_text", interrupt)
    with pytest.raises(KeyboardInterrupt):
        classifier.save(run_dir)
    with pytest.raises(ClassifierError, match="give the folder of a finished"):
        load_classifier(run_dir)


def test_a_full_disk_is_an_error_of_the_system_and_keeps_the_run(classifier, run_dir, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        classifier.save(run_dir)
    monkeypatch.undo()
    assert load_classifier(run_dir).classes == classifier.classes
    assert not list(run_dir.glob(".*"))


@pytest.mark.parametrize("name", ["plain", "pneumonia-backbone", "brain-planes"])
def test_steps_are_alike_in_training_in_memory_and_read_back(name, tmp_path):
    config = ClassifierConfig(steps=4, batch_size=8, validate_every=2, preprocessing=PRESETS[name])
    train, val = toy_images(24, seed=1), toy_images(12, seed=2)
    trained = train_classifier(train, val, CLASSES, config)
    trained.save(tmp_path / "run")
    again = load_classifier(tmp_path / "run")
    assert again.preprocessing == trained.preprocessing and again.config == config
    assert np.array_equal(again.predict_logits(val.images), trained.predict_logits(val.images))
    alone = [again.predict_logits(val.images.subset(np.array([k]))) for k in range(12)]
    np.testing.assert_allclose(np.concatenate(alone), again.predict_logits(val.images), atol=1e-5)


def test_a_model_of_the_first_preprocessing_reads_and_predicts_as_ever(classifier, run_dir):
    path = run_dir / "model.json"
    description = json.loads(path.read_text())
    written = description["preprocessing"]
    assert written.pop("version") == 2 and written.pop("steps")["normalize"] == "dataset"
    description["preprocessing"] = {**written, "version": 1, "resize": None}
    del description["config"]["preprocessing"]
    path.write_text(json.dumps(description))
    images = toy_images(12, seed=5).images
    assert np.array_equal(load_classifier(run_dir).predict_logits(images), classifier.predict_logits(images))
