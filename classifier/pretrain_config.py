"""The settings of one pretraining, stated once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from classifier.autoencoder import CODE_WIDTH
from classifier.denoising import LOSSES, NoiseConfig
from extract.errors import SettingsError
from extract.preprocessing import PRESETS, PreprocessConfig, parse_preprocessing

# What a pretraining that goes on may change: none of it moves a bit of the result on one device.
FREE = ("save_every", "device", "threads")


@dataclass(frozen=True)
class PretrainConfig:
    """How to pretrain one encoder; with the images it fixes the result to the bit on a CPU."""

    steps: int = 2000  # optimiser steps, neither more nor fewer
    batch_size: int = 64  # images a step
    lr: float = 2e-3  # peak of the one cycle
    warmup: float = 0.2  # share of the steps until the peak
    weight_decay: float = 0.01  # decoupled; biases and norms are spared
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    loss: str = "mse"  # or "ssim+l1"
    code_width: int = CODE_WIDTH  # channels of the bottleneck
    preprocessing: PreprocessConfig = PRESETS["pneumonia-backbone"]  # also a name or a mapping of settings
    augment: bool = True  # small shifts, turns and zooms before the noise
    hold_out: float = 0.1  # share of the subjects that the reconstruction is measured on, not trained
    validate_every: int = 100  # steps between two looks at them
    save_every: int = 100  # steps between two states to go on from
    seed: int = 0
    device: str = "auto"  # "auto" = CUDA where there is one, otherwise the CPU
    threads: int | None = None  # CPU threads of torch; None = as they are

    def __post_init__(self) -> None:
        object.__setattr__(self, "preprocessing", parse_preprocessing(self.preprocessing))
        for name in ("steps", "validate_every", "save_every", "code_width"):
            _require(getattr(self, name) >= 1, f"{name} must be at least 1, got {getattr(self, name)}")
        _require(
            self.batch_size >= 2, f"batch_size must be at least 2 (batch statistics), got {self.batch_size}"
        )
        _require(self.loss in LOSSES, f'loss must be one of {", ".join(LOSSES)}, got "{self.loss}"')
        _require(self.lr > 0, f"lr must be above 0, got {self.lr}")
        _require(0 < self.warmup < 1, f"warmup must lie between 0 and 1, got {self.warmup}")
        _require(self.weight_decay >= 0, f"weight_decay must not be negative, got {self.weight_decay}")
        _require(0 < self.hold_out <= 0.5, f"hold_out must be above 0 and at most 0.5, got {self.hold_out}")
        _require(self.threads is None or self.threads >= 1, f"threads must be at least 1, got {self.threads}")

    def to_json(self) -> dict[str, Any]:
        """All settings, with the steps of preprocessing as they differ from none."""
        return asdict(self) | {"preprocessing": self.preprocessing.differences()}

    def decisive(self) -> dict[str, Any]:
        """The settings that the result depends on: a pretraining goes on only where they are the same."""
        return {name: value for name, value in self.to_json().items() if name not in FREE}


def _require(is_met: bool, sentence: str) -> None:
    if not is_met:
        raise SettingsError(sentence)
