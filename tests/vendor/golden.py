"""Reading golden archives: their folder, the settings that their arrays imply, comparison with tolerances.

The archives hold numbers only. Sizes, architectures and case lists are inferred from shapes and names, so
that any folder of the format works; what no array tells (the clamp of a network) is looked up by name.
"""

import os
import re
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from vendor.stylegan2_ada import Discriminator, Generator

FOLDER = Path(
    os.environ.get("STYLEGAN2_GOLDEN_DIR") or Path(__file__).resolve().parents[2] / "../shared/golden"
)
OUTPUT_TOLERANCE = 2e-5  # of the largest value of the reference array
GRADIENT_TOLERANCE = 3e-4

# The clamp by the archive's name without its digits; a folder's own README.md is asked first.
CLAMPS = {"net_cond": 256.0, "net_clamp": 0.75, "net_skipD_resG": 256.0}


def names(pattern: str) -> list[str]:
    """Names of the archives of the folder that match, without their ending."""
    return sorted(path.stem for path in FOLDER.glob(f"{pattern}.npz"))


@cache
def archive(name: str) -> dict[str, np.ndarray]:
    """All arrays of an archive."""
    with np.load(FOLDER / f"{name}.npz") as stored:
        return {key: stored[key] for key in stored.files}


def cases(name: str) -> list[str]:
    """The first part of the keys of an archive, in order, each once."""
    return list(dict.fromkeys(key.split("/")[0] for key in archive(name))) if name in names("*") else []


def case_ids(pattern: str) -> list[tuple[str, str]]:
    """(archive, case) for all cases of all archives that match."""
    return [(name, case) for name in names(pattern) for case in cases(name)]


def tensor(name: str, key: str) -> Tensor:
    return torch.from_numpy(archive(name)[key].copy())


def optional(name: str, key: str) -> Tensor | None:
    return tensor(name, key) if key in archive(name) else None


def with_prefix(name: str, prefix: str) -> dict[str, Tensor]:
    """Tensors whose key starts with the prefix, by the rest of the key."""
    return {
        key.removeprefix(prefix): torch.from_numpy(value.copy())
        for key, value in archive(name).items()
        if key.startswith(prefix)
    }


def clamp_of(name: str) -> float | None:
    """The clamp of a net archive: the column of README.md's table if there is one, else by name."""
    readme = FOLDER / "README.md"
    if readme.is_file():
        row = re.search(rf"^\| `{re.escape(name)}` \|(.*)$", readme.read_text(encoding="utf-8"), re.MULTILINE)
        if row:
            cell = row.group(1).split("|")[5].strip()
            return None if cell == "none" else float(cell.split()[0])
    return CLAMPS.get(name.rstrip("0123456789"))


def architecture_of(state: dict[str, Tensor], shared_layer: str) -> str:
    """skip, resnet or orig, from the parameters that each alone has (torgb or fromrgb in every block)."""
    blocks = {match[1] for key in state if (match := re.search(r"(b\d+)\.", key))}
    with_images = {match[1] for key in state if (match := re.search(rf"(b\d+)\.{shared_layer}\.", key))}
    if any(".skip.weight" in key for key in state):
        return "resnet"
    return "skip" if len(blocks) > 1 and with_images == blocks else "orig"


def channels_of(channels: dict[int, int]) -> tuple[int, int]:
    """Channel base and maximum that give these channels by resolution."""
    return max(resolution * count for resolution, count in channels.items()), channels[4]


def num_layers_of(state: dict[str, Tensor]) -> int:
    return sum(bool(re.fullmatch(r"mapping\.fc\d+\.weight", key)) for key in state)


def build_generator(
    state: dict[str, Tensor], *, conv_clamp: float | None = None, num_fp16_res: int = 0
) -> Generator:
    """A generator of the shapes of a state, with that state, in evaluation mode."""
    channels = {
        int(match[1]): len(value)
        for key, value in state.items()
        if (match := re.fullmatch(r"synthesis\.b(\d+)\.conv1\.weight", key))
    }
    base, largest = channels_of(channels)
    embed = state.get("mapping.embed.weight")
    c_dim = 0 if embed is None else embed.shape[1]
    w_dim = len(state["mapping.w_avg"])
    generator = Generator(
        state["mapping.fc0.weight"].shape[1] - (w_dim if c_dim else 0),
        c_dim,
        w_dim,
        max(channels),
        len(state[f"synthesis.b{max(channels)}.torgb.weight"]),
        num_mapping_layers=num_layers_of(state),
        channel_base=base,
        channel_max=largest,
        num_fp16_res=num_fp16_res,
        conv_clamp=conv_clamp,
        architecture=architecture_of(state, "torgb"),
        use_noise=any("noise_const" in key for key in state),
    )
    load_exactly(generator, state)
    return generator.eval()


def build_discriminator(
    state: dict[str, Tensor],
    *,
    mbstd_group_size: int | None,
    conv_clamp: float | None = None,
    num_fp16_res: int = 0,
) -> Discriminator:
    """A discriminator of the shapes of a state, with that state, in evaluation mode."""
    channels = {
        int(match[1]): value.shape[1]
        for key, value in state.items()
        if (match := re.fullmatch(r"b(\d+)\.conv0\.weight", key))
    }
    channels[4] = len(state["b4.conv.weight"])
    base, largest = channels_of(channels)
    embed = state.get("mapping.embed.weight")
    discriminator = Discriminator(
        0 if embed is None else embed.shape[1],
        max(channels),
        state[f"b{max(channels)}.fromrgb.weight"].shape[1],
        architecture=architecture_of(state, "fromrgb"),
        channel_base=base,
        channel_max=largest,
        num_fp16_res=num_fp16_res,
        conv_clamp=conv_clamp,
        num_mapping_layers=max(num_layers_of(state), 1),
        mbstd_group_size=mbstd_group_size,
    )
    load_exactly(discriminator, state)
    return discriminator.eval()


def load_exactly(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Names, order and shapes must be those of the file."""
    assert list(module.state_dict()) == list(state)
    module.load_state_dict(state, strict=True)


def check_output(actual: Tensor, name: str, key: str, tolerance: float = OUTPUT_TOLERANCE) -> None:
    expected = tensor(name, key)
    assert actual.shape == expected.shape
    _check(actual, expected, tolerance * float(expected.abs().max()), f"{name}: {key}")


def check_gradient(actual: Tensor, name: str, key: str) -> None:
    expected = tensor(name, key)
    assert actual.shape == expected.shape
    _check(actual, expected, GRADIENT_TOLERANCE * float(expected.abs().max()) + 1e-7, f"{name}: {key}")


def check_within(actual: Tensor, name: str, key: str, absolute: float) -> None:
    expected = tensor(name, key)
    assert actual.shape == expected.shape
    _check(actual, expected, absolute, f"{name}: {key}")


def _check(actual: Tensor, expected: Tensor, allowed: float, where: str) -> None:
    error = float((actual.detach().to(torch.float32) - expected).abs().max())
    assert error <= allowed, f"{where}: differs by {error:.3g}, allowed are {allowed:.3g}"
