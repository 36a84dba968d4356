"""Official network files become snapshots of ours, bit for bit, and nothing in them is run."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from extract.archive import file_sha256
from extract.errors import SettingsError, SynthlabelError
from gan.errors import GanError
from gan.networks import build_augment_pipe, build_discriminator, build_generator, use_channels_last
from gan.official import import_network, read_official
from gan.snapshot import load_generator, read_snapshot, refuse_overlap
from tests.gan.official_files import official_content, write

SIZES = {"channel_base": 64, "channel_max": 8, "num_fp16_res": 0, "conv_clamp": None}


def settings_of(channels: int = 1, c_dim: int = 0, **own: Any) -> dict[str, Any]:
    shared = {"c_dim": c_dim, "img_resolution": 16, "img_channels": channels, **SIZES}
    return {
        "G": {"z_dim": 8, "w_dim": 8, "num_mapping_layers": 2, **shared, **own.get("G", {})},
        "D": {"architecture": "resnet", "mbstd_group_size": 4, **shared, **own.get("D", {})},
        "augment": own.get("augment", {"xflip": 1, "scale": 0.5}),
    }


def networks_of(settings: dict[str, Any], seed: int = 0) -> dict[str, nn.Module]:
    torch.manual_seed(seed)
    networks: dict[str, nn.Module] = {
        "G": build_generator(settings),
        "D": build_discriminator(settings),
        "G_ema": build_generator(settings),
    }
    for network in networks.values():
        for tensor in network.state_dict().values():
            if tensor.ndim < 2:  # biases and noise strengths are zero at first
                tensor.copy_(torch.randn_like(tensor))
        network.eval().requires_grad_(False)
    if settings["augment"] is not None:
        pipe = build_augment_pipe(settings)
        assert pipe is not None
        pipe.p.fill_(0.37)
        networks["augment_pipe"] = pipe
    return networks


@pytest.fixture
def trace(tmp_path: Path):
    """A file that appears where the source in a network file is run."""
    path = tmp_path / "ran"
    yield str(path)
    assert not path.exists(), "the source in the file was run"


def assert_same(snapshot: Path, networks: dict[str, nn.Module]):
    stored = load_file(snapshot)
    expected = {
        f"{name}.{key}": tensor
        for name, network in networks.items()
        for key, tensor in network.state_dict().items()
        if name != "augment_pipe" or key == "p"
    }
    assert stored.keys() == expected.keys()
    assert [name for name in stored if not torch.equal(stored[name], expected[name])] == []


@pytest.mark.parametrize("protocol", [3, 4])
@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize(("channels", "c_dim"), [(1, 0), (3, 4)])
def test_names_bits_and_images_are_those_of_the_file(
    protocol: int, ordered: bool, channels: int, c_dim: int, trace: str, tmp_path: Path
):
    settings = settings_of(channels, c_dim)
    networks = networks_of(settings)
    content = official_content(networks, settings, trace=trace, ordered=ordered, numpy_gains=True)
    source = tmp_path / "official.pkl"
    source.write_bytes(write(content, protocol))
    summary = import_network(source, tmp_path / "ours.safetensors")
    assert_same(summary.snapshot.path, networks)

    generator, snapshot = load_generator(summary.snapshot.path)
    z, c = torch.randn(2, 8), torch.eye(4)[:2, :c_dim]
    use_channels_last(networks["G_ema"])  # as loading does: the layout decides the order of the sums
    images = networks["G_ema"](z, c, noise_mode="const")
    torch.testing.assert_close(generator(z, c, noise_mode="const"), images, rtol=0, atol=0)
    assert snapshot.image_shape == (channels, 16, 16)
    assert snapshot.classes == tuple("0123"[:c_dim])
    assert summary.networks.settings["augment"] == {"xflip": 1, "scale": 0.5}
    assert summary.networks.kind == "PyTorch"


def test_arguments_given_by_position_count_too(trace: str, tmp_path: Path):
    settings = settings_of(3, 4)
    networks = networks_of(settings)
    source = tmp_path / "official.pkl"
    source.write_bytes(write(official_content(networks, settings, trace=trace, positional=True)))
    assert_same(import_network(source, tmp_path / "ours.safetensors").snapshot.path, networks)


def test_weights_stored_with_channels_last_are_the_same_weights(trace: str, tmp_path: Path):
    settings = settings_of(3)
    networks = networks_of(settings)
    for network in (networks["G"], networks["D"], networks["G_ema"]):
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.to(memory_format=torch.channels_last)
    assert networks["D"].b16.conv0.weight.stride()[1] == 1
    source = tmp_path / "official.pkl"
    source.write_bytes(write(official_content(networks, settings, trace=trace)))
    assert_same(import_network(source, tmp_path / "ours.safetensors").snapshot.path, networks)


def test_files_with_three_networks_alone_have_no_augmentation(trace: str, tmp_path: Path):
    settings = settings_of(augment=None)
    networks = networks_of(settings)
    content = official_content(networks, settings, trace=trace)
    source = tmp_path / "published.pkl"
    source.write_bytes(write({name: content[name] for name in ("G", "D", "G_ema")}))
    summary = import_network(source, tmp_path / "ours.safetensors")
    assert_same(summary.snapshot.path, networks)
    assert summary.networks.settings["augment"] is None


@pytest.mark.parametrize(
    "own",
    [
        {"D": {"freeze_layers": 3}},
        {"G": {"architecture": "resnet"}, "D": {"architecture": "skip"}},
        {"G": {"architecture": "orig"}, "D": {"architecture": "orig"}},
        {"G": {"num_fp16_res": 2, "conv_clamp": 256.0}, "D": {"num_fp16_res": 2, "conv_clamp": 256.0}},
        {"G": {"resample_filter": [1, 2, 1]}, "D": {"mbstd_group_size": None}},
        {"G": {"use_noise": False}},
    ],
)  # fmt: skip
def test_what_the_options_say_is_what_is_built(own: dict[str, Any], trace: str, tmp_path: Path):
    settings = settings_of(3, **own)
    networks = networks_of(settings)
    source = tmp_path / "official.pkl"
    source.write_bytes(write(official_content(networks, settings, trace=trace)))
    summary = import_network(source, tmp_path / "ours.safetensors")
    assert_same(summary.snapshot.path, networks)
    for name in ("G", "D"):
        assert settings[name].items() <= summary.networks.settings[name].items()
    images = networks["G_ema"](torch.ones(1, 8), noise_mode="const", force_fp32=True)
    generator, _ = load_generator(summary.snapshot.path)
    torch.testing.assert_close(generator(torch.ones(1, 8), noise_mode="const"), images)


def test_half_precision_can_be_asked_for(trace: str, tmp_path: Path):
    settings = settings_of()
    source = tmp_path / "official.pkl"
    source.write_bytes(write(official_content(networks_of(settings), settings, trace=trace)))
    config = import_network(source, tmp_path / "a.safetensors", force_fp16=True).snapshot.config
    for name in ("G", "D"):
        wanted = {"num_fp16_res": 4, "conv_clamp": 256.0, "low_precision": "fp16"}
        assert wanted.items() <= config[name].items()


def test_whom_an_imported_network_saw_is_unknown_and_so_it_is_refused(trace: str, tmp_path: Path):
    settings = settings_of()
    source = tmp_path / "official.pkl"
    source.write_bytes(write(official_content(networks_of(settings), settings, trace=trace)))
    snapshot = import_network(source, tmp_path / "a.safetensors").snapshot
    assert snapshot.archive_sha256 == "imported:" + file_sha256(source)
    assert snapshot.subjects == ()
    with pytest.raises(
        GanError, match=r"imported from an official network file .* does not say on whom it was"
    ):
        refuse_overlap(snapshot, ["someone"], "0" * 64, "the test part")
    refuse_overlap(snapshot, ["someone"], "0" * 64, "the test part", allow_other_archive=True)


def test_a_snapshot_is_not_overwritten_unless_asked(trace: str, tmp_path: Path):
    settings = settings_of()
    source, dest = tmp_path / "official.pkl", tmp_path / "a.safetensors"
    source.write_bytes(write(official_content(networks_of(settings), settings, trace=trace)))
    dest.write_bytes(b"mine")
    with pytest.raises(GanError, match="exists already and is left alone"):
        import_network(source, dest)
    assert dest.read_bytes() == b"mine"
    import_network(source, dest, overwrite=True)
    assert read_snapshot(dest).part == "unknown"
    with pytest.raises(SettingsError, match=r"expected a snapshot to write \(.safetensors\), got"):
        import_network(source, tmp_path / "out.pkl")


def kwargs(content: dict[str, Any], network: str = "G_ema") -> dict[str, Any]:
    return content[network].meta["state"]["_init_kwargs"]


def part(content: dict[str, Any], path: str) -> dict[str, Any]:
    """The state of a module within."""
    network, *names = path.split(".")
    found = content[network]
    for name in names:
        found = found.meta["state"]["_modules"][name]
    return found.meta["state"]


def of_both_generators(content: dict[str, Any], group: str | None = None, **values: Any) -> None:
    for name in ("G", "G_ema"):
        own = kwargs(content, name)
        (own if group is None else own[group]).update(values)


MAPPING, SYNTHESIS = "mapping_kwargs", "synthesis_kwargs"
CHANGES = {
    "activation to be lrelu, got 'relu'": lambda c: of_both_generators(c, MAPPING, activation="relu"),
    "lr_multiplier to be 0.01, got 1": lambda c: of_both_generators(c, MAPPING, lr_multiplier=1),
    "embed_features to be None or 8, got 3": lambda c: of_both_generators(c, MAPPING, embed_features=3),
    "num_layers to be a whole number from 0 to 64": lambda c: of_both_generators(
        c, MAPPING, num_layers=10**6
    ),
    "options that our networks have, got magic=True": lambda c: of_both_generators(c, SYNTHESIS, magic=True),
    "conv_clamp to be a positive number": lambda c: of_both_generators(c, SYNTHESIS, conv_clamp=float("nan")),
    "resample_filter to be a row": lambda c: of_both_generators(c, SYNTHESIS, resample_filter=[1] * 1000),
    "resample_filter to be a row of numbers, got list": (
        lambda c: of_both_generators(c, SYNTHESIS, resample_filter=[2**500, float("nan")])
    ),
    r"expected G_ema\.synthesis\.b16\.conv0\.weight of shape .* by the network's settings": (
        lambda c: of_both_generators(c, SYNTHESIS, channel_base=128)
    ),
    "img_resolution to be a whole number from 4 to 4096": (
        lambda c: of_both_generators(c, img_resolution=2**40)
    ),
    "resample_filter to be numbers that do not sum to nothing": (
        lambda c: of_both_generators(c, SYNTHESIS, resample_filter=[1, -1])
    ),
    "expected for the settings of G weights of": lambda c: of_both_generators(c, img_channels=2**20),
    "in '_modules' names of at most 100 characters": (
        lambda c: part(c, "G")["_modules"].update({"x" * 101: None})
    ),
    "img_resolution to be a power of two, got 24": lambda c: of_both_generators(c, img_resolution=24),
    "z_dim to be a whole number from 1 to .*, got -1": lambda c: of_both_generators(c, z_dim=-1),
    "z_dim to be a whole number from 1 to .*, got True": lambda c: of_both_generators(c, z_dim=True),
    "z_dim to be a whole number from 1 to .*, got NoneType": lambda c: kwargs(c).pop("z_dim"),
    "mapping_kwargs to be options, got list": lambda c: of_both_generators(c, mapping_kwargs=[]),
    "expected G and G_ema to be the same network": lambda c: kwargs(c, "G").update(z_dim=16),
    "mbstd_num_channels to be 1, got 2": (
        lambda c: kwargs(c, "D")["epilogue_kwargs"].update(mbstd_num_channels=2)
    ),
    "cmap_dim to be None or 0 or 8, got 77": lambda c: kwargs(c, "D").update(cmap_dim=77),
    "architecture to be 'resnet' or 'skip' or 'orig'": lambda c: kwargs(c, "D").update(architecture="dense"),
    "augmentation: .* got swirl=1": lambda c: kwargs(c, "augment_pipe").update(swirl=1),
    "xflip must not be negative": lambda c: kwargs(c, "augment_pipe").update(xflip=-1),
    "expected an AugmentPipe": lambda c: c["augment_pipe"].meta.update(class_name="Other"),
    r"'G_ema' \(Generator\), got Discriminator": lambda c: c["G_ema"].meta.update(class_name="Discriminator"),
    "expected version 6, got 5": lambda c: c["G_ema"].meta.update(version=5),
    "expected the record of a class": lambda c: c["G_ema"].meta.update(state=None),
    "expected a dictionary '_modules'": lambda c: part(c, "G_ema").pop("_modules"),
    "expected in '_buffers' tensors": lambda c: part(c, "G_ema.mapping")["_buffers"].update(w_avg=3),
    "got no mapping.w_avg": lambda c: part(c, "G_ema.mapping")["_buffers"].pop("w_avg"),
    "got mapping.extra as well": lambda c: part(c, "G_ema.mapping")["_buffers"].update(extra=torch.ones(1)),
    r"expected the network 'D' \(Discriminator\), got NoneType": lambda c: c.pop("D"),
}


@pytest.mark.parametrize("message", CHANGES)
def test_what_our_networks_are_not_is_refused_by_name(message: str, trace: str, tmp_path: Path):
    settings = settings_of()
    content = official_content(networks_of(settings), settings, trace=trace)
    CHANGES[message](content)
    source = tmp_path / "other.pkl"
    source.write_bytes(write(content))
    with pytest.raises(SynthlabelError, match=message) as caught:
        import_network(source, tmp_path / "a.safetensors")
    assert str(caught.value).startswith(str(source))
    assert not (tmp_path / "a.safetensors").exists()


def test_files_with_something_else_are_refused(trace: str, tmp_path: Path):
    settings = settings_of()
    content = official_content(networks_of(settings), settings, trace=trace)
    source = tmp_path / "other.pkl"
    for value, message in (
        (content["G_ema"], "got one network alone"),
        ([1, 2], "got a list"),
        ({}, "expected the network 'G'"),
        (("a", "b", "c"), "got a tuple"),
    ):
        source.write_bytes(write(value))
        with pytest.raises(GanError, match=message):
            read_official(source)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers_are_refused(value: float, trace: str, tmp_path: Path):
    settings = settings_of()
    networks = networks_of(settings)
    networks["D"].b4.out.weight[0, 0] = value
    source = tmp_path / "official.pkl"
    source.write_bytes(write(official_content(networks, settings, trace=trace)))
    with pytest.raises(
        GanError, match=r"expected finite weights, got NaN or infinite ones in D\.b4\.out\.weight"
    ):
        read_official(source)


def test_a_missing_file_says_so(tmp_path: Path):
    with pytest.raises(GanError, match="got nothing there"):
        read_official(tmp_path / "none.pkl")
    with pytest.raises(GanError, match="got a folder"):
        read_official(tmp_path)


def test_another_decay_of_the_average_is_told(trace: str, tmp_path: Path):
    settings = settings_of()
    content = official_content(networks_of(settings), settings, trace=trace)
    for name in ("G", "G_ema"):
        kwargs(content, name)["mapping_kwargs"]["w_avg_beta"] = 0.998
    source = tmp_path / "official.pkl"
    source.write_bytes(write(copy.copy(content)))
    assert read_official(source).notes == (
        "the average w was tracked with a decay of 0.998; training goes on with 0.995",
    )
