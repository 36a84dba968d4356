import pytest
import torch

from classifier.errors import ClassifierError
from classifier.models import OWN_NETWORKS, build_model, choose_device
from classifier.network import OwnNetwork, penultimate
from classifier.stages import body_stages, head_parameters
from extract.errors import SettingsError


def test_the_small_net_is_small_and_takes_gray_and_rgb_of_any_size():
    for channels, size in ((1, 16), (3, 28), (1, 64)):
        model = build_model("small_resnet", 4, channels, (size, size))
        assert 100_000 < sum(parameter.numel() for parameter in model.parameters()) < 300_000
        assert model(torch.zeros(2, channels, size, size)).shape == (2, 4)


def test_initial_weights_follow_from_the_seed_alone_and_disturb_nobody():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = build_model("small_resnet", 2, 1, (16, 16), seed=1).stem.weight
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(build_model("small_resnet", 2, 1, (16, 16), seed=1).stem.weight, first)
    assert not torch.equal(build_model("small_resnet", 2, 1, (16, 16), seed=2).stem.weight, first)


@pytest.mark.parametrize("arch", ["resnet10t", "vit_tiny_patch16_224"])
def test_timm_networks_take_one_channel_and_the_given_size(arch):
    model = build_model(arch, 3, 1, (32, 32)).eval()
    with torch.inference_mode():
        assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 3)


@pytest.mark.parametrize("name", ["gpu", "cuda:99:1", "tpu"])
def test_a_device_that_does_not_exist_is_refused(name):
    with pytest.raises(SettingsError, match=r"device .*(cpu|cuda)"):
        choose_device(name)


def test_a_misspelt_network_gets_close_names():
    with pytest.raises(SettingsError, match=r'no network named "resnet51": did you mean .*resnet5'):
        build_model("resnet51", 2, 1, (32, 32))


def test_published_weights_of_the_small_net_do_not_exist():
    with pytest.raises(SettingsError, match="no published weights"):
        build_model("small_resnet", 2, 1, (32, 32), pretrained=True)


def test_published_weights_without_a_network_are_one_sentence(monkeypatch):
    def offline(*_args, **_settings):
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.get_hf_file_metadata", offline)
    with pytest.raises(ClassifierError, match="published weights of resnet18 could not be fetched"):
        build_model("resnet18", 2, 1, (32, 32), pretrained=True)


@pytest.mark.parametrize("arch", OWN_NETWORKS)
@pytest.mark.parametrize(("channels", "size"), [(1, (32, 32)), (3, (50, 70))])
def test_own_networks_answer_the_same_questions(arch, channels, size):
    model = build_model(arch, 4, channels, size, head=(12, 7), dropout=0.3).eval()
    assert isinstance(model, OwnNetwork)
    x = torch.rand(2, channels, *size)
    with torch.inference_mode():
        features = penultimate(model, x)
        assert features.shape == (2, 7)
        torch.testing.assert_close(model.head[-1](features), model(x))
    stages = body_stages(model)
    groups = [*stages, head_parameters(model)]
    assert sorted(id(p) for group in groups for p in group) == sorted(map(id, model.parameters()))
    assert len(stages) == len(model.stages())


@pytest.mark.parametrize(
    "arch", ["resnet10t", "mobilenetv3_small_050", "convnext_atto", "vit_tiny_patch16_224"]
)
def test_hidden_layers_stand_between_the_pooled_features_and_the_last_layer(arch):
    plain = build_model(arch, 4, 1, (32, 32))
    model = build_model(arch, 4, 1, (32, 32), head=(12, 7), dropout=0.3).eval()
    head = model.get_classifier()
    assert [type(layer).__name__ for layer in head] == ["Linear", "ReLU", "Dropout"] * 2 + ["Linear"]
    assert head[0].in_features == plain.get_classifier().in_features
    assert {layer.p for layer in head if isinstance(layer, torch.nn.Dropout)} == {0.3}
    x = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(head[-1](penultimate(model, x)), model(x))
    assert {id(p) for p in head_parameters(model)} == {id(p) for p in head.parameters()}


def test_dropout_alone_stands_before_the_last_layer():
    head = build_model("resnet10t", 4, 1, (32, 32), dropout=0.5).get_classifier()
    assert [type(layer).__name__ for layer in head] == ["Dropout", "Linear"]


@pytest.mark.parametrize(
    ("arch", "settings"),
    [("vgg16_pooled", {}), ("vgg16", {"head": (9,)}), ("vgg16_pooled", {"dropout": 0.4})],
)
def test_vgg_gives_up_its_own_hidden_layers_for_a_head_of_ours(arch, settings):
    model = build_model(arch, 4, 1, (32, 32), **settings).eval()
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    assert 14_700_000 < num_parameters < 14_740_000  # of the 13 convolutions and a small head
    x = torch.rand(2, 1, 32, 32)
    with torch.inference_mode():
        features = penultimate(model, x)
        assert features.shape == (2, settings.get("head", (512,))[-1])
        last = model.head.fc[-1] if settings else model.head.fc
        torch.testing.assert_close(last(features), model(x))


def test_plain_vgg_is_timms():
    with torch.device("meta"):
        names = build_model("vgg16", 4, 3, (64, 64)).state_dict()
    assert names["pre_logits.fc1.weight"].shape == (4096, 512, 7, 7) and "head.fc.weight" in names


def test_the_convnets_differ_in_their_filters_as_they_are_described():
    first, second, third, fourth = (
        [block[0].out_channels for block in build_model(f"lung_convnet_{number}", 4, 1, (64, 64)).blocks]
        for number in (1, 2, 3, 4)
    )
    assert first == second
    assert third[0] > first[0] and third[1] > first[1] and third[2:] == first[2:]
    assert all(more > base for more, base in zip(fourth, first, strict=True))


def test_large_images_do_not_swell_the_dense_layers():
    sizes = (128, 224, 1024)
    with torch.device("meta"):
        weights = [
            build_model("lung_convnet_1", 4, 1, (size, size), head=(128,)).head[0].in_features
            for size in sizes
        ]
    assert weights == [8 * 8 * 128, 7 * 7 * 128, 8 * 8 * 128]


def test_images_too_small_for_the_convnets_are_refused():
    with pytest.raises(SettingsError, match="take 32 pixels a side or more, got 16x64"):
        build_model("lung_convnet_1", 4, 1, (16, 64))


def test_a_network_that_does_not_end_in_a_dense_layer_takes_no_head():
    with pytest.raises(SettingsError, match="head and dropout replace a last layer that is dense"):
        build_model("deit_tiny_distilled_patch16_224", 4, 3, (32, 32), head=(8,))


def test_the_names_in_a_saved_network_stay_as_they_were():
    names = list(build_model("small_resnet", 2, 1, (16, 16)).state_dict())
    assert {"stem.weight", "stem_norm.running_mean", "blocks.2.shortcut_norm.bias", "head.weight"} <= set(
        names
    )
    assert len(names) == 1 + 5 + 3 * (3 + 3 * 5) + 2
