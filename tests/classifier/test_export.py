import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from classifier.errors import ClassifierError
from classifier.export import export_onnx
from classifier.onnx_model import OnnxModel
from classifier.predict import predict_files
from classifier.run import Provenance
from extract.errors import SettingsError
from extract.preprocessing import PreprocessConfig
from tests.classifier.served import toy_table, untrained

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A run whose input is made smaller and equalized first, and its ONNX file."""
    folder = tmp_path_factory.mktemp("onnx")
    images = toy_table()
    steps = PreprocessConfig(clahe_clip=2.0, size=24, normalize="image")
    known = Provenance(archive_sha256="a" * 64, preparation={"kind": "images", "size": 32, "fit": "squash"})
    classifier = untrained(images, steps=steps, provenance=known)
    classifier.train_subjects = ("Jane Doe",)
    classifier.save(folder / "run")
    summary = export_onnx(folder / "run", folder / "model.onnx", images=images)
    return folder, classifier, images, summary


def test_the_file_computes_what_pytorch_computes(exported):
    folder, classifier, images, summary = exported
    model = OnnxModel.load(folder / "model.onnx")
    for number in (1, 2, 5):  # the batch is free
        part = images.subset(np.arange(number))
        np.testing.assert_allclose(model.predict_probs(part), classifier.predict_probs(part), atol=1e-5)
        np.testing.assert_allclose(model.predict_logits(part), classifier.predict_logits(part), atol=1e-4)
    assert summary.largest_difference < 1e-5 and summary.num_checked == 18


def test_the_description_says_all_that_a_program_needs_and_names_nobody(exported):
    folder, classifier, _, _ = exported
    written = json.loads((folder / "model.json").read_text())
    model = OnnxModel.load(folder / "model.onnx")
    assert model.classes == classifier.classes and model.temperature == classifier.temperature
    assert written["input"]["shape"] == ["N", 1, 24, 24] and "CLAHE 2" in written["input"]["meaning"]
    assert written["preprocessing"]["steps"]["clahe_clip"] == 2.0
    assert written["check"]["largest_probability_difference"] < 1e-5
    assert {name: written[name] for name in model.description} == model.description
    assert b"Jane Doe" not in (folder / "model.onnx").read_bytes() and "Jane" not in json.dumps(written)


def test_files_are_judged_by_the_exported_model_as_by_the_run(exported, tmp_path):
    from PIL import Image

    folder, classifier, _, _ = exported
    noise = np.random.default_rng(1).integers(0, 256, (20, 50)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "wide.png")
    ours = predict_files(classifier, [tmp_path / "wide.png"]).images
    theirs = predict_files(OnnxModel.load(folder / "model.onnx"), [tmp_path / "wide.png"]).images
    assert theirs["class"].tolist() == ours["class"].tolist()
    np.testing.assert_allclose(theirs["confidence"], ours["confidence"], atol=1e-5)


def test_serving_needs_no_pytorch(exported):
    folder, *_ = exported
    code = (
        "import sys, numpy as np\n"
        "from classifier.onnx_model import OnnxModel\nfrom classifier.data import ImageTable\n"
        "from classifier.predict import predict_files\n"
        f"model = OnnxModel.load({str(folder / 'model.onnx')!r})\n"
        "print(model.predict_probs(ImageTable(np.zeros((1, 1, 32, 32), np.uint8))).sum())\n"
        "assert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_views_and_sigmoids_are_part_of_the_file(tmp_path):
    images = toy_table()
    classifier = untrained(images, loss="binary", tta=2, mirror=True)
    plain = untrained(images, loss="binary")
    classifier.save(tmp_path / "run")
    export_onnx(tmp_path / "run", tmp_path / "model.onnx")
    probs = OnnxModel.load(tmp_path / "model.onnx").predict_probs(images)
    np.testing.assert_allclose(probs, classifier.predict_probs(images), atol=1e-5)
    assert np.abs(probs - plain.predict_probs(images)).max() > 1e-4


def test_a_difference_beyond_the_tolerance_leaves_no_file(exported, tmp_path, monkeypatch):
    folder, *_ = exported
    written = (folder / "model.onnx").read_bytes()  # the same network, without the seconds of its export
    monkeypatch.setattr("classifier.export._write_model", lambda _, __, path: path.write_bytes(written))
    with pytest.raises(ClassifierError, match=r"differs from PyTorch by .* \(tolerance 0\)"):
        export_onnx(folder / "run", tmp_path / "model.onnx", tolerance=0.0)
    assert not list(tmp_path.iterdir())


def test_names_and_files_that_are_there_are_refused_before_any_work(exported, tmp_path):
    folder, *_ = exported
    with pytest.raises(SettingsError, match=r"must end in \.onnx"):
        export_onnx(folder / "run", tmp_path / "model.bin")
    with pytest.raises(ClassifierError, match="already exists and is left alone"):
        export_onnx(folder / "run", folder / "model.onnx")


def test_files_of_others_and_damaged_ones_are_refused(exported, tmp_path):
    folder, *_ = exported
    import onnx

    model = onnx.load(folder / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    (tmp_path / "damaged.onnx").write_bytes((folder / "model.onnx").read_bytes()[:5000])
    with pytest.raises(ClassifierError, match="whose description is missing or malformed"):
        OnnxModel.load(tmp_path / "foreign.onnx")
    with pytest.raises(ClassifierError, match="got a file that cannot be read"):
        OnnxModel.load(tmp_path / "damaged.onnx")


def test_images_resized_in_the_first_versions_way_are_not_exported(tmp_path):
    images = toy_table()
    classifier = untrained(images)
    classifier.preprocessing = replace(classifier.preprocessing, version=1, resize=16)
    classifier.save(tmp_path / "run")
    with pytest.raises(ClassifierError, match="train it again"):
        export_onnx(tmp_path / "run", tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize(
    "arch", ["resnet18", "vit_tiny_patch16_224", "convnext_atto", "densenet121", "mobilenetv3_small_050"]
)
def test_networks_of_timm_are_exported(arch, tmp_path):
    images = toy_table(size=64)
    classifier = untrained(images, arch)
    classifier.save(tmp_path / "run")
    assert export_onnx(tmp_path / "run", tmp_path / "model.onnx").largest_difference < 1e-5
