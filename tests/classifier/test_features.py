"""Feature extractors: our own classifiers, and published networks built from their description."""

import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from classifier.config import ClassifierConfig
from classifier.errors import ClassifierError
from classifier.features import DINO_ARCH, INCEPTION_FILES, open_extractor, task_extractor
from classifier.inception import FidInception, MixedA, MixedB, MixedC, MixedD, MixedE, resize_as_tensorflow
from classifier.models import build_model
from classifier.preprocess import fit_preprocessing
from classifier.run import Classifier, Provenance
from classifier.vgg import WIDTHS, Vgg16
from classifier.weights import fill, read_weights
from extract.archive import file_sha256
from extract.errors import SettingsError
from tests.classifier.toys import CLASSES, toy_images


def save_classifier(run_dir: Path, arch: str, size: int = 16) -> Classifier:
    images = toy_images(24, seed=0, size=size)
    classifier = Classifier(
        build_model(arch, len(CLASSES), 1, (size, size), seed=3),
        CLASSES,
        ClassifierConfig(arch=arch, device="cpu"),
        fit_preprocessing(images.images),
        history=pd.DataFrame({"step": [1]}),
        train_subjects=["a", "b"],
        val_subjects=["c"],
        provenance=Provenance(archive_sha256="ab" * 32),
    )
    classifier.save(run_dir)
    return classifier


def toy_batch(size: int = 16) -> np.ndarray:
    return toy_images(6, seed=1, size=size).images.gather(np.arange(6))


@pytest.mark.parametrize(("arch", "head", "width"), [("small_resnet", "head", 96), ("resnet10t", "fc", 512)])
def test_task_features_are_what_the_last_layer_decides_by(tmp_path, arch, head, width):
    classifier = save_classifier(tmp_path, arch)
    extractor = task_extractor(tmp_path, "cpu")
    features = extractor.features(toy_batch())
    assert features.shape == (6, width) and features.dtype == np.float32
    layer = getattr(classifier.model, head)
    logits = layer(torch.from_numpy(features)).detach().numpy()
    np.testing.assert_allclose(logits, classifier.predict_logits(toy_images(6, seed=1).images), atol=1e-5)


def test_a_task_extractor_says_whom_it_learned_from_and_which_weights_it_is(tmp_path):
    save_classifier(tmp_path, "small_resnet")
    extractor = task_extractor(tmp_path, "cpu")
    assert (extractor.name, extractor.train_subjects, extractor.val_subjects) == ("task", ("a", "b"), ("c",))
    assert extractor.archive_sha256 == "ab" * 32
    assert extractor.weights_sha256 == file_sha256(tmp_path / "model.safetensors")


def test_task_distances_are_those_of_the_features_and_leave_the_images_alone(tmp_path):
    save_classifier(tmp_path, "small_resnet")
    extractor = task_extractor(tmp_path, "cpu")
    first, second = toy_batch()[:3], toy_batch()[3:]
    expected = np.square(extractor.features(first) - extractor.features(second)).sum(axis=1)
    a, b = first.astype(np.float32), second.astype(np.float32)
    np.testing.assert_allclose(extractor.squared_distances(a, b), expected, rtol=1e-4)
    np.testing.assert_array_equal(a, first)


def test_inception_has_the_names_and_shapes_of_torchvision():
    from torchvision.models import inception_v3

    with torch.device("meta"):
        theirs = inception_v3(weights=None, aux_logits=False, num_classes=1008, init_weights=False)
        ours = FidInception()
    expected = {name: value.shape for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in ours.state_dict().items()} == expected


def test_blocks_that_do_not_differ_from_torchvision_give_its_outputs():
    from torchvision.models import inception

    torch.manual_seed(0)
    for ours, theirs, width, same in (
        (MixedA(64, 32), inception.InceptionA(64, 32), 64, 224),  # all but the averages at the border
        (MixedB(64), inception.InceptionB(64), 64, None),
        (MixedC(64, 32), inception.InceptionC(64, 32), 64, 576),
        (MixedD(64), inception.InceptionD(64), 64, None),
        (MixedE(64, takes_maximum=True), inception.InceptionE(64), 64, 1856),
    ):
        ours.load_state_dict(theirs.state_dict())
        x = torch.randn(1, width, 9, 9)
        with torch.no_grad():
            mine, reference = ours.eval()(x), theirs.eval()(x)
        torch.testing.assert_close(mine[:, :same], reference[:, :same])
        if same is not None:  # the pooling branch is where the two networks differ
            assert (mine[:, same:] != reference[:, same:]).any()


def test_averages_leave_padding_out_and_the_last_block_takes_the_maximum():
    ones = torch.ones(1, 1, 3, 3)
    with torch.no_grad():
        for block, expected in ((MixedE(1, takes_maximum=False), 1.0), (MixedE(1, takes_maximum=True), 1.0)):
            torch.nn.init.ones_(block.branch_pool.conv.weight)
            pooled = block.eval()(ones)[:, -192:]
            torch.testing.assert_close(pooled, torch.full_like(pooled, expected), atol=1e-3, rtol=0)
        corner = torch.zeros(1, 1, 3, 3)
        corner[0, 0, 0, 0] = 4.0
        mean, largest = (
            _filled(MixedE(1, takes_maximum=takes)).eval()(corner)[0, -1, 0, 0] for takes in (False, True)
        )
    assert (float(mean), float(largest)) == pytest.approx((1.0, 4.0), abs=0.01)


def _filled(block: MixedE) -> MixedE:
    torch.nn.init.ones_(block.branch_pool.conv.weight)
    return block


def test_resizing_reads_from_the_corner_as_tensorflow_did():
    row = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    torch.testing.assert_close(resize_as_tensorflow(row, 4)[0, 0, 0], torch.tensor([0.0, 0.5, 1.0, 1.0]))
    image = torch.rand(2, 3, 7, 7)
    torch.testing.assert_close(resize_as_tensorflow(image, 7), image)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in FidInception().state_dict().items()}
    random = torch.Generator().manual_seed(0)
    state = {
        name: torch.ones(shape)
        if name.endswith("running_var")
        else torch.empty(shape).normal_(0, 0.05, generator=random)
        for name, shape in shapes.items()
        if not name.endswith("num_batches_tracked")
    }
    torch.save(state | {"AuxLogits.fc.weight": torch.zeros(2, 2)}, path)
    return path


def test_inception_takes_grey_as_colour_and_gives_features_and_probabilities(inception_file):
    extractor = open_extractor("inception", inception_file, "cpu")
    grey = toy_batch()[:2]
    features = extractor.features(grey)
    assert features.shape == (2, 2048) and features.dtype == np.float32
    np.testing.assert_array_equal(features, extractor.features(np.repeat(grey, 3, axis=1)))
    probs = extractor.class_probs(grey)
    assert probs.shape == (2, 1008)
    np.testing.assert_allclose(probs.sum(axis=1), 1, atol=1e-5)
    logits = features @ extractor.model.fc.weight.numpy().T  # without the bias
    np.testing.assert_allclose(probs, torch.from_numpy(logits).softmax(dim=1).numpy(), atol=1e-6)


def test_weights_are_found_in_the_cache_folder(inception_file, tmp_path, monkeypatch):
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(ClassifierError, match=r"pt_inception.*\.pth.*extractors, .*checkpoints, got none"):
        open_extractor("inception", None, "cpu")
    (tmp_path / "torch" / "hub" / "checkpoints").mkdir(parents=True)
    os.link(inception_file, tmp_path / "torch" / "hub" / "checkpoints" / INCEPTION_FILES[0])
    extractor = open_extractor("inception", None, "cpu")
    assert extractor.weights_sha256 == file_sha256(inception_file)


def test_vgg_has_the_names_of_torchvision_and_its_convolutions():
    from torchvision.models import vgg

    with torch.device("meta"):
        ours, theirs = Vgg16(), vgg.vgg16(weights=None, init_weights=False)
    expected = {name: value.shape for name, value in theirs.state_dict().items()}
    assert {name: value.shape for name, value in ours.state_dict().items()} == expected

    assert ours(torch.zeros(2, 3, 32, 32, device="meta")).shape == (2, 4096)
    torch.manual_seed(0)
    reference = vgg.make_layers(vgg.cfgs["D"], batch_norm=False)
    ours.features.to_empty(device="cpu").load_state_dict(reference.state_dict())
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours.features(x), reference(x))


def test_the_vgg_distance_adds_up_stages_of_unit_features(tmp_path):
    extractor = open_extractor("vgg16", write_vgg(tmp_path / "vgg.pth"), "cpu")
    images = toy_batch(32).astype(np.float32)
    first, second = images[:2], images[2:4]
    expected = np.zeros(2)
    x, y = (torch.from_numpy(side).expand(-1, 3, -1, -1) / 255 for side in (first, second))
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)
    std = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    x, y = (x - mean) / std, (y - mean) / std
    position = 0
    with torch.no_grad():
        for stage in WIDTHS:
            for _ in range(2 * len(stage)):
                x, y = extractor.model.features[position](x), extractor.model.features[position](y)
                position += 1
            unit_x, unit_y = (side / side.square().sum(1, keepdim=True).sqrt() for side in (x, y))
            expected += (unit_x - unit_y).square().sum(dim=1).mean(dim=(1, 2)).numpy()
            x, y = (torch.nn.functional.max_pool2d(side, 2) for side in (x, y))
            position += 1
    np.testing.assert_allclose(extractor.squared_distances(first, second), expected, rtol=1e-3)
    assert extractor.squared_distances(first, first).tolist() == [0, 0]


def write_vgg(path: Path) -> Path:
    """Random convolutions; the big dense layers are one number each, which a file need not repeat."""
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in Vgg16().state_dict().items()}
    weights = {
        name: torch.randn(shape) * 0.1 if name.startswith("features") else torch.full([1], 1e-4).expand(shape)
        for name, shape in shapes.items()
    }
    torch.save(weights, path)
    return path


def test_dinov2_is_read_from_the_local_hub_cache_and_fitted_to_its_size(tmp_path, monkeypatch):
    import timm

    with torch.device("meta"):
        published = timm.create_model(DINO_ARCH, pretrained=False, num_classes=0).state_dict()  # for 518 px
    random = torch.Generator().manual_seed(0)
    weights = {
        name: torch.empty(value.shape).normal_(0, 0.02, generator=random) for name, value in published.items()
    }
    snapshot = tmp_path / f"models--timm--{DINO_ARCH}" / "snapshots" / "0123"
    snapshot.mkdir(parents=True)
    save_file(weights, snapshot / "model.safetensors")
    for name, value in (("HF_HUB_CACHE", tmp_path), ("SYNTHLABEL_CACHE", tmp_path), ("TORCH_HOME", tmp_path)):
        monkeypatch.setenv(name, str(value))
    extractor = open_extractor("dinov2", None, "cpu")
    features = extractor.features(toy_batch()[:2])
    assert features.shape == (2, 384) and np.isfinite(features).all()
    assert (features[0] != features[1]).any()


def test_torchscript_is_refused_because_it_carries_code(tmp_path):
    path = tmp_path / "inception-2015-12-05.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path)
    with pytest.raises(ClassifierError, match=r"TorchScript.*pt_inception-2015-12-05-6726825d\.pth"):
        open_extractor("inception", path, "cpu")


class Hostile:
    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self):
        return (os.mkdir, (str(self.trap),))


@pytest.mark.parametrize("as_zip", [False, True])
def test_a_pickle_that_would_run_code_is_refused_and_not_run(tmp_path, as_zip):
    path, trap = tmp_path / "weights.pth", tmp_path / "trap"
    if as_zip:
        torch.save({"fc.weight": Hostile(trap)}, path)
    else:
        path.write_bytes(pickle.dumps({"fc.weight": Hostile(trap)}))
    with pytest.raises(ClassifierError, match="expected a state dict that holds tensors alone"):
        read_weights(path)
    assert not trap.exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            {"weight": torch.zeros(3, 2)},
            r"weights of Linear, got weight of shape \(3, 2\) instead of \(2, 2\)",
        ),
        ({"extra": torch.zeros(1)}, "unknown extra"),
        ({"bias": None}, "got no bias"),
        ({"bias": torch.full([2], float("nan"))}, "expected finite weights"),
    ],
)
def test_weights_of_another_network_are_refused_by_name(tmp_path, change, sentence):
    network = torch.nn.Linear(2, 2)
    state = network.state_dict() | change
    with pytest.raises(ClassifierError, match=sentence):
        fill(network, {name: value for name, value in state.items() if value is not None}, tmp_path / "a.pth")


def test_names_and_paths_that_lead_nowhere_are_said(tmp_path):
    with pytest.raises(
        SettingsError, match="expected one of task, inception, vgg16, dinov2 or pixels, got 'x'"
    ):
        open_extractor("x", None, "cpu")
    with pytest.raises(SettingsError, match="give --extractor task=RUN"):
        open_extractor("task", None, "cpu")
    with pytest.raises(ClassifierError, match="expected a file of weights, got nothing there"):
        open_extractor("vgg16", tmp_path / "none.pth", "cpu")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(b"cut")
    with pytest.raises(ClassifierError, match="expected weights as safetensors"):
        open_extractor("vgg16", cut, "cpu")
