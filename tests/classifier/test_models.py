import pytest
import torch

from classifier.errors import ClassifierError
from classifier.models import build_model, choose_device
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

    monkeypatch.setattr("timm.create_model", offline)
    with pytest.raises(ClassifierError, match="published weights of resnet18 could not be fetched"):
        build_model("resnet18", 2, 1, (32, 32), pretrained=True)
