"""Networks of the TensorFlow code that came before the official PyTorch one, as inert records.

Such a file is a tuple of three networks (G, D, G_ema), each a dictionary of options, variables by name, and
networks within. Weights lie in another order of axes there.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from extract.errors import name_some
from extract.pickled_arrays import NUMPY_ARRAYS
from extract.restricted_pickle import Call, Constructor, printable
from gan.errors import GanError
from gan.official_settings import LARGEST_RESOLUTION, MOST_MAPPING_LAYERS, Options, with_precision
from vendor.stylegan2_ada.filters import setup_filter
from vendor.stylegan2_ada.layers import block_resolutions

OLDEST_VERSION = 4
LARGEST_MAPPING = 2**20


@dataclass(frozen=True)
class NetworkRecord:
    """A TensorFlow network, with nothing in it that could run."""

    version: int
    options: Mapping[Any, Any]  # `static_kwargs`
    variables: Mapping[str, np.ndarray]  # those of the networks within as `<network>/<name>`


def _network(call: Call) -> NetworkRecord:
    state = call.state
    if call.args or call.items or not isinstance(state, dict):
        raise ValueError("expected a network's state")
    version, options = state.get("version"), state.get("static_kwargs")
    if type(version) is not int or not isinstance(options, dict):
        raise ValueError("expected a version and options")
    variables = dict(_own_variables(state.get("variables")))
    components = state.get("components") or {}
    if not isinstance(components, dict):
        raise ValueError("expected networks within by name")
    for prefix, component in components.items():
        if not isinstance(component, NetworkRecord):
            raise ValueError("expected networks within")
        variables |= {f"{prefix}/{name}": value for name, value in component.variables.items()}
    return NetworkRecord(version, options, variables)


def _own_variables(pairs: object) -> Iterator[tuple[str, np.ndarray]]:
    if not isinstance(pairs, list):
        raise ValueError("expected a list of variables")
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2 or not isinstance(pair[0], str):
            raise ValueError("expected names and values of variables")
        value = pair[1]
        if not isinstance(value, (np.ndarray, float, int)):
            raise ValueError(f"expected numbers as {pair[0]}")
        yield pair[0], np.asarray(value)


TENSORFLOW_NAMES: Mapping[tuple[str, str], Constructor | None] = {
    **NUMPY_ARRAYS,
    ("dnnlib.tflib.network", "Network"): _network,
}

States = dict[str, dict[str, np.ndarray]]


def legacy_networks(
    networks: tuple[NetworkRecord, NetworkRecord, NetworkRecord], where: str
) -> tuple[dict[str, Any], States, list[str]]:
    """Settings, weights by our names, and notes, of the three networks of a file.

    Raises:
        GanError: if they are too old, or what our networks cannot be.
    """
    G, D, G_ema = networks
    for network in networks:
        if network.version < OLDEST_VERSION:
            raise GanError(
                f"{where}: TensorFlow pickle version too low: expected at least {OLDEST_VERSION}, got "
                f"{network.version}; such networks are of StyleGAN 1 and cannot be taken over"
            )
    variables = {
        "G": _by_resolution(G.variables, "synthesis/ToRGB"),
        "D": _by_resolution(D.variables, "FromRGB"),
        "G_ema": _by_resolution(G_ema.variables, "synthesis/ToRGB"),
    }
    settings: dict[str, Any] = {
        "G": _generator_settings(G_ema, where),
        "D": _discriminator_settings(D, where),
        "augment": None,
    }
    states: States = {}
    notes: list[str] = []
    for name, found in variables.items():
        kind = "D" if name == "D" else "G"
        names = _generator_names(settings["G"]) if kind == "G" else _discriminator_names(settings["D"])
        taps = settings[kind]["resample_filter"]
        states[name], left_out = _convert(found, names, taps, f"{where}, {name}")
        if left_out:
            notes.append(
                f"{name}: left out {name_some([printable(one) for one in left_out])}, which ours lack"
            )
    return settings, states, notes


def _by_resolution(variables: Mapping[str, np.ndarray], stem: str) -> dict[str, np.ndarray]:
    """Colour layers numbered from the full resolution downwards (`_lod<i>`), named by their resolution."""
    pattern = re.compile(re.escape(stem) + r"_lod(\d{1,2})/(.*)", re.DOTALL)
    folder, _, layer = stem.rpartition("/")
    sides = [int(match[1]) for name in variables if (match := re.match(r"(?:synthesis/)?(\d{1,4})x\d", name))]
    side = max(sides, default=4)
    renamed = {}
    for name, value in variables.items():
        if match := pattern.fullmatch(name):
            own = side >> int(match[1])
            name = f"{folder}/" * bool(folder) + f"{own}x{own}/{layer}/{match[2]}"
        renamed[name] = value
    return renamed


def _is_numbered(variables: Mapping[str, np.ndarray], stem: str) -> bool:
    return any(name.startswith(f"{stem}_lod") for name in variables)


def _shared_settings(options: Options) -> dict[str, Any]:
    options.only("fmap_decay", 1.0, 1)
    options.only("fmap_min", 1)
    options.only("nonlinearity", "lrelu")
    options.only("dtype", "float32")
    options.ignore("structure")
    return {
        "c_dim": options.count("label_size", 0),
        "img_resolution": options.count("resolution", 1024, least=4, most=LARGEST_RESOLUTION),
        "img_channels": options.count("num_channels", 3, least=1),
        "channel_base": 2 * options.count("fmap_base", 16384, least=1),
        "channel_max": options.count("fmap_max", 512, least=1),
        "num_fp16_res": options.count("num_fp16_res", 0, most=32),
        "conv_clamp": options.bound("conv_clamp"),
        "resample_filter": options.taps("resample_kernel"),
    }


def _check_mapping(options: Options, features: int) -> None:
    """The mapping network's options; all sizes must be those that ours has."""
    options.only("mapping_fmaps", None, features)
    options.only("label_fmaps", None, features)
    options.only("mapping_nonlinearity", "lrelu")
    options.only("mapping_lrmul", 0.01)


def _generator_settings(network: NetworkRecord, where: str) -> dict[str, Any]:
    options = Options(network.options, f"{where}, TensorFlow generator")
    settings = _shared_settings(options)
    settings |= {
        "z_dim": options.count("latent_size", 512, least=1, most=LARGEST_MAPPING),
        "w_dim": options.count("dlatent_size", 512, least=1, most=LARGEST_MAPPING),
        "num_mapping_layers": options.count("mapping_layers", 8, least=1, most=MOST_MAPPING_LAYERS),
        "architecture": options.choice("architecture", "skip", ("skip", "resnet", "orig")),
        "use_noise": options.switch("use_noise", True),
    }
    if _is_numbered(network.variables, "synthesis/ToRGB"):
        settings["architecture"] = "orig"
    _check_mapping(options, settings["w_dim"])
    options.only("normalize_latents", True)
    options.ignore("truncation_psi", "truncation_cutoff", "truncation_psi_val", "truncation_cutoff_val")
    options.ignore("style_mixing_prob", "randomize_noise", "fused_modconv")
    options.ignore("dlatent_avg_beta", "w_avg_beta")  # of training alone
    options.finish()
    return with_precision(settings)


def _discriminator_settings(network: NetworkRecord, where: str) -> dict[str, Any]:
    options = Options(network.options, f"{where}, TensorFlow discriminator")
    settings = _shared_settings(options)
    channels = min(settings["channel_base"] // 4, settings["channel_max"])
    num_layers = options.count("mapping_layers", 0, most=MOST_MAPPING_LAYERS)
    settings |= {
        "architecture": options.choice("architecture", "resnet", ("resnet", "skip", "orig")),
        "num_mapping_layers": num_layers if settings["c_dim"] else 8,  # unused without labels
        "mbstd_group_size": options.count_or_none("mbstd_group_size", 4),
        "freeze_layers": 0,
    }
    if _is_numbered(network.variables, "FromRGB"):
        settings["architecture"] = "orig"
    _check_mapping(options, channels)
    options.only("mbstd_num_features", 1)
    options.finish()
    return with_precision(settings)


@dataclass(frozen=True)
class _Layer:
    """One of our layers and where its variables are in the file."""

    ours: str
    theirs: str
    noise: str | None = None  # variable of the noise picture
    is_flipped: bool = False
    has_bias: bool = True
    is_modulated: bool = False


def _generator_names(settings: Mapping[str, Any]) -> list[_Layer]:
    resolutions = block_resolutions(settings["img_resolution"])
    layers = [_Layer("mapping.embed", "mapping/LabelEmbed")] if settings["c_dim"] else []
    layers += [
        _Layer(f"mapping.fc{index}", f"mapping/Dense{index}")
        for index in range(settings["num_mapping_layers"])
    ]
    architecture = settings["architecture"]
    for resolution in resolutions:
        ours, theirs = f"synthesis.b{resolution}", f"synthesis/{resolution}x{resolution}"
        number = 2 * (resolution.bit_length() - 1) - 5  # of the noise picture of conv0
        has_noise = settings["use_noise"]

        def noise(index: int, has_noise: bool = has_noise) -> str | None:
            return f"synthesis/noise{index}" if has_noise else None

        if resolution == 4:
            layers.append(_Layer(f"{ours}.conv1", f"{theirs}/Conv", noise(0), is_modulated=True))
        else:
            layers += [
                _Layer(f"{ours}.conv0", f"{theirs}/Conv0_up", noise(number), True, is_modulated=True),
                _Layer(f"{ours}.conv1", f"{theirs}/Conv1", noise(number + 1), is_modulated=True),
            ]
            if architecture == "resnet":
                layers.append(_Layer(f"{ours}.skip", f"{theirs}/Skip", is_flipped=True, has_bias=False))
        if architecture == "skip" or resolution == resolutions[-1]:
            layers.append(_Layer(f"{ours}.torgb", f"{theirs}/ToRGB", is_modulated=True))
    return layers


def _discriminator_names(settings: Mapping[str, Any]) -> list[_Layer]:
    layers = []
    architecture = settings["architecture"]
    for resolution in block_resolutions(settings["img_resolution"])[:0:-1]:
        ours, theirs = f"b{resolution}", f"{resolution}x{resolution}"
        if architecture == "skip" or resolution == settings["img_resolution"]:
            layers.append(_Layer(f"{ours}.fromrgb", f"{theirs}/FromRGB"))
        layers += [
            _Layer(f"{ours}.conv0", f"{theirs}/Conv0"),
            _Layer(f"{ours}.conv1", f"{theirs}/Conv1_down"),
        ]
        if architecture == "resnet":
            layers.append(_Layer(f"{ours}.skip", f"{theirs}/Skip", has_bias=False))
    if architecture == "skip" or settings["img_resolution"] == 4:
        layers.append(_Layer("b4.fromrgb", "4x4/FromRGB"))
    if settings["c_dim"]:
        layers.append(_Layer("mapping.embed", "LabelEmbed"))
        layers += [
            _Layer(f"mapping.fc{index}", f"Mapping{index}") for index in range(settings["num_mapping_layers"])
        ]
    layers += [
        _Layer("b4.conv", "4x4/Conv"),
        _Layer("b4.fc", "4x4/Dense0"),
        _Layer("b4.out", "Output"),
    ]
    return layers


class _Variables:
    """Variables of a network, taken by name, and which were not."""

    def __init__(self, values: Mapping[str, np.ndarray], where: str) -> None:
        self.values, self.where = dict(values), where

    def take(self, name: str, num_axes: int) -> np.ndarray:
        value = self.values.pop(name, None)
        if value is None or value.ndim != num_axes or value.dtype.kind != "f":
            got = "none" if value is None else f"{value.dtype} of shape {value.shape}"
            raise GanError(
                f"{self.where}: expected the TensorFlow variable '{name}', numbers with {num_axes} axes, "
                f"got {got}; a network of another kind cannot be taken over"
            )
        return value


def _convert(
    variables: Mapping[str, np.ndarray], layers: list[_Layer], taps: list[float], where: str
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Weights by our names, and the variables that were not needed."""
    left = _Variables(variables, where)
    is_generator = any(layer.is_modulated for layer in layers)
    state: dict[str, np.ndarray] = {}
    kernel = setup_filter(taps).numpy()
    if is_generator:
        state["mapping.w_avg"] = left.take("dlatent_avg", 1)
        state["synthesis.b4.const"] = _first(left.take("synthesis/4x4/Const/const", 4))
    for layer in layers:
        is_dense = layer.ours.startswith("mapping.") or layer.ours in ("b4.fc", "b4.out")
        weight = left.take(f"{layer.theirs}/weight", 2 if is_dense else 4)
        if is_dense:
            state[f"{layer.ours}.weight"] = weight.T
        else:
            if layer.is_flipped:
                weight = weight[::-1, ::-1]
            state[f"{layer.ours}.weight"] = weight.transpose(3, 2, 0, 1)
        if layer.has_bias:
            state[f"{layer.ours}.bias"] = left.take(f"{layer.theirs}/bias", 1)
        if layer.is_modulated:
            state[f"{layer.ours}.affine.weight"] = left.take(f"{layer.theirs}/mod_weight", 2).T
            state[f"{layer.ours}.affine.bias"] = left.take(f"{layer.theirs}/mod_bias", 1) + 1
        if layer.noise is not None:
            state[f"{layer.ours}.noise_const"] = _first(_first(left.take(layer.noise, 4)))
            state[f"{layer.ours}.noise_strength"] = left.take(f"{layer.theirs}/noise_strength", 0)
        if not is_dense and not layer.ours.endswith(".torgb"):
            state[f"{layer.ours}.resample_filter"] = kernel
        block = layer.ours.rpartition(".")[0]
        if not is_dense and not block.endswith("b4"):
            state[f"{block}.resample_filter"] = kernel
    if is_generator:
        state["synthesis.b4.resample_filter"] = kernel
    return state, list(left.values)


def _first(array: np.ndarray) -> np.ndarray:
    """The only element along the first axis."""
    if len(array) != 1:
        raise GanError(f"expected one element along the first axis, got the shape {array.shape}")
    return array[0]
