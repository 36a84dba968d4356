"""What a study of a given size could show: the smallest difference between two arms that it would find.

Two arms judge the same images, so what counts are the images that one has right and the other has not. With
accuracy p and correlation r between the arms' hits, the difference of an image has the variance v = 2 p (1 -
p) (1 - r). A share rho of it belongs to the subject (all its images, every training); only the rest is
averaged over the m images and S seeds of each of n subjects:

    Var = v / n * (rho + (1 - rho) / (m S)) + 2 s^2 / S

with s the standard deviation of the accuracy between trainings. For S = 1 and s = 0 it is the design effect
of clustered samples, v / (n m) * (1 + (m - 1) rho) (Kish 1965, "Survey Sampling"; for paired shares Donner &
Klar 2000, "Design and Analysis of Cluster Randomization Trials"). The difference found with probability
`power` is then (t_0.975 + t_power) * sqrt(Var), the t at the degrees of freedom of the interval.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from extract.errors import SettingsError
from semisup.statistics.sources import UPPER, Sources

POWER = 0.8


@dataclass(frozen=True)
class Expectation:
    """What is guessed before a study; the defaults are middling values of small medical sets."""

    accuracy: float = 0.8  # of the baseline, in (0, 1)
    agreement: float = 0.5  # correlation between two arms' hits on the same image, in [0, 1)
    intra_subject: float = 0.1  # correlation of their difference between images of a subject, in [0, 1]
    between_seeds: float = 0.01  # standard deviation of the accuracy between trainings

    def __post_init__(self) -> None:
        for name, low, high in (
            ("accuracy", 0, 1), ("agreement", 0, 1), ("intra_subject", 0, 1), ("between_seeds", 0, 0.5),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high or (name == "accuracy" and value in (0, 1)):
                raise SettingsError(f"{name} must lie between {low} and {high}, got {value}")


def detectable_difference(
    num_subjects: int,
    images_per_subject: float,
    num_seeds: int,
    expected: Expectation = Expectation(),
    *,
    num_folds: int = 1,
    num_classes: int = 2,
    power: float = POWER,
) -> float:
    """The smallest true difference in accuracy that a study of this size finds with probability `power`.

    Args:
        num_subjects: test subjects over all folds.
        images_per_subject: mean number of test images of a subject.
        num_seeds: trainings of each arm in each fold.
        num_classes: strata that the subjects fall into; costs degrees of freedom alone.

    Returns:
        A share (0.03 = three points); infinite where there are too few subjects for an interval.

    Raises:
        SettingsError: for sizes below 1 or a power outside (0, 1).
    """
    for name, value in (
        ("num_subjects", num_subjects), ("images_per_subject", images_per_subject),
        ("num_seeds", num_seeds), ("num_folds", num_folds),
    ):  # fmt: skip
        if value < 1:
            raise SettingsError(f"{name} must be 1 or more, got {value}")
    if not 0 < power < 1:
        raise SettingsError(f"power must lie between 0 and 1, got {power}")
    df = num_subjects - num_classes
    if df < 1:
        return float("inf")
    image = 2 * expected.accuracy * (1 - expected.accuracy) * (1 - expected.agreement)
    of_subjects = image / num_subjects * expected.intra_subject
    of_images = image / num_subjects * (1 - expected.intra_subject) / (images_per_subject * num_seeds)
    of_trainings = 2 * expected.between_seeds**2 / (num_seeds * num_folds)
    seed_df = num_folds * (num_seeds - 1)
    sources = Sources(
        of_subjects + of_images, df, of_images, of_images + of_trainings if seed_df else 0.0, seed_df
    )
    # The interval's t from its half-width; the same number of standard errors again for the power.
    error = np.sqrt(of_subjects + of_images + of_trainings)
    if error == 0:
        return 0.0
    effective_df = _df_of(sources.half_width / error)
    return float(sources.half_width + stdtrit(effective_df, power) * error)


def _df_of(critical: float) -> float:
    """Degrees of freedom whose 97.5 % quantile is `critical`, by bisection."""
    low, high = 0.5, 1e6
    if critical <= stdtrit(high, UPPER):
        return high
    for _ in range(60):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if stdtrit(middle, UPPER) > critical else (low, middle)
    return float(low)


def describe_detectable(difference: float, num_subjects: int, num_seeds: int) -> str:
    """One sentence for a plan."""
    if not np.isfinite(difference):
        return f"{num_subjects} test subjects are too few for any interval"
    seeds = f"{num_seeds} seed{'s' if num_seeds != 1 else ''}"
    return (
        f"with {num_subjects} test subjects and {seeds} a true difference of about {100 * difference:.1f} "
        "points would be found in 80 of 100 such studies, a smaller one more rarely"
    )
