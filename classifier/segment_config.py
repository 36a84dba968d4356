"""The settings of one training of a segmenter, stated once."""

from dataclasses import dataclass

from classifier.unet import NORMS
from extract.errors import SettingsError
from extract.preprocessing import PRESETS, PreprocessConfig, parse_preprocessing

MAX_SIZE = 1024


@dataclass(frozen=True)
class SegmentConfig:
    """How to train one segmenter; with the data it fixes the result to the bit on a CPU."""

    size: int = 128  # pixels a side that the network sees
    width: int = 12  # channels of the first level
    depth: int = 4  # halvings
    norm: str = "group"  # or "batch"
    steps: int = 600  # optimiser steps, neither more nor fewer
    batch_size: int = 8  # images a step
    lr: float = 3e-3  # peak of the one cycle
    warmup: float = 0.2  # share of the steps until the peak
    weight_decay: float = 0.01  # decoupled; biases and norms are spared
    preprocessing: PreprocessConfig = PRESETS["zscore"]  # gray levels alone; also a name or a mapping
    augment: bool = True  # shifts, turns, zooms, stretches, brightness, contrast and gamma
    mirror: bool = False  # left-right for half of the images
    threshold: float = 0.5  # probability from which a pixel belongs to the mask
    validate_every: int = 50  # steps between two looks at the validation part
    val_share: float = 0.15  # of the subjects: choose the checkpoint
    test_share: float = 0.15  # of the subjects: measured once, at the end
    seed: int = 0
    device: str = "auto"  # "auto" = CUDA where there is one, otherwise the CPU
    threads: int | None = None  # CPU threads of torch during the training; None = as they are

    def __post_init__(self) -> None:
        object.__setattr__(self, "preprocessing", parse_preprocessing(self.preprocessing))
        for name in ("width", "steps", "batch_size", "validate_every"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        _require(16 <= self.size <= MAX_SIZE, f"size must be in 16 ... {MAX_SIZE}, got {self.size}")
        _require(1 <= self.depth <= 7, f"depth must be in 1 ... 7, got {self.depth}")
        _require(
            self.size >= 2 ** (self.depth + 1),
            f"depth {self.depth} needs a size of at least {2 ** (self.depth + 1)}, got {self.size}",
        )
        _require(self.norm in NORMS, f"norm must be one of {', '.join(NORMS)}, got {self.norm!r}")
        _require(self.lr > 0, f"lr must be above 0, got {self.lr}")
        _require(0 < self.warmup < 1, f"warmup must lie between 0 and 1, got {self.warmup}")
        _require(self.weight_decay >= 0, f"weight_decay must not be negative, got {self.weight_decay}")
        _require(0 < self.threshold < 1, f"threshold must lie between 0 and 1, got {self.threshold}")
        for name in ("val_share", "test_share"):
            value = getattr(self, name)
            _require(0 < value < 1, f"{name} must lie between 0 and 1, got {value}")
        _require(
            self.val_share + self.test_share < 1,
            f"val_share and test_share must leave subjects for training, got {self.val_share} and "
            f"{self.test_share}",
        )
        _require(self.threads is None or self.threads >= 1, f"threads must be at least 1, got {self.threads}")
        steps = self.preprocessing
        moves = steps.mask != "none" or steps.crop != "none" or steps.size is not None or steps.color == "rgb"
        _require(
            not moves,
            "a segmenter's preprocessing changes gray levels alone (clahe_clip, brightness, contrast, "
            f"normalize), got: {steps.describe()}; the network's size is set by --size",
        )


def _require(is_met: bool, sentence: str) -> None:
    if not is_met:
        raise SettingsError(sentence)
