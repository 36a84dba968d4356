"""How many pseudo-labels an audit has to show for a promise: bounds that hold if none of them is wrong."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from semisup.audit_sample import NUM_BANDS, allocate, stratify
from semisup.audit_statistics import stratified_interval


@dataclass(frozen=True)
class BestCase:
    """What a sample could show at best."""

    num: int  # pseudo-labels that are drawn
    high: float  # upper 95 % limit of the share of wrong ones, if none of the sample is
    by_arm: dict[tuple[str, float], float]  # the same by arm and fraction


class AuditPlan:
    """A population of pseudo-labels, and what samples of it could show."""

    def __init__(self, population: pd.DataFrame) -> None:
        """Args: population: `rows` of `read_population`."""
        self.num_pseudo_labels = len(population)
        self._strata = {bands: stratify(population, bands) for bands in range(1, NUM_BANDS + 1)}

    @property
    def min_num(self) -> int:
        """The smallest sample: one of each arm, fraction and class."""
        return len(self._strata[1].sizes)

    @property
    def cells(self) -> list[tuple[str, float]]:
        """Arms and fractions."""
        return list(dict.fromkeys(name[:2] for name in self._strata[1].names))

    def num_bands(self, num: int) -> int:
        """Bands of confidence to draw from: as many as leave about two pictures for every stratum.

        With fewer pictures than that, bands would widen the bound.
        """
        return max(b for b, found in self._strata.items() if b == 1 or 2 * len(found.sizes) <= num)

    def best_case(self, num: int) -> BestCase:
        """The bounds of a sample without a single error.

        Raises:
            ValueError: for fewer than `min_num`.
        """
        by_arm = {cell: self.best_bound(num, cell) for cell in self.cells}
        return BestCase(min(num, self.num_pseudo_labels), self.best_bound(num), by_arm)

    def best_bound(self, num: int, cell: tuple[str, float] | None = None) -> float:
        """The bound of all pseudo-labels, or of one arm and fraction, by a sample without a single error.

        Raises:
            ValueError: for fewer than `min_num`.
        """
        if num < self.min_num:
            raise ValueError(f"num must be {self.min_num} or more, got {num}")
        found = self._strata[self.num_bands(num)]
        counts = allocate(found.sizes, num)
        rows = np.array([cell is None or name[:2] == cell for name in found.names])
        return stratified_interval(np.zeros(rows.sum(), dtype=np.int64), counts[rows], found.sizes[rows])[2]

    def num_for(self, arm: str, fraction: float, max_error: float) -> int | None:
        """The smallest sample that could bound the error of one arm so; None if there is none.

        Found by halving, for the limit falls with the size but for small steps.
        """
        cell = next((c for c in self.cells if c[0] == arm and np.isclose(c[1], fraction)), None)
        if cell is None:
            return None
        low = high = self.min_num
        while (
            self.best_bound(high, cell) > max_error
        ):  # upwards by doubling: large samples take longer to reckon with
            if high >= self.num_pseudo_labels:
                return None
            low, high = high + 1, min(2 * high, self.num_pseudo_labels)
        while low < high:
            middle = (low + high) // 2
            is_enough = self.best_bound(middle, cell) <= max_error
            low, high = (low, middle) if is_enough else (middle + 1, high)
        return high
