"""The settings of one training, stated once."""

import json
from dataclasses import dataclass, fields
from pathlib import Path

from extract.errors import SettingsError
from extract.preprocessing import PLAIN, PreprocessConfig, parse_preprocessing

SMALL_RESNET = "small_resnet"
KEEP = ("best", "last")
LOSSES = ("cross_entropy", "focal", "binary")
OPTIMIZERS = ("adamw", "adam", "sgd")
SCHEDULES = ("one_cycle", "constant", "plateau")
MONITORS = ("balanced_accuracy", "auroc", "nll")
PRECISIONS = ("fp32", "bf16")
CHOICES = {
    "keep": KEEP, "loss": LOSSES, "optimizer": OPTIMIZERS, "schedule": SCHEDULES, "monitor": MONITORS,
    "precision": PRECISIONS,
}  # fmt: skip


@dataclass(frozen=True)
class ClassifierConfig:
    """How to train one classifier; with the data it fixes the result to the bit on a CPU."""

    arch: str = SMALL_RESNET  # own small net, or any timm name
    pretrained: bool = False  # start from timm's published weights
    weights: Path | None = None  # start from this file of published weights instead; no network is asked
    head: tuple[int, ...] = ()  # widths of hidden dense layers between the body and the last layer
    dropout: float = 0.0  # before the last layer, and after each hidden dense layer
    trained_stages: int | None = None  # last stages of the body that learn; None = all, 0 = the head alone
    frozen_share: float = 0.0  # share of the steps, at the start, in which the head alone learns
    freeze_norm: bool = False  # BatchNorm of the body uses its stored moments, and does not learn new ones
    steps: int = 600  # optimiser steps, neither more nor fewer
    batch_size: int = 64  # images a step
    optimizer: str = "adamw"  # or "adam", or "sgd" (Nesterov)
    momentum: float = 0.9  # of sgd; one_cycle moves it between 0.85 and 0.95 whatever stands here
    lr: float | None = None  # peak of the schedule; None = the network's own, see `peak_lr`
    frozen_lr: float | None = None  # the same while the head alone learns; None = as `lr`
    stage_lr_ratio: float = 1.0  # rate of the body's first stage over the head's, geometric between them
    schedule: str = "one_cycle"  # or "constant", or "plateau": lower the rate when the monitor rests
    warmup: float = 0.2  # one_cycle: share of the steps until the peak
    plateau_patience: int = 2  # plateau: looks without gain until the rate falls
    plateau_factor: float = 0.1  # plateau: by what it falls
    weight_decay: float = 0.05  # decoupled with adamw, else in the gradient; biases and norms are spared
    loss: str = "cross_entropy"  # or "focal", or "binary": one sigmoid a class
    focal_gamma: float = 2.0  # focal: how much less an image counts that is classified well
    preprocessing: PreprocessConfig = PLAIN  # before the network; also a name or a mapping of settings
    augment: bool = True  # small shifts, turns, zooms, brightness and contrast
    mirror: bool = False  # left-right; only where the anatomy or its label names no side
    mixup: float = 0.0  # alpha of the Beta that pairs of images are blended by; 0 = never
    cutmix: float = 0.0  # alpha of the Beta that rectangles are exchanged by; 0 = never; both: by turns
    label_smoothing: float = 0.0  # share of each label spread evenly over all classes
    balance_classes: bool = False  # weigh classes inversely to how often they occur in training
    validate_every: int = 100  # steps between two looks at the validation part
    monitor: str = "balanced_accuracy"  # what a look is judged by: that (then NLL), "auroc" or "nll"
    keep: str = "best"  # the look to keep: "best" by the monitor, or "last"
    patience: int | None = None  # looks without gain until the training stops early; None = full budget
    ema: float | None = None  # decay a step of the averaged weights that are judged and kept; None = none
    tta: int = 0  # changed views of each image whose outputs are averaged with its own when predicting
    calibrate: bool = True  # fit a temperature on the validation part at the end
    seed: int = 0
    precision: str = "fp32"  # or "bf16": faster on processors that know it, sums and weights stay fp32
    device: str = "auto"  # "auto" = CUDA where there is one, otherwise the CPU
    threads: int | None = None  # CPU threads of torch during the training; None = as they are

    def __post_init__(self) -> None:
        object.__setattr__(self, "preprocessing", parse_preprocessing(self.preprocessing))
        object.__setattr__(self, "head", tuple(self.head))
        if self.weights is not None:
            object.__setattr__(self, "weights", Path(self.weights))
        for name in ("steps", "batch_size", "validate_every", "plateau_patience"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        for name, allowed in CHOICES.items():
            value = getattr(self, name)
            _require(value in allowed, f'{name} must be one of {", ".join(allowed)}, got "{value}"')
        for name in ("frozen_lr", "stage_lr_ratio", "patience"):
            value = getattr(self, name)
            _require(value is None or value > 0, f"{name} must be above 0, got {value}")
        for name in ("dropout", "frozen_share", "momentum"):
            value = getattr(self, name)
            _require(0 <= value < 1, f"{name} must be in [0, 1), got {value}")
        for name in ("mixup", "cutmix", "focal_gamma", "tta"):
            _require(getattr(self, name) >= 0, f"{name} must not be negative, got {getattr(self, name)}")
        _require(
            all(width >= 1 for width in self.head), f"head must be widths of at least 1, got {self.head}"
        )
        _require(
            self.trained_stages is None or self.trained_stages >= 0,
            f"trained_stages must not be negative, got {self.trained_stages}",
        )
        _require(self.stage_lr_ratio <= 1, f"stage_lr_ratio must be in (0, 1], got {self.stage_lr_ratio}")
        _require(0 < self.plateau_factor < 1, f"plateau_factor must be in (0, 1), got {self.plateau_factor}")
        _require(self.ema is None or 0 < self.ema < 1, f"ema must be in (0, 1), got {self.ema}")
        _require(
            not (self.pretrained and self.weights),
            "pretrained fetches published weights and weights names a file of them: leave one of them out",
        )
        _require(
            self.batch_size >= 2, f"batch_size must be at least 2 (batch statistics), got {self.batch_size}"
        )
        _require(self.lr is None or self.lr > 0, f"lr must be above 0, got {self.lr}")
        _require(self.weight_decay >= 0, f"weight_decay must not be negative, got {self.weight_decay}")
        _require(0 < self.warmup < 1, f"warmup must lie between 0 and 1, got {self.warmup}")
        _require(
            0 <= self.label_smoothing < 1, f"label_smoothing must be in [0, 1), got {self.label_smoothing}"
        )
        _require(self.threads is None or self.threads >= 1, f"threads must be at least 1, got {self.threads}")

    @property
    def peak_lr(self) -> float:
        """`lr`, or what suits the network: measured for small_resnet, customary for those of timm."""
        if self.lr is not None:
            return self.lr
        if self.arch == SMALL_RESNET:
            return 5e-3
        return 3e-4 if self.pretrained or self.weights else 1e-3


def read_settings(path: Path) -> ClassifierConfig:
    """Settings from a JSON object; what it does not name has its default.

    Raises:
        SettingsError: if the file cannot be read, or names a setting or a value that there is not.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"{path}: expected settings in JSON, got something else ({error})") from error
    if not isinstance(content, dict):
        raise SettingsError(
            f'{path}: expected settings such as {{"lr": 0.001}}, got {type(content).__name__}'
        )
    known = {field.name for field in fields(ClassifierConfig)}
    unknown = sorted(set(content) - known)
    if unknown:
        raise SettingsError(
            f"{path}: there is no setting {unknown[0]!r}; known are {', '.join(sorted(known))}"
        )
    try:
        return ClassifierConfig(**content)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from error
    except TypeError as error:  # a word where a number belongs
        raise SettingsError(f"{path}: a setting has a value of the wrong kind ({error})") from error


def _require(is_met: bool, sentence: str) -> None:
    if not is_met:
        raise SettingsError(sentence)
