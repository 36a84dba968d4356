"""How wide an interval must be when two things are left to chance: the subjects and the trainings.

A difference of arms is a mean over test subjects and over trainings (seeds), as a reader study's is a mean
over cases and readers, and its variance has the same parts:

    Var = training / S + subject / n + (subject x training) / (n S)

* Drawing subjects again with the seeds averaged sees the second and third part (`subject_variance`); the
  third alone is known from how differently the single seeds move under the same draw (`shared_variance`).
* The variance of the S single values, divided by S, sees the first and third part (`seed_variance`).

So the whole is seed_variance + (subject_variance - shared_variance), the estimate of Obuchowski & Rockette
1995 (Commun. Stat. Simul. 24) for readers and cases that are both random. The bootstrap over subjects
alone takes trainings for fixed; drawing three seeds again would count their sharing three times over.

Which t goes with it? With three seeds of one fold `seed_variance` has two degrees of freedom. One t for the
sum, at Satterthwaite's degrees of freedom (Hillis 2007, Stat. Med. 26), is too small when three seeds happen
to agree: coverage falls to 92.5 %. Each part with the t of its own degrees of freedom (Cochran 1964,
Biometrics 20) is too large, up to 97.8 %. Half the sum of the two squared widths stays within 94.5 and 97 %,
whatever the shares of the parts are: `benchmarks/interval_coverage.py` has the table.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

CONFIDENCE = 0.95
UPPER = (1 + CONFIDENCE) / 2
# No interval is narrower than half of what the subjects alone would give, however well few seeds agree.
SMALLEST_SHARE = 0.5


@dataclass(frozen=True)
class Sources:
    """The parts of the variance of an estimate, and how many degrees of freedom each is known with."""

    subject_variance: float  # of the mean over seeds, from drawing subjects
    subject_df: float
    shared_variance: float = 0.0  # the part of it that differs between the seeds
    seed_variance: float = 0.0  # of the mean over seeds, from the single values
    seed_df: int = 0  # 0 where every fold has one seed

    @property
    def total(self) -> float:
        """Variance of the estimate; of the subjects alone where nothing is known of the seeds."""
        return self.seed_variance + self._subjects_alone if self.seed_df else self.subject_variance

    @property
    def half_width(self) -> float:
        """Half the width of the 95 % interval."""
        df = max(1.0, self.subject_df)
        alone = self.subject_variance * stdtrit(df, UPPER) ** 2
        if not self.seed_df or self.total == 0:
            return float(np.sqrt(alone))
        seeds, subjects = self.seed_variance, self._subjects_alone
        pooled_df = self.total**2 / (seeds**2 / self.seed_df + subjects**2 / df)
        pooled = self.total * stdtrit(pooled_df, UPPER) ** 2
        apart = seeds * stdtrit(self.seed_df, UPPER) ** 2 + subjects * stdtrit(df, UPPER) ** 2
        return float(np.sqrt(max((pooled + apart) / 2, SMALLEST_SHARE**2 * alone)))

    @property
    def _subjects_alone(self) -> float:
        return max(0.0, self.subject_variance - self.shared_variance)
