"""P(A > B): how often a training of one arm beats the paired training of the other."""

from dataclasses import dataclass

import numpy as np

from semisup.statistics.corrections import clopper_pearson

MEANINGFUL = 0.75  # the share of wins that the paper asks for before it calls A better


@dataclass(frozen=True)
class WinShare:
    """The share of paired trainings that A won, with its exact 95 % interval."""

    value: float
    low: float
    high: float
    num_pairs: int

    @property
    def kind(self) -> str:
        """The paper's three answers: "not shown", "shown but small", "shown and meaningful"."""
        if self.low <= 0.5:
            return "not shown"
        return "shown and meaningful" if self.value >= MEANINGFUL else "shown but small"


def win_share(differences: np.ndarray) -> WinShare:
    """The share of pairs of trainings (same fold and seed) in which A is above B; ties count half.

    It speaks of trainings, on these test subjects: of new subjects it knows nothing. The paper takes a
    percentile bootstrap over the pairs; with the three to nine pairs of a study that ends at [1, 1] as soon
    as A has won them all, so the interval is the exact one of a share (ties by half a win), which reaches
    down to 0.29 with three wins of three. Six pairs are the fewest with which anything can be shown.

    Args:
        differences: (P,) metric of A minus that of B, one number a pair.

    Raises:
        ValueError: if there is no pair.

    Source: Bouthillier et al. 2021, "Accounting for variance in machine learning benchmarks", MLSys,
    Section 5 and Appendix C.
    """
    values = np.asarray(differences, float)
    if len(values) == 0:
        raise ValueError("P(A > B) needs at least one pair of trainings, got none")
    wins = float((values > 0).sum() + (values == 0).sum() / 2)
    low, high = clopper_pearson(wins, len(values))
    return WinShare(wins / len(values), low, high, len(values))
