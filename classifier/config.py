"""The settings of one training, stated once."""

from dataclasses import dataclass

from extract.errors import SettingsError
from extract.preprocessing import PLAIN, PreprocessConfig, parse_preprocessing

SMALL_RESNET = "small_resnet"
KEEP = ("best", "last")


@dataclass(frozen=True)
class ClassifierConfig:
    """How to train one classifier; with the data it fixes the result to the bit on a CPU."""

    arch: str = SMALL_RESNET  # own small net, or any timm name
    pretrained: bool = False  # start from timm's published weights
    steps: int = 600  # optimiser steps, neither more nor fewer
    batch_size: int = 64  # images a step
    lr: float | None = None  # peak of the one-cycle schedule; None = the network's own, see `peak_lr`
    weight_decay: float = 0.05  # decoupled (AdamW); biases and normalisation are spared
    warmup: float = 0.2  # share of the steps until the peak
    preprocessing: PreprocessConfig = PLAIN  # before the network; also a name or a mapping of settings
    augment: bool = True  # small shifts, turns, zooms, brightness and contrast
    mirror: bool = False  # left-right; only where the anatomy or its label names no side
    label_smoothing: float = 0.0  # share of each label spread evenly over all classes
    balance_classes: bool = False  # weigh classes inversely to how often they occur in training
    validate_every: int = 100  # steps between two looks at the validation part
    keep: str = "best"  # "best" by validation (balanced accuracy, then NLL) or "last"
    calibrate: bool = True  # fit a temperature on the validation part at the end
    seed: int = 0
    device: str = "auto"  # "auto" = CUDA where there is one, otherwise the CPU
    threads: int | None = None  # CPU threads of torch during the training; None = as they are

    def __post_init__(self) -> None:
        object.__setattr__(self, "preprocessing", parse_preprocessing(self.preprocessing))
        for name in ("steps", "batch_size", "validate_every"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        _require(
            self.batch_size >= 2, f"batch_size must be at least 2 (batch statistics), got {self.batch_size}"
        )
        _require(self.lr is None or self.lr > 0, f"lr must be above 0, got {self.lr}")
        _require(self.weight_decay >= 0, f"weight_decay must not be negative, got {self.weight_decay}")
        _require(0 < self.warmup < 1, f"warmup must lie between 0 and 1, got {self.warmup}")
        _require(
            0 <= self.label_smoothing < 1, f"label_smoothing must be in [0, 1), got {self.label_smoothing}"
        )
        _require(self.keep in KEEP, f'keep must be one of {", ".join(KEEP)}, got "{self.keep}"')
        _require(self.threads is None or self.threads >= 1, f"threads must be at least 1, got {self.threads}")

    @property
    def peak_lr(self) -> float:
        """`lr`, or what suits the network: measured for small_resnet, customary for those of timm."""
        if self.lr is not None:
            return self.lr
        if self.arch == SMALL_RESNET:
            return 5e-3
        return 3e-4 if self.pretrained else 1e-3


def _require(is_met: bool, sentence: str) -> None:
    if not is_met:
        raise SettingsError(sentence)
