"""The settings of FixMatch, apart from torch."""

from dataclasses import dataclass

from extract.errors import SettingsError


@dataclass(frozen=True)
class FixMatchConfig:
    """The paper's settings."""

    threshold: float = 0.95  # probability that the weak view's class must reach, uncalibrated
    mu: int = 7  # unlabeled images for each labeled one in a batch
    weight: float = 1.0  # of the unlabeled loss
    ema: float = 0.999  # decay a step of the averaged weights that are judged and kept

    def __post_init__(self) -> None:
        for holds, sentence in (
            (0 < self.threshold <= 1, f"threshold must be in (0, 1], got {self.threshold}"),
            (self.mu >= 1, f"mu must be at least 1, got {self.mu}"),
            (self.weight >= 0, f"weight must not be negative, got {self.weight}"),
            (0 < self.ema < 1, f"ema must be in (0, 1), got {self.ema}"),
        ):
            if not holds:
                raise SettingsError(sentence)
