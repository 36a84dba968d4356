"""Settings of our networks from the constructor arguments that official network files record."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from extract.restricted_pickle import printable
from gan.errors import GanError
from gan.official_attributes import PIPE_ATTRIBUTES
from gan.pickled_modules import ModuleRecord

LARGEST_SIZE = 2**24  # of any setting that counts something
LARGEST_RESOLUTION = 4096
MOST_MAPPING_LAYERS = 64
MOST_TAPS = 64
OUR_W_AVG_BETA = 0.995

GENERATOR_ARGUMENTS = (
    "z_dim", "c_dim", "w_dim", "img_resolution", "img_channels", "mapping_kwargs", "synthesis_kwargs",
)  # fmt: skip
DISCRIMINATOR_ARGUMENTS = (
    "c_dim", "img_resolution", "img_channels", "architecture", "channel_base", "channel_max", "num_fp16_res",
    "conv_clamp", "cmap_dim", "block_kwargs", "mapping_kwargs", "epilogue_kwargs",
)  # fmt: skip
AUGMENT_ARGUMENTS = PIPE_ATTRIBUTES  # the constructor keeps each under its own name


class Options:
    """Named options of a foreign file, taken one by one; each is checked, none is left unread."""

    def __init__(self, values: Mapping[Any, Any], where: str) -> None:
        self.values, self.where = dict(values), where

    def count(
        self, name: str, default: int | None = None, *, least: int = 0, most: int = LARGEST_SIZE
    ) -> int:
        value = self.values.pop(name, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is not int or not least <= value <= most:
            raise self.refusal(name, value, f"a whole number from {least} to {most}")
        return value

    def count_or_none(self, name: str, default: int) -> int | None:
        if self.values.get(name, default) is None:
            return self.values.pop(name)  # type: ignore[no-any-return]
        return self.count(name, default, least=1)

    def number(self, name: str, default: float) -> float:
        value = self.values.pop(name, default)
        if type(value) not in (int, float) or not math.isfinite(value):
            raise self.refusal(name, value, "a number")
        return float(value)

    def bound(self, name: str) -> float | None:
        """A positive number, or None."""
        value = self.values.pop(name, None)
        if value is not None and (type(value) not in (int, float) or not 0 < value < math.inf):
            raise self.refusal(name, value, "a positive number or none")
        return None if value is None else float(value)

    def switch(self, name: str, default: bool) -> bool:
        value = self.values.pop(name, default)
        if type(value) is not bool:
            raise self.refusal(name, value, "yes or no")
        return value

    def choice(self, name: str, default: str, choices: Sequence[str]) -> str:
        value = self.values.pop(name, default)
        if value not in choices:
            raise self.refusal(name, value, " or ".join(f"'{choice}'" for choice in choices))
        return str(value)

    def taps(self, name: str) -> list[float]:
        value = self.values.pop(name, [1, 3, 3, 1])
        is_list = isinstance(value, (list, tuple)) and 0 < len(value) <= MOST_TAPS
        if not is_list or any(type(tap) not in (int, float) for tap in value) or not sum(value):
            raise self.refusal(name, value, "a row of numbers")
        return list(value)

    def group(self, name: str) -> "Options":
        value = self.values.pop(name, None)
        if value is not None and not isinstance(value, dict):
            raise self.refusal(name, value, "options")
        return Options(value or {}, f"{self.where}, {name}")

    def only(self, name: str, *accepted: object) -> None:
        """An option that our networks do not have: it must say what they do anyhow."""
        value = self.values.pop(name, accepted[0])
        if not any(type(value) is type(one) and value == one for one in accepted):
            raise self.refusal(name, value, " or ".join(str(one) for one in accepted))

    def ignore(self, *names: str) -> None:
        for name in names:
            self.values.pop(name, None)

    def finish(self) -> None:
        """Refuse what was not asked for: it may change what the network computes."""
        for name, value in self.values.items():
            shown = printable(str(name))
            raise GanError(
                f"{self.where}: expected options that our networks have, got {shown}={_shown(value)}; a "
                "network with it cannot be taken over"
            )

    def refusal(self, name: str, value: object, expected: str) -> GanError:
        return GanError(
            f"{self.where}: expected {name} to be {expected}, got {_shown(value)}; a network with it cannot "
            "be taken over"
        )


def _shown(value: object) -> str:
    return printable(repr(value), 60) if isinstance(value, (str, int, float)) else type(value).__name__


def arguments(record: ModuleRecord, names: Sequence[str], where: str) -> Options:
    """The constructor's arguments by name, those given by position included."""
    if len(record.init_args) > len(names):
        raise GanError(
            f"{where}: expected at most {len(names)} arguments of {printable(record.class_name)}, got "
            f"{len(record.init_args)}"
        )
    values = dict(zip(names, record.init_args, strict=False))
    return Options(values | dict(record.init_kwargs), where)


def generator_settings(record: ModuleRecord, where: str) -> tuple[dict[str, Any], list[str]]:
    """Settings of `build_generator`, and what is worth telling about them."""
    options = arguments(record, GENERATOR_ARGUMENTS, f"{where}, generator")
    settings: dict[str, Any] = {
        "z_dim": options.count("z_dim", least=1),
        "c_dim": options.count("c_dim"),
        "w_dim": options.count("w_dim", least=1),
        "img_resolution": options.count("img_resolution", least=4, most=LARGEST_RESOLUTION),
        "img_channels": options.count("img_channels", least=1),
    }
    mapping = options.group("mapping_kwargs")
    settings["num_mapping_layers"], notes = mapping_layers(mapping, settings["w_dim"])
    synthesis = options.group("synthesis_kwargs")
    settings |= {
        "channel_base": synthesis.count("channel_base", 32768, least=1),
        "channel_max": synthesis.count("channel_max", 512, least=1),
        "num_fp16_res": synthesis.count("num_fp16_res", 0, most=32),
        "conv_clamp": synthesis.bound("conv_clamp"),
        "architecture": synthesis.choice("architecture", "skip", ("skip", "resnet", "orig")),
        "resample_filter": synthesis.taps("resample_filter"),
        "use_noise": synthesis.switch("use_noise", True),
    }
    synthesis.only("activation", "lrelu")
    synthesis.ignore("fp16_channels_last")  # where the numbers lie in memory
    for group in (mapping, synthesis, options):
        group.finish()
    return with_precision(settings), notes


def discriminator_settings(record: ModuleRecord, where: str) -> tuple[dict[str, Any], list[str]]:
    """Settings of `build_discriminator`, and what is worth telling about them."""
    options = arguments(record, DISCRIMINATOR_ARGUMENTS, f"{where}, discriminator")
    settings: dict[str, Any] = {
        "c_dim": options.count("c_dim"),
        "img_resolution": options.count("img_resolution", least=4, most=LARGEST_RESOLUTION),
        "img_channels": options.count("img_channels", least=1),
        "architecture": options.choice("architecture", "resnet", ("resnet", "skip", "orig")),
        "channel_base": options.count("channel_base", 32768, least=1),
        "channel_max": options.count("channel_max", 512, least=1),
        "num_fp16_res": options.count("num_fp16_res", 0, most=32),
        "conv_clamp": options.bound("conv_clamp"),
    }
    channels = min(settings["channel_base"] // 4, settings["channel_max"])
    options.only("cmap_dim", None, *((channels,) if settings["c_dim"] else (0, channels)))
    block = options.group("block_kwargs")
    settings["resample_filter"] = block.taps("resample_filter")
    settings["freeze_layers"] = block.count("freeze_layers", 0)
    block.only("activation", "lrelu")
    block.ignore("fp16_channels_last")
    mapping = options.group("mapping_kwargs")
    num_layers, notes = mapping_layers(mapping, channels)
    settings["num_mapping_layers"] = num_layers if settings["c_dim"] else 8  # unused without labels
    epilogue = options.group("epilogue_kwargs")
    settings["mbstd_group_size"] = epilogue.count_or_none("mbstd_group_size", 4)
    epilogue.only("mbstd_num_channels", 1)
    epilogue.only("activation", "lrelu")
    for group in (block, mapping, epilogue, options):
        group.finish()
    return with_precision(settings), notes


def mapping_layers(options: Options, features: int) -> tuple[int, list[str]]:
    """Number of layers of a mapping network; its other options must be ours."""
    options.only("embed_features", None, features)
    options.only("layer_features", None, features)
    options.only("activation", "lrelu")
    options.only("lr_multiplier", 0.01)
    notes = []
    beta = options.bound("w_avg_beta")
    if beta not in (None, OUR_W_AVG_BETA):
        notes.append(f"the average w was tracked with a decay of {beta:g}; training goes on with 0.995")
    return options.count("num_layers", 8, most=MOST_MAPPING_LAYERS), notes


def augment_settings(record: ModuleRecord | None, where: str) -> dict[str, Any] | None:
    """Settings of `build_augment_pipe`."""
    if record is None:
        return None
    options = arguments(record, AUGMENT_ARGUMENTS, f"{where}, augmentation")
    settings: dict[str, Any] = {}
    for name in AUGMENT_ARGUMENTS:
        if name in options.values:
            is_row = name == "imgfilter_bands"
            settings[name] = options.taps(name) if is_row else _plain(options.number(name, 0))
    options.finish()
    return settings


def _plain(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def with_precision(settings: dict[str, Any]) -> dict[str, Any]:
    return {**settings, "low_precision": "fp16" if settings["num_fp16_res"] else "fp32"}


def with_half_precision(settings: dict[str, Any]) -> dict[str, Any]:
    """The same network with its four highest resolutions in float16 and the clamp that this needs."""
    return {**settings, "num_fp16_res": 4, "conv_clamp": 256.0, "low_precision": "fp16"}
