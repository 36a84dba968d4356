"""Networks of the TensorFlow code: the same images after the axes are put in order."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from extract.errors import SynthlabelError
from gan.official import import_network, read_official
from gan.snapshot import load_generator, load_weights
from tests.gan.official_files import EasyDict, Network, write
from tests.gan.test_official import networks_of, settings_of


def array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().numpy().copy()


def dense(name: str, layer: nn.Module) -> dict[str, np.ndarray]:
    return {f"{name}/weight": array(layer.weight).T.copy(), f"{name}/bias": array(layer.bias)}


def convolution(name: str, layer: nn.Module, flip: bool = False) -> dict[str, np.ndarray]:
    weight = array(layer.weight)
    weight = weight[:, :, ::-1, ::-1] if flip else weight
    found = {f"{name}/weight": np.ascontiguousarray(weight.transpose(2, 3, 1, 0))}
    if getattr(layer, "bias", None) is not None:
        found[f"{name}/bias"] = array(layer.bias)
    return found


def modulated(name: str, layer: nn.Module, flip: bool = False) -> dict[str, np.ndarray]:
    found = convolution(name, layer, flip)
    found[f"{name}/mod_weight"] = array(layer.affine.weight).T.copy()
    found[f"{name}/mod_bias"] = array(layer.affine.bias) - 1
    if hasattr(layer, "noise_strength"):
        found[f"{name}/noise_strength"] = np.float32(layer.noise_strength.item())  # as a session returns it
    return found


def network(options: dict[str, Any], variables: dict[str, Any], components: dict | None = None) -> Network:
    return Network(
        {
            "version": 4,
            "name": "N",
            "static_kwargs": EasyDict(options),
            "components": EasyDict(components or {}),
            "build_module_src": "raise SystemExit('the source in the file was run')",
            "build_func_name": "G_main",
            "variables": list(variables.items()),
        }
    )


def generator(G: nn.Module, settings: dict[str, Any], lod_names: bool = False, **options: Any) -> Network:
    mapping: dict[str, np.ndarray] = {}
    for index in range(settings["num_mapping_layers"]):
        mapping |= dense(f"Dense{index}", getattr(G.mapping, f"fc{index}"))
    if settings["c_dim"]:
        mapping |= dense("LabelEmbed", G.mapping.embed)
    synthesis: dict[str, Any] = {"4x4/Const/const": array(G.synthesis.b4.const)[None]}
    number = 0
    for side in G.synthesis.resolutions:
        block, name = getattr(G.synthesis, f"b{side}"), f"{side}x{side}"
        if side == 4:
            layers = {"Conv": block.conv1}
        else:
            layers = {"Conv0_up": block.conv0, "Conv1": block.conv1}
        for layer_name, layer in layers.items():
            synthesis |= modulated(f"{name}/{layer_name}", layer, flip=layer_name == "Conv0_up")
            synthesis[f"noise{number}"] = array(layer.noise_const)[None, None]
            number += 1
        if hasattr(block, "torgb"):
            lod = G.img_resolution.bit_length() - side.bit_length()
            synthesis |= modulated(f"ToRGB_lod{lod}" if lod_names else f"{name}/ToRGB", block.torgb)
        if hasattr(block, "skip"):
            synthesis |= convolution(f"{name}/Skip", block.skip, flip=True)
    given = {
        "latent_size": settings["z_dim"], "dlatent_size": settings["w_dim"], "label_size": settings["c_dim"],
        "resolution": settings["img_resolution"], "num_channels": settings["img_channels"],
        "mapping_layers": settings["num_mapping_layers"], "fmap_base": settings["channel_base"] // 2,
        "fmap_max": settings["channel_max"], "architecture": settings.get("architecture", "skip"),
        "truncation_psi": 0.5, "style_mixing_prob": 0.9, "resample_kernel": [1, 3, 3, 1],
    }  # fmt: skip
    components = {"synthesis": network({}, synthesis), "mapping": network({}, mapping)}
    return network(
        {**given, **options}, {"dlatent_avg": array(G.mapping.w_avg), "lod": np.float32(0)}, components
    )


def discriminator(D: nn.Module, settings: dict[str, Any], lod_names: bool = False, **options: Any) -> Network:
    variables: dict[str, np.ndarray] = {}
    for side in D.resolutions:
        block, name = getattr(D, f"b{side}"), f"{side}x{side}"
        if hasattr(block, "fromrgb"):
            variables |= convolution("FromRGB_lod0" if lod_names else f"{name}/FromRGB", block.fromrgb)
        variables |= convolution(f"{name}/Conv0", block.conv0) | convolution(
            f"{name}/Conv1_down", block.conv1
        )
        if hasattr(block, "skip"):
            variables |= convolution(f"{name}/Skip", block.skip)
    if hasattr(D.b4, "fromrgb"):
        variables |= convolution("4x4/FromRGB", D.b4.fromrgb)
    if settings["c_dim"]:
        variables |= dense("LabelEmbed", D.mapping.embed)
        for index in range(settings["num_mapping_layers"]):
            variables |= dense(f"Mapping{index}", getattr(D.mapping, f"fc{index}"))
    variables |= convolution("4x4/Conv", D.b4.conv) | dense("4x4/Dense0", D.b4.fc) | dense("Output", D.b4.out)
    given = {
        "label_size": settings["c_dim"], "resolution": settings["img_resolution"],
        "num_channels": settings["img_channels"], "fmap_base": settings["channel_base"] // 2,
        "fmap_max": settings["channel_max"], "architecture": settings["architecture"], "mbstd_group_size": 4,
    }  # fmt: skip
    if settings.get("num_mapping_layers"):
        given["mapping_layers"] = settings["num_mapping_layers"]
    return network({**given, **options}, variables)


VARIANTS = {
    "grey": {},
    "RGB, classes": {"channels": 3, "c_dim": 3, "D": {"num_mapping_layers": 2}},
    "classes without mapping layers": {"c_dim": 3, "D": {"num_mapping_layers": 0}},
    "resnet G, skip D": {"channels": 3, "G": {"architecture": "resnet"}, "D": {"architecture": "skip"}},
    "orig": {"channels": 3, "G": {"architecture": "orig"}, "D": {"architecture": "orig"}},
}


def file_of(networks: dict[str, nn.Module], settings: dict[str, Any], path: Path, **options: Any) -> Path:
    g, d = settings["G"], settings["D"]
    content = (
        generator(networks["G"], g, **options),
        discriminator(networks["D"], d, **{key: options[key] for key in options if key == "lod_names"}),
        generator(networks["G_ema"], g, **options),
    )
    path.write_bytes(write(content))
    return path


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def assert_same(networks: dict[str, nn.Module], snapshot: Path, c_dim: int) -> None:
    made, _ = load_generator(snapshot)
    z, c = torch.randn(4, 8), torch.eye(3)[[0, 1, 2, 0]][:, :c_dim]
    for mode in ("const", "none"):
        expected = networks["G_ema"](z, c, noise_mode=mode)
        close(made(z, c, noise_mode=mode), expected)
    expected = networks["G_ema"](z, c, truncation_psi=0.5, noise_mode="const")
    close(made(z, c, truncation_psi=0.5, noise_mode="const"), expected)
    weights = load_weights(snapshot)
    for name in ("G", "D"):
        own = networks[name].state_dict()
        assert {key for key in weights if key.startswith(f"{name}.")} == {f"{name}.{key}" for key in own}
        for key, tensor in own.items():
            torch.testing.assert_close(weights[f"{name}.{key}"], tensor, rtol=0, atol=1e-6)


@pytest.mark.parametrize("variant", VARIANTS)
def test_images_are_those_of_the_network_that_was_written(variant: str, tmp_path: Path):
    settings = settings_of(**VARIANTS[variant], augment=None)
    networks = networks_of(settings)
    source = file_of(networks, settings, tmp_path / "legacy.pkl")
    summary = import_network(source, tmp_path / "ours.safetensors")
    assert summary.networks.kind == "TensorFlow"
    assert_same(networks, summary.snapshot.path, settings["G"]["c_dim"])
    assert "G: left out lod, which ours lack" in summary.networks.notes


def test_colour_layers_can_be_numbered_from_the_full_resolution(tmp_path: Path):
    settings = settings_of(3, augment=None, G={"architecture": "orig"}, D={"architecture": "orig"})
    networks = networks_of(settings)
    source = file_of(networks, settings, tmp_path / "legacy.pkl", lod_names=True, architecture="skip")
    summary = import_network(source, tmp_path / "ours.safetensors")
    assert summary.snapshot.config["G"]["architecture"] == "orig"
    assert_same(networks, summary.snapshot.path, 0)


def test_older_versions_and_unknown_options_are_refused(tmp_path: Path):
    settings = settings_of(augment=None)
    networks = networks_of(settings)
    path = tmp_path / "legacy.pkl"
    old = generator(networks["G"], settings["G"])
    old.state["version"] = 3
    d = discriminator(networks["D"], settings["D"])
    path.write_bytes(write((old, d, old)))
    with pytest.raises(
        SynthlabelError, match="TensorFlow pickle version too low: expected at least 4, got 3"
    ):
        read_official(path)
    for options, message in (
        ({"magic": 1}, "got magic=1"),
        ({"fmap_decay": 2.0}, "fmap_decay to be 1.0 or 1, got 2.0"),
        ({"nonlinearity": "relu"}, "nonlinearity to be lrelu, got 'relu'"),
    ):
        with pytest.raises(SynthlabelError, match=message):
            read_official(file_of(networks, settings, path, **options))


def test_missing_and_misshapen_variables_are_named(tmp_path: Path):
    settings = settings_of(augment=None)
    networks = networks_of(settings)
    path = tmp_path / "legacy.pkl"
    d = discriminator(networks["D"], settings["D"])
    for change, message in (
        (lambda state: state.pop(0), "the TensorFlow variable 'dlatent_avg', numbers with 1 axes, got none"),
        (lambda state: state.__setitem__(0, ("dlatent_avg", np.zeros((2, 2), "f4"))), "numbers with 1 axes"),
        (
            lambda state: state.__setitem__(0, ("dlatent_avg", np.zeros(5, "f4"))),
            r"mapping\.w_avg of shape \(8,\)",
        ),
        (
            lambda state: state.__setitem__(0, ("dlatent_avg", np.zeros(8, "i4"))),
            "numbers with 1 axes, got int32",
        ),
        (lambda state: state.__setitem__(0, ("dlatent_avg", "text")), "in an honest file, got another thing"),
    ):
        broken = generator(networks["G"], settings["G"])
        change(broken.state["variables"])
        path.write_bytes(write((broken, d, broken)))
        with pytest.raises(SynthlabelError, match=message):
            read_official(path)
