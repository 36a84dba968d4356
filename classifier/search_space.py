"""What a tuning may choose from: names of settings, each with a list of choices or a range of a rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from classifier.config import LOSSES, ClassifierConfig
from extract.errors import SettingsError
from extract.preprocessing import MASKS, MAX_SIZE, parse_preprocessing

if TYPE_CHECKING:
    import optuna

Choice = str | int | float | bool
ALL, AS_IS = "all", "as_is"
AUGMENTATIONS: dict[str, dict[str, Any]] = {
    "none": {"augment": False, "mixup": 0.0, "cutmix": 0.0},
    "mild": {"augment": True, "mixup": 0.0, "cutmix": 0.0},
    "mixup": {"augment": True, "mixup": 0.2, "cutmix": 0.0},
    "cutmix": {"augment": True, "mixup": 0.0, "cutmix": 1.0},
}


@dataclass(frozen=True)
class Range:
    """A positive number drawn so that each factor is as likely as any other."""

    low: float
    high: float

    def to_json(self) -> dict[str, float]:
        return {"low": self.low, "high": self.high}


@dataclass(frozen=True)
class Rule:
    """What may stand in a list of choices."""

    is_fit: Callable[[Any], bool]
    expected: str
    takes_range: bool = False


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _is_preset(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    parse_preprocessing(value)  # its own sentence names the presets
    return True


RULES: dict[str, Rule] = {
    "arch": Rule(lambda v: isinstance(v, str) and bool(v), "names of networks"),
    "trained_stages": Rule(lambda v: v == ALL or _is_whole(v, 0), f'"{ALL}" or numbers from 0'),
    "lr": Rule(lambda v: _is_number(v) and v > 0, "numbers above 0", takes_range=True),
    "size": Rule(
        lambda v: v == AS_IS or (_is_whole(v, 8) and v <= MAX_SIZE),
        f'"{AS_IS}" or pixels from 8 to {MAX_SIZE}',
    ),
    "loss": Rule(lambda v: v in LOSSES, f"some of {', '.join(LOSSES)}"),
    "mask": Rule(lambda v: v in MASKS, f"some of {', '.join(MASKS)}"),
    "augmentation": Rule(lambda v: v in AUGMENTATIONS, f"some of {', '.join(AUGMENTATIONS)}"),
    "preprocessing": Rule(_is_preset, "names of presets"),
    "weight_decay": Rule(lambda v: _is_number(v) and v >= 0, "numbers from 0", takes_range=True),
    "dropout": Rule(lambda v: _is_number(v) and 0 <= v < 1, "numbers in [0, 1)"),
    "label_smoothing": Rule(lambda v: _is_number(v) and 0 <= v < 1, "numbers in [0, 1)"),
    "balance_classes": Rule(lambda v: isinstance(v, bool), "true or false"),
    "batch_size": Rule(lambda v: _is_whole(v, 2), "whole numbers from 2"),
    "stage_lr_ratio": Rule(lambda v: _is_number(v) and 0 < v <= 1, "numbers in (0, 1]", takes_range=True),
}
# The setting of ClassifierConfig that each decides; a space and a fixed setting must not both decide one.
DECIDES = {name: (name,) for name in RULES} | {
    "size": (),  # part of the preprocessing, beside whose other steps it is set
    "mask": (),
    "augmentation": ("augment", "mixup", "cutmix"),
}


@dataclass(frozen=True)
class SearchSpace:
    """Settings to choose, each from a list (its first entry is tried first) or a range."""

    dimensions: tuple[tuple[str, tuple[Choice, ...] | Range], ...]

    def __getitem__(self, name: str) -> tuple[Choice, ...] | Range | None:
        return dict(self.dimensions).get(name)

    def to_json(self) -> dict[str, Any]:
        return {
            name: given.to_json() if isinstance(given, Range) else list(given)
            for name, given in self.dimensions
        }


def default_space(side: int, starts_pretrained: bool, archs: tuple[str, ...]) -> SearchSpace:
    """What is searched where the user does not say otherwise.

    Args:
        side: of the images, pixels; half of it is tried, too, where that leaves 32.
        starts_pretrained: whether weights are given, so that freezing them can be a choice.
        archs: networks to choose from, the customary one first.
    """
    dimensions: dict[str, tuple[Choice, ...] | Range] = {
        "arch": archs,
        "lr": Range(5e-4, 1e-2),
        "size": (AS_IS, side // 2) if side // 2 >= 32 else (AS_IS,),
        "loss": ("cross_entropy", "focal"),
        "mask": ("none", "otsu"),
        "augmentation": ("mild", "none", "mixup"),
    }
    if starts_pretrained:
        dimensions["trained_stages"] = (ALL, 2, 0)
    return make_space(dimensions)


def make_space(dimensions: Mapping[str, Any], where: str = "search space") -> SearchSpace:
    """Check the choices and put them into the order in which they are drawn.

    Args:
        dimensions: by name a list of choices, or `Range` or a mapping with low and high.
        where: file or flag, for the error.

    Raises:
        SettingsError: naming the setting, what is allowed and what came.
    """
    unknown = sorted(set(map(str, dimensions)) - set(RULES))
    if unknown:
        close = get_close_matches(unknown[0], list(RULES), n=1, cutoff=0.6)
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(RULES)}"
        raise SettingsError(f"{where}: no tuning of {unknown[0]!r}; {hint}")
    if not dimensions:
        raise SettingsError(f"{where}: expected at least one setting with its choices, got none")
    checked = {name: _check(name, dimensions[name], where) for name in RULES if name in dimensions}
    return SearchSpace(tuple(checked.items()))


def read_space(path: Path) -> dict[str, Any]:
    """The choices in a YAML or JSON file, by name, unchecked.

    Raises:
        SettingsError: if it cannot be read or is no mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_OnceLoader)
    except OSError as error:
        raise SettingsError(f"{path}: cannot read the search space: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: expected YAML or JSON: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise SettingsError(
            f"{path}: expected choices such as 'loss: [cross_entropy, focal]', got {type(content).__name__}"
        )
    return {str(name): given for name, given in content.items()}


def parse_choices(text: str) -> tuple[str, Any]:
    """Name and choices of one `--try`: "loss=focal,binary", "lr=0.0005..0.01".

    Raises:
        SettingsError: if it has another form.
    """
    name, separator, listed = (part.strip() for part in text.partition("="))
    if not separator or not listed:
        raise SettingsError(f"--try must be NAME=A,B,... or NAME=LOW..HIGH, got {text!r}")
    if ".." in listed:
        low, high = (_scalar(part) for part in listed.split("..", 1))
        return name, {"low": low, "high": high}
    return name, [_scalar(part) for part in listed.split(",")]


def draw(trial: optuna.Trial, space: SearchSpace, starts_pretrained: Callable[[str], bool]) -> dict[str, Any]:
    """Ask the sampler for a value of each setting.

    Args:
        starts_pretrained: whether a network starts from weights; only there freezing is a choice.
    """
    drawn: dict[str, Any] = {}
    for name, given in space.dimensions:
        if name == "trained_stages" and not starts_pretrained(drawn.get("arch", "")):
            continue
        if isinstance(given, Range):
            drawn[name] = trial.suggest_float(name, given.low, given.high, log=True)
        else:
            drawn[name] = trial.suggest_categorical(name, list(given))
    return drawn


def first_choices(space: SearchSpace, config: ClassifierConfig) -> dict[str, Any]:
    """What is tried first: the first entry of each list, and of a range what would be used without tuning."""
    chosen: dict[str, Any] = {}
    for name, given in space.dimensions:
        if not isinstance(given, Range):
            chosen[name] = given[0]
            continue
        usual = config.peak_lr if name == "lr" else getattr(config, name)
        chosen[name] = min(max(usual, given.low), given.high)
    return chosen


def apply_choices(config: ClassifierConfig, drawn: Mapping[str, Any]) -> ClassifierConfig:
    """The settings of a training with what was drawn in their place.

    Raises:
        SettingsError: if the choices do not go together.
    """
    changes: dict[str, Any] = {
        name: value
        for name, value in drawn.items()
        if name not in ("size", "mask", "augmentation", "preprocessing", "trained_stages")
    }
    if "trained_stages" in drawn:
        changes["trained_stages"] = None if drawn["trained_stages"] == ALL else drawn["trained_stages"]
    changes |= AUGMENTATIONS[drawn["augmentation"]] if "augmentation" in drawn else {}
    steps = parse_preprocessing(drawn["preprocessing"]) if "preprocessing" in drawn else config.preprocessing
    if "size" in drawn:
        steps = replace(steps, size=steps.size if drawn["size"] == AS_IS else drawn["size"])
    if "mask" in drawn:
        steps = replace(steps, mask=drawn["mask"])
    return replace(config, **changes, preprocessing=steps)


def _check(name: str, given: Any, where: str) -> tuple[Choice, ...] | Range:
    rule = RULES[name]
    if isinstance(given, Range):
        given = given.to_json()
    if isinstance(given, Mapping):
        is_range = set(given) == {"low", "high"} and all(_is_number(value) for value in given.values())
        if not rule.takes_range or not is_range:
            kinds = "a list or a range such as {low: 0.001, high: 0.01}" if rule.takes_range else "a list"
            raise SettingsError(f"{where}: {name} must be {kinds}, got {dict(given)}")
        low, high = float(given["low"]), float(given["high"])
        if not 0 < low < high or not (rule.is_fit(low) and rule.is_fit(high)):
            raise SettingsError(
                f"{where}: {name} must range from a number above 0 to a larger one ({rule.expected}), got "
                f"{low:g} to {high:g}"
            )
        return Range(low, high)
    choices = list(given) if isinstance(given, list | tuple) else [given]
    unfit = [choice for choice in choices if not rule.is_fit(choice)]
    if not choices or unfit:
        shown = repr(unfit[0]) if unfit else "an empty list"
        raise SettingsError(f"{where}: {name} must be a list of {rule.expected}, got {shown}")
    if len({(type(choice), choice) for choice in choices}) < len(choices):
        raise SettingsError(f"{where}: {name} names a choice twice: {choices}")
    return tuple(choices)


def _scalar(text: str) -> Any:
    """A number, true, false or a word, as YAML reads it."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    if isinstance(value, str):
        try:
            return float(value)  # 1e-3, which YAML takes for a word
        except ValueError:
            return value
    return text.strip() if value is None else value


class _OnceLoader(yaml.SafeLoader):
    """Plain YAML in which a key may stand once: of two lists, one would be ignored in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names: Iterable[Any] = [key.value for key, _ in node.value]
        twice = sorted({str(name) for name in names if list(names).count(name) > 1})
        if twice:
            raise yaml.YAMLError(f"{twice[0]!r} is set a second time; keep one of them")
        return super().construct_mapping(node, deep)
