"""One picture on every way from its file to probabilities: training's batches, predict, ONNX."""

import numpy as np
import pytest
import torch
from PIL import Image

from classifier.batches import ValidationBatches
from classifier.calibration import scale_logits
from classifier.data import ImageTable, LabeledImages
from classifier.predict import predict_files
from classifier.preparation import kept_settings
from classifier.run import Provenance, load_classifier
from extract.archive import open_archive
from extract.cache import open_images
from extract.images import ImageConfig, SubjectRule, build_image_archive
from extract.preprocessing import PRESETS
from tests.classifier.served import untrained

ONNX_BY_DEFAULT = ("pneumonia-backbone",)  # has steps and scales by image; each takes seconds


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Three pictures of different shapes and kinds, and the archive that a training would read."""
    folder = tmp_path_factory.mktemp("one-path")
    rng = np.random.default_rng(5)
    y, x = np.mgrid[0:90, 0:120]
    shades = 120 + 80 * np.sin(x / 9) * np.cos(y / 13) + rng.normal(0, 12, x.shape)
    gray = np.clip(shades, 0, 255).astype(np.uint8)
    for name in ("flat", "horizontal", "vertical"):
        (folder / "pictures" / name).mkdir(parents=True)
    Image.fromarray(gray).save(folder / "pictures" / "flat" / "s1.jpg", quality=85)
    deep = Image.fromarray(gray[:, :70].astype(np.uint16) * 200)
    deep.save(folder / "pictures" / "horizontal" / "s2.png")
    color = np.stack([gray, gray[::-1], gray[:, ::-1]], axis=2)
    Image.fromarray(color).save(folder / "pictures" / "vertical" / "s3.png")
    rule = SubjectRule(pattern=r"(?P<subject>s\d)")
    build_image_archive(folder / "pictures", folder / "made.zip", ImageConfig(64, fit="pad"), rule)
    return folder


@pytest.mark.parametrize(
    ("preset", "with_onnx"),
    [(name, name in ONNX_BY_DEFAULT) for name in PRESETS]
    + [pytest.param(name, True, marks=pytest.mark.slow) for name in PRESETS if name not in ONNX_BY_DEFAULT],
)
def test_all_ways_give_one_image_the_same_probabilities(pictures, preset, with_onnx, tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(tmp_path / "cache"))
    with open_archive(pictures / "made.zip") as archive:
        images, labels, subjects = open_images(archive), archive.labels, archive.subjects
        known = Provenance(preparation=kept_settings(archive.preparation))
    table = ImageTable(images)
    untrained(table, steps=PRESETS[preset], provenance=known).save(tmp_path / "run")
    classifier = load_classifier(tmp_path / "run")

    data = LabeledImages(table, labels, subjects, np.full(3, "real"), np.zeros(3, bool))
    batches = ValidationBatches(data, 3, classifier.preprocessing, torch.device("cpu"))
    with torch.inference_mode():
        logits = np.concatenate([classifier.model(batch[0]).numpy() for batch in batches])
    in_training = scale_logits(logits, classifier.temperature)

    found = predict_files(classifier, [pictures / "pictures"])
    columns = [f"p_{name}" for name in classifier.classes]
    np.testing.assert_allclose(found.images[columns].to_numpy(), in_training, atol=1e-5)
    alone = predict_files(classifier, [pictures / "pictures" / "horizontal" / "s2.png"])
    np.testing.assert_allclose(alone.images[columns].to_numpy()[0], in_training[1], atol=1e-5)
    np.testing.assert_allclose(classifier.predict_probs(table), in_training, atol=1e-5)
    assert np.ptp(in_training, axis=0).max() > 1e-3  # the images do differ

    if with_onnx:
        pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
        from classifier.export import export_onnx
        from classifier.onnx_model import OnnxModel

        export_onnx(tmp_path / "run", tmp_path / "model.onnx", images=table)
        exported = predict_files(OnnxModel.load(tmp_path / "model.onnx"), [pictures / "pictures"])
        np.testing.assert_allclose(exported.images[columns].to_numpy(), in_training, atol=1e-4)
