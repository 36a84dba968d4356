import numpy as np
import pytest
import torch
from torch import nn

from classifier.activations import layer_activations
from classifier.explain import explain_images, overlay
from classifier.gradcam import enlarge, grad_cam, guided_gradients, scale_to_maximum
from classifier.layers import default_layer, spatial_stages
from extract.errors import SettingsError
from extract.preprocessing import PreprocessConfig
from tests.classifier.served import toy_table, untrained


class PooledNet(nn.Module):
    """Convolution, ReLU, mean, linear: here Grad-CAM is the class activation map of Zhou et al. 2016."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.features = nn.Sequential(nn.Conv2d(1, 5, 5, stride=4, padding=2), nn.ReLU())
            self.head = nn.Linear(5, 3)

    def forward(self, x):
        return self.head(self.features(x).mean(dim=(2, 3)))


class TwoLayers(nn.Module):
    """A hidden layer by module or by function: w2 . relu(W1 x)."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(2)
            self.first, self.second = nn.Linear(8 * 8, 20), nn.Linear(20, 3)
        self.in_place = in_place

    def forward(self, x):
        hidden = self.first(x.flatten(1))
        return self.second(torch.relu_(hidden) if self.in_place else nn.functional.relu(hidden))


def batch_of(classifier, images):
    return classifier.preprocessing.to_batch(images.gather(np.arange(len(images))))


def test_where_a_mean_and_a_linear_layer_follow_grad_cam_is_the_class_activation_map():
    images = toy_table()
    classifier = untrained(images, model=PooledNet())
    targets = np.array([0, 1, 2, 0, 1, 2])
    maps, cells = grad_cam(classifier, images, targets)
    with torch.no_grad():
        values = classifier.model.features(batch_of(classifier, images))  # (N, 5, 8, 8)
        weights = classifier.model.head.weight[torch.from_numpy(targets)]  # (N, 5)
        known = torch.relu(torch.einsum("nk,nkhw->nhw", weights, values))
        expected = scale_to_maximum(nn.functional.interpolate(known[:, None], 32, mode="bilinear")[:, 0])
    assert cells == (8, 8)
    np.testing.assert_allclose(maps, expected.numpy(), atol=1e-6)
    assert maps.max() == 1 and maps.min() >= 0


def test_inside_a_residual_net_it_is_what_autograd_gives_by_hand():
    images = toy_table(size=64)
    classifier = untrained(images)
    maps, _ = grad_cam(classifier, images, np.full(6, 1), layer="blocks.0")
    model = classifier.model
    for row in range(6):
        x = classifier.preprocessing.to_batch(images.gather(np.array([row])))
        value = model.blocks[0](torch.relu(model.stem_norm(model.stem(x))))
        value.retain_grad()
        model.head(model.blocks[2](model.blocks[1](value.clone())).mean(dim=(2, 3)))[0, 1].backward()
        coarse = torch.relu((value.grad.mean(dim=(2, 3), keepdim=True) * value).sum(dim=1))
        expected = scale_to_maximum(enlarge(coarse.detach(), (64, 64)))[0]
        np.testing.assert_allclose(maps[row], expected.numpy(), atol=1e-5)


def test_a_map_depends_on_its_own_image_alone():
    images = toy_table(7, size=64)
    classifier = untrained(images)
    whole, _ = grad_cam(classifier, images, batch_size=7)
    single, _ = grad_cam(classifier, images, batch_size=1)
    np.testing.assert_allclose(whole, single, atol=1e-5)
    np.testing.assert_array_equal(whole, grad_cam(classifier, images, batch_size=7)[0])


@pytest.mark.parametrize("method", ["grad-cam", "guided", "activations", "attention"])
def test_explaining_leaves_the_network_as_it_was(method):
    images = toy_table(size=32)
    classifier = untrained(images, "test_vit" if method == "attention" else "small_resnet")
    model = classifier.model
    layers = list(model.modules())
    for parameter in list(model.parameters())[:3]:
        parameter.requires_grad_(False)  # a frozen stem
    layers[2].train()
    flags = [parameter.requires_grad for parameter in model.parameters()]
    modes = [module.training for module in layers]
    fused = [getattr(module, "fused_attn", None) for module in layers]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    explain_images(classifier, images, method=method)
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert [module.training for module in layers] == modes
    assert [getattr(module, "fused_attn", None) for module in layers] == fused
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_hooks or module._backward_hooks for module in layers)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_frozen_body_and_inference_mode_around_change_no_map():
    images = toy_table()
    classifier = untrained(images)
    expected, _ = grad_cam(classifier, images)
    for parameter in classifier.model.parameters():
        parameter.requires_grad_(False)
    with torch.inference_mode():
        np.testing.assert_array_equal(grad_cam(classifier, images)[0], expected)


def test_a_class_against_which_everything_speaks_has_an_empty_map():
    images = toy_table()
    model = PooledNet()
    with torch.no_grad():
        model.head.weight[1] = -model.head.weight[1].abs()
    maps, _ = grad_cam(untrained(images, model=model), images, np.full(6, 1))
    assert not maps.any()


@pytest.mark.parametrize("in_place", [False, True], ids=["function", "in place"])
def test_the_guided_rule_lets_positive_gradients_through_active_units_alone(in_place):
    images = toy_table(size=8)
    classifier = untrained(images, model=TwoLayers(in_place))
    gradients, note = guided_gradients(classifier, images, np.full(6, 2))
    model, x = classifier.model, batch_of(classifier, images)
    with torch.no_grad():
        active = (model.first(x.flatten(1)) > 0).float()  # (N, 20)
        expected = (active * model.second.weight[2].clamp(min=0)) @ model.first.weight
    np.testing.assert_allclose(gradients.reshape(6, -1), expected.numpy(), atol=1e-6)
    assert note == ""


def test_without_a_relu_the_guided_map_is_the_plain_gradient_and_says_so():
    images = toy_table(size=32)
    classifier = untrained(images, "test_vit")
    gradients, note = guided_gradients(classifier, images, np.zeros(6, int))
    x = batch_of(classifier, images).requires_grad_(True)
    classifier.model(x)[:, 0].sum().backward()
    np.testing.assert_allclose(gradients, x.grad.numpy(), atol=1e-6)
    assert note == "the network has no ReLU but GELU: its plain gradient is shown, without the guided rule"


@pytest.mark.parametrize(
    ("arch", "size", "layer"),
    [
        ("small_resnet", 64, "blocks"),
        ("resnet18", 64, "layer3"),  # its last stage has 2x2 cells at 64 pixels
        ("resnet18", 128, "layer4"),
        ("test_convnext", 64, "stages.2"),
        ("lung_convnet_1", 64, "blocks"),
        ("denoiser_plain", 64, "encoder.stages.3"),
        ("test_vit", 64, "blocks.5.norm1"),
    ],
)
def test_the_default_layer_is_the_last_that_still_knows_where(arch, size, layer):
    model = untrained(toy_table(3, size), arch).model
    assert default_layer(model, (1, size, size)) == layer
    if arch != "test_vit":
        assert min(spatial_stages(model, (1, size, size))[layer][2:]) >= 4


@pytest.mark.parametrize(
    ("layer", "sentence"),
    [("layer9", 'has no layer named "layer9"'), ("head", "which is no map of places")],
)
def test_a_layer_that_cannot_explain_is_refused(layer, sentence):
    images = toy_table()
    with pytest.raises(SettingsError, match=sentence):
        grad_cam(untrained(images), images, layer=layer)


def test_a_network_without_any_map_says_so():
    images = toy_table(size=8)
    with pytest.raises(SettingsError, match="no layer with a map"):
        grad_cam(untrained(images, model=TwoLayers(False)), images)


def test_maps_have_the_size_of_the_networks_input():
    images = toy_table(size=32)
    classifier = untrained(images, steps=PreprocessConfig(size=48))
    assert explain_images(classifier, images).shape == (6, 48, 48)
    empty = explain_images(classifier, images.subset(np.array([], int)))
    assert empty.shape == (0, 48, 48)


def test_the_strongest_channels_come_first():
    images = toy_table()
    classifier = untrained(images, model=PooledNet())
    maps, numbers = layer_activations(classifier, images, layer="features", num_channels=3)
    with torch.no_grad():
        values = classifier.model.features(batch_of(classifier, images))
    strength = values.abs().mean(dim=(2, 3)).numpy()
    np.testing.assert_array_equal(numbers, np.argsort(-strength, axis=1, kind="stable")[:, :3])
    np.testing.assert_array_equal(maps[2, 0], values[2, numbers[2, 0]].numpy())


def test_an_overlay_leaves_the_image_where_the_map_is_empty():
    image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    heat = np.zeros((8, 8))
    heat[0, 0] = 1
    laid = overlay(image, heat, opacity=1.0)
    assert laid.shape == (8, 8, 3) and laid.dtype == np.uint8
    np.testing.assert_array_equal(laid[1:], np.repeat(image[0, 1:, :, None], 3, axis=2))
    np.testing.assert_array_equal(laid[0, 0], [252, 255, 164])  # inferno's end
    np.testing.assert_array_equal(overlay(image, heat, opacity=0.0)[..., 0], image[0])
    with pytest.raises(ValueError, match="a map of the image's size"):
        overlay(image, heat[:4])
