"""The settings of a tuning, stated once."""

from __future__ import annotations

from dataclasses import dataclass

from extract.errors import SettingsError


@dataclass(frozen=True)
class TuneConfig:
    """How many trials, on which inner folds, and how they are chosen."""

    trials: int = 30  # complete, pruned and failed ones together
    timeout_minutes: float | None = None  # after which no trial is begun; None = never
    jobs: int = 1  # processes that share the storage
    inner_folds: int = 1  # 1 = one hold-out, K = each subject of the training part validates once
    inner_share: float = 0.25  # of the subjects that the one hold-out takes
    startup_trials: int = 8  # drawn at random, before the sampler learns and before any trial is pruned
    prune: bool = True  # stop trials that are worse than the median at the same step
    seed: int = 0  # of the folds, the draws and the trainings

    def __post_init__(self) -> None:
        for name in ("trials", "jobs", "inner_folds", "startup_trials"):
            value = getattr(self, name)
            if value < 1:
                raise SettingsError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
        if not 0 < self.inner_share <= 0.5:
            raise SettingsError(f"--inner-share must be above 0 and at most 0.5, got {self.inner_share}")
        if self.timeout_minutes is not None and not self.timeout_minutes > 0:
            raise SettingsError(f"--timeout-minutes must be above 0, got {self.timeout_minutes:g}")

    def decisive(self) -> dict[str, int | float | bool]:
        """What must not change while a tuning goes on: scores would not compare."""
        names = ("inner_folds", "inner_share", "startup_trials", "prune", "seed")
        return {name: getattr(self, name) for name in names}
