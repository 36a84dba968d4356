"""Published weights: files saved from untrained networks stand in for what a hub would give."""

import re
import time

import pytest
import torch
from safetensors.torch import save_file

from classifier.errors import ClassifierError
from classifier.models import build_model
from classifier.stages import head_parameters

SIZE = (64, 64)


def published_net(arch, num_classes):
    import timm  # not at the top: classifier has to be imported before it

    return timm.create_model(arch, num_classes=num_classes)


def saved(path, model):
    """A safetensors file of a network, or a state dict as torch saves it."""
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


def body_of(model) -> dict[str, torch.Tensor]:
    heads = {id(parameter) for parameter in head_parameters(model)}
    in_head = {name for name, parameter in model.named_parameters() if id(parameter) in heads}
    return {name: value for name, value in model.state_dict().items() if name not in in_head}


@pytest.mark.parametrize("name", ["w.safetensors", "w.pth"])
def test_a_file_of_the_network_fills_its_body_and_leaves_its_head_to_the_seed(tmp_path, name):
    published = published_net("resnet10t", num_classes=1000)
    path = saved(tmp_path / name, published)
    model = build_model("resnet10t", 3, 3, SIZE, weights=path, seed=1)
    theirs = published.state_dict()
    assert all(torch.equal(value, theirs[key]) for key, value in body_of(model).items())
    again = build_model("resnet10t", 3, 3, SIZE, weights=path, seed=1)
    assert torch.equal(model.fc.weight, again.fc.weight) and model.fc.weight.shape == (3, 512)
    assert not torch.equal(
        model.fc.weight, build_model("resnet10t", 3, 3, SIZE, weights=path, seed=2).fc.weight
    )


def test_colour_kernels_fold_into_one_channel_so_that_gray_looks_as_it_did_in_colour(tmp_path):
    published = published_net("resnet10t", num_classes=5).eval()
    path = saved(tmp_path / "w.safetensors", published)
    gray = build_model("resnet10t", 3, 1, SIZE, weights=path).eval()
    x = torch.rand(2, 1, *SIZE)
    with torch.inference_mode():
        torch.testing.assert_close(
            gray.forward_features(x),
            published.forward_features(x.expand(-1, 3, -1, -1)),
            atol=1e-4,
            rtol=1e-4,
        )


def test_as_many_published_classes_as_ours_are_left_out_all_the_same(tmp_path):
    published = published_net("resnet10t", num_classes=3)
    model = build_model("resnet10t", 3, 3, SIZE, weights=saved(tmp_path / "w.safetensors", published))
    assert not torch.equal(model.fc.weight, published.fc.weight)


def test_a_file_without_a_classifier_fits(tmp_path):
    published = published_net("resnet10t", num_classes=0)
    model = build_model("resnet10t", 3, 3, SIZE, weights=saved(tmp_path / "w.safetensors", published))
    assert torch.equal(model.conv1[0].weight, published.conv1[0].weight)


def test_one_channel_weights_of_our_own_run_go_into_another_run(tmp_path):
    before = build_model("resnet10t", 4, 1, SIZE, head=(8,), dropout=0.1, seed=5)
    model = build_model("resnet10t", 3, 1, SIZE, weights=saved(tmp_path / "model.safetensors", before))
    assert torch.equal(model.conv1[0].weight, before.conv1[0].weight)


def test_a_transformer_takes_weights_of_another_image_size(tmp_path):
    published = published_net("vit_tiny_patch16_224", num_classes=7)
    model = build_model(
        "vit_tiny_patch16_224", 3, 1, SIZE, weights=saved(tmp_path / "w.safetensors", published)
    )
    assert model.pos_embed.shape == (1, 4 * 4 + 1, 192)
    assert torch.equal(model.blocks[3].attn.qkv.weight, published.blocks[3].attn.qkv.weight)
    assert torch.equal(model.pos_embed[:, 0], published.pos_embed[:, 0])


def test_torchvisions_names_are_read_as_well(tmp_path):
    from torchvision.models import densenet121

    published = densenet121()
    # As it was published: with dots in the names that Python no longer allows.
    state = {
        re.sub(r"(norm|relu|conv)(\d)\.(?=(weight|bias|running|num))", r"\1.\2.", name)
        if "denselayer" in name
        else name: value
        for name, value in published.state_dict().items()
    }
    torch.save(state, tmp_path / "w.pth")
    model = build_model("densenet121", 3, 3, SIZE, weights=tmp_path / "w.pth")
    layer = "features.denseblock2.denselayer3.conv2.weight"
    assert torch.equal(model.state_dict()[layer], published.state_dict()[layer])
    assert model.classifier.out_features == 3


def test_inception_takes_torchvisions_file_with_its_second_classifier(tmp_path):
    from torchvision.models import inception_v3

    published = inception_v3(init_weights=False)
    path = saved(tmp_path / "w.pth", published)
    model = build_model("inception_v3", 3, 3, (75, 75), weights=path)
    assert torch.equal(model.Mixed_7c.branch1x1.conv.weight, published.Mixed_7c.branch1x1.conv.weight)


def test_a_file_that_wraps_its_state_dict_is_unwrapped(tmp_path):
    published = published_net("resnet10t", num_classes=5)
    wrapped = {f"module.{name}": value for name, value in published.state_dict().items()}
    torch.save({"state_dict": wrapped, "epoch": 3}, tmp_path / "w.pth")
    model = build_model("resnet10t", 3, 3, SIZE, weights=tmp_path / "w.pth")
    assert torch.equal(model.conv1[0].weight, published.conv1[0].weight)


@pytest.mark.parametrize(
    ("arch", "other", "message"),
    [
        ("resnet10t", "resnet14t", r"expected the weights of resnet10t, got .*unknown layer1\.0\.conv3"),
        ("resnet10t", "mobilenetv3_small_050", "expected the weights of resnet10t, got"),
        ("inception_v3", "resnet10t", "expected the weights of inception_v3, got no Conv2d"),
        (
            "lung_convnet_1",
            "small_resnet",
            "expected the weights of lung_convnet_1, got no blocks.0.0.weight",
        ),
        ("lung_convnet_1", "lung_convnet_3", r"got blocks\.0\.0\.weight of shape \(64, 1, 3, 3\) instead of"),
    ],
)
def test_weights_of_another_network_are_refused_by_what_does_not_fit(tmp_path, arch, other, message):
    size = (75, 75)
    path = saved(tmp_path / "w.safetensors", build_model(other, 3, 1, size))
    with pytest.raises(ClassifierError, match=message):
        build_model(arch, 3, 1, size, weights=path)


def test_damaged_numbers_are_refused(tmp_path):
    published = published_net("resnet10t", num_classes=5)
    with torch.no_grad():
        published.layer2[0].conv1.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(ClassifierError, match=r"layer2\.0\.conv1\.weight that is not finite"):
        build_model("resnet10t", 3, 3, SIZE, weights=saved(tmp_path / "w.safetensors", published))


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(ClassifierError, match=r"nowhere\.pth"):
        build_model("resnet10t", 3, 3, SIZE, weights=tmp_path / "nowhere.pth")


@pytest.mark.parametrize("arch", ["small_resnet", "lung_convnet_2"])
def test_a_run_of_our_own_network_goes_into_another_run(tmp_path, arch):
    before = build_model(arch, 4, 1, SIZE, head=(8,), dropout=0.1, seed=5)
    path = saved(tmp_path / "model.safetensors", before)
    model = build_model(arch, 3, 1, SIZE, weights=path, seed=6)
    theirs = before.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in body_of(model).items())
    assert torch.equal(model.head.weight, build_model(arch, 3, 1, SIZE, seed=6).head.weight)


def test_without_a_network_the_answer_comes_within_seconds_and_names_the_way_out(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    unreachable = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", unreachable)
    start = time.monotonic()
    with pytest.raises(
        ClassifierError, match=r"resnet18 could not be fetched \(ConnectError\).*--weights FILE"
    ):
        build_model("resnet18", 2, 1, SIZE, pretrained=True)
    assert time.monotonic() - start < 10


def test_what_lies_in_the_hubs_cache_needs_no_network(monkeypatch, tmp_path):
    published = published_net("resnet10t", num_classes=1000)
    snapshot = tmp_path / "models--timm--resnet10t.c3_in1k" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    saved(snapshot / "model.safetensors", published)
    refs = tmp_path / "models--timm--resnet10t.c3_in1k" / "refs"
    refs.mkdir()
    (refs / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    model = build_model("resnet10t", 3, 3, SIZE, pretrained=True)
    assert torch.equal(model.conv1[0].weight, published.conv1[0].weight)
