"""The smallest difference between two arms that a study of a given size is likely to find."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

POWER = 0.8


@dataclass(frozen=True)
class Detectable:
    """What a study's size can show; differences in shares (0.03 = three points)."""

    num_subjects: int  # who are tested, over all folds
    images_per_subject: float
    disagreements: tuple[float, ...]  # shares of images that one arm alone has right
    differences: tuple[float, ...]  # for each: found in 80 of 100 such studies
    intra_subject: float


def detectable_difference(
    num_subjects: int,
    images_per_subject: float,
    disagreements: Sequence[float] = (0.05, 0.1, 0.2),
    intra_subject: float = 0.1,
) -> Detectable:
    """The smallest true difference in accuracy found with probability 0.8 at a two-sided level of 0.05.

    With a share q of the images judged right by one arm alone, the difference of an image has variance q (the
    square of its mean left out); m images of each of n subjects, correlated by rho, average to a variance
    of q (1 + (m - 1) rho) / (n m); (t_0.975 + t_0.8) standard errors are found. Chance between trainings
    comes on top, so the true figure is larger with few seeds.

    Args:
        num_subjects: test subjects over all folds, at least 2.
        disagreements: guesses of q, in (0, 1].
        intra_subject: guess of rho, in [0, 1].

    Source: Connor 1987, "Sample size for testing differences in proportions for the paired-sample design",
        Biometrics 43; the design effect 1 + (m - 1) rho of Kish 1965, "Survey Sampling".
    """
    df = num_subjects - 1
    if df < 1:
        raise ValueError(f"num_subjects must be at least 2, got {num_subjects}")
    quantiles = float(stdtrit(df, 0.975) + stdtrit(df, POWER))
    design = 1 + (max(images_per_subject, 1) - 1) * intra_subject
    errors = [np.sqrt(q * design / (num_subjects * images_per_subject)) for q in disagreements]
    return Detectable(
        num_subjects,
        images_per_subject,
        tuple(disagreements),
        tuple(float(quantiles * error) for error in errors),
        intra_subject,
    )
