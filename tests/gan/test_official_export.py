"""Our snapshots become files that the official code reads, and come back as they were."""

import json
import pickle
import pickletools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from extract.errors import SettingsError
from gan.errors import GanError
from gan.export import MODULE_SOURCE, export_network
from gan.official import import_network
from gan.pickle_writer import tensor, write_pickle
from gan.snapshot import write_snapshot
from tests.gan import official_reader
from tests.gan.test_official import networks_of, settings_of


def written(networks: dict[str, nn.Module], settings: dict[str, Any], path: Path) -> Path:
    """A snapshot of ours."""
    header = {
        "config": settings, "kimg": 1.0, "classes": list("ab") if settings["G"]["c_dim"] else [],
        "archive_sha256": "0" * 64, "split_sha256": None, "fold": None, "part": "all", "subjects": ["s"],
        "seed": 0, "image_shape": [settings["G"]["img_channels"], 16, 16],
    }  # fmt: skip
    write_snapshot(path, {**networks, "augment_pipe": networks.get("augment_pipe")}, header)
    return path


VARIANTS = {
    "grey": {},
    "conditional RGB": {"channels": 3, "c_dim": 2},
    "clamped, frozen": {"G": {"conv_clamp": 0.5}, "D": {"conv_clamp": 0.5, "freeze_layers": 3}},
    "resnet G, skip D": {"G": {"architecture": "resnet"}, "D": {"architecture": "skip"}},
    "orig, no noise": {"G": {"architecture": "orig", "use_noise": False}, "D": {"architecture": "orig"}},
    "group of the whole batch": {"D": {"mbstd_group_size": None}, "augment": None},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_out_and_in_again_is_the_same_snapshot(variant: str, tmp_path: Path):
    settings = settings_of(**VARIANTS[variant])
    ours = written(networks_of(settings), settings, tmp_path / "a.safetensors")
    export_network(ours, tmp_path / "a.pkl")
    back = import_network(tmp_path / "a.pkl", tmp_path / "b.safetensors").snapshot
    first, second = load_file(ours), load_file(back.path)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    for name in ("G", "D"):
        assert settings[name].items() <= back.config[name].items()
    assert back.config["augment"] == settings["augment"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_the_official_reader_makes_of_it_computes_the_same(variant: str, tmp_path: Path):
    settings = settings_of(**VARIANTS[variant])
    networks = networks_of(settings)
    ours = written(networks, settings, tmp_path / "a.safetensors")
    content = official_reader.read(export_network(ours, tmp_path / "a.pkl").dest.read_bytes())
    assert list(content) == ["training_set_kwargs", "G", "D", "G_ema", "augment_pipe"]

    z, c = torch.randn(4, 8), torch.eye(2)[[0, 1, 0, 1]][:, : settings["G"]["c_dim"]]
    for name in ("G", "G_ema"):
        expected = networks[name](z, c, noise_mode="const")
        torch.testing.assert_close(content[name](z, c), expected, rtol=1e-5, atol=1e-5)
        assert dict(content[name].state_dict()).keys() == networks[name].state_dict().keys()
    images = torch.randn(4, settings["G"]["img_channels"], 16, 16)
    torch.testing.assert_close(content["D"](images, c), networks["D"](images, c), rtol=1e-5, atol=1e-5)

    if settings["augment"] is None:
        assert content["augment_pipe"] is None
    else:
        pipe = content["augment_pipe"]
        assert (pipe.xflip, pipe.scale, pipe.rotate, pipe.xint_max) == (1, 0.5, 0, 0.125)
        assert pipe.imgfilter_bands == [1, 1, 1, 1]
        assert float(pipe.p) == pytest.approx(0.37)
        assert pipe.Hz_fbank.shape == (4, 43)


def test_what_is_read_is_a_whole_module_of_pytorch(tmp_path: Path):
    settings = settings_of()
    ours = written(networks_of(settings), settings, tmp_path / "a.safetensors")
    content = official_reader.read(export_network(ours, tmp_path / "a.pkl").dest.read_bytes())
    for module in content["G_ema"].modules():
        assert set(nn.Module().__dict__) <= set(module.__dict__)
    generator = content["G_ema"].requires_grad_(True).train()
    generator(torch.randn(2, 8), torch.zeros(2, 0)).sum().backward()
    assert generator.synthesis.b4.const.grad is not None


def test_the_file_carries_no_source_and_plain_numbers_alone(tmp_path: Path):
    settings = settings_of()
    ours = written(networks_of(settings), settings, tmp_path / "a.safetensors")
    data = export_network(ours, tmp_path / "a.pkl").dest.read_bytes()
    names, texts = set(), set()
    for code, argument, _ in pickletools.genops(data):
        if code.name == "GLOBAL":
            names.add(argument)
        elif isinstance(argument, str):
            texts.add(argument)
    assert names == {
        "torch_utils.persistence _reconstruct_persistent_obj", "torch._utils _rebuild_parameter",
        "torch._utils _rebuild_tensor_v2", "torch.storage _load_from_bytes", "collections OrderedDict",
        "builtins set",
    }  # fmt: skip
    assert MODULE_SOURCE in texts
    assert max(map(len, texts)) < 80


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4, 5), (0, 2)])
def test_pytorch_reads_our_tensors(shape: tuple[int, ...]):

    array = np.asarray(np.random.RandomState(0).standard_normal(shape), np.float32)
    found = pickle.loads(write_pickle(tensor(array)))
    assert torch.equal(found, torch.from_numpy(array))


def test_numbers_of_numpy_are_not_written():
    with pytest.raises(TypeError, match=r"expected plain values, got numpy\.float64"):
        write_pickle({"gain": np.float64(1)})


def test_a_network_trained_in_bf16_is_exported_in_float32(tmp_path: Path):
    low = {"num_fp16_res": 4, "low_precision": "bf16"}
    settings = settings_of(G=low, D=low)
    ours = written(networks_of(settings), settings, tmp_path / "a.safetensors")
    summary = export_network(ours, tmp_path / "a.pkl")
    assert "bf16" in summary.notes[0]
    back = import_network(summary.dest, tmp_path / "b.safetensors").snapshot
    assert (back.config["G"]["num_fp16_res"], back.config["G"]["conv_clamp"]) == (0, None)


def test_half_precision_blocks_are_named(tmp_path: Path):
    low = {"num_fp16_res": 2, "conv_clamp": 256.0, "low_precision": "fp16"}
    settings = settings_of(G=low, D=low)
    ours = written(networks_of(settings), settings, tmp_path / "a.safetensors")
    content = official_reader.read(export_network(ours, tmp_path / "a.pkl").dest.read_bytes())
    flags = [getattr(content["G_ema"].synthesis, f"b{side}").use_fp16 for side in (4, 8, 16)]
    assert flags == [False, True, True]
    assert content["D"].b16.use_fp16 and content["D"].b16.conv0.conv_clamp == 256


def test_an_existing_file_and_a_wrong_name_are_refused(tmp_path: Path):
    settings = settings_of()
    ours = written(networks_of(settings), settings, tmp_path / "a.safetensors")
    dest = tmp_path / "a.pkl"
    dest.write_bytes(b"mine")
    with pytest.raises(GanError, match="exists already and is left alone"):
        export_network(ours, dest)
    assert dest.read_bytes() == b"mine"
    export_network(ours, dest, overwrite=True)
    with pytest.raises(SettingsError, match=r"expected a network file to write \(.pkl\)"):
        export_network(ours, tmp_path / "a.pt")


def test_a_trained_snapshot_goes_out(trained: Path, tmp_path: Path):
    content = official_reader.read(export_network(trained.parent, tmp_path / "a.pkl").dest.read_bytes())
    with safe_open(trained, framework="pt") as opened:
        config = json.loads(opened.metadata()["synthlabel"])["config"]
    assert content["G_ema"]._init_kwargs["z_dim"] == config["G"]["z_dim"]
    assert content["augment_pipe"]._init_kwargs == config["augment"]
