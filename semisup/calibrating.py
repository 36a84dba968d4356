"""Which real subjects a temperature is fitted on, and which judge it: never the same ones, if possible.

A temperature that is fitted on the validation part makes the calibration error there look smaller than it
is. So that error is cross-fitted: the subjects are dealt into five parts, and each is measured at a
temperature of the four others. The temperature in force is still fitted on all. With `calibration_share` some
validation subjects are held out for the temperature alone, and the others measure it.

Five parts rather than two: in simulations of 88 subjects with 3 images each, the error on new subjects was
0.108, on the fitted images 0.087, cross-fitted over halves 0.116 and over five parts 0.108 (of half of the
subjects a temperature is worse than the one in force). With 24 subjects both are on the safe side.

Source: cross-fitting as in Chernozhukov et al. 2018, "Double/debiased machine learning", Econometrics Journal
21(1); temperature of Guo et al. 2017, arXiv:1706.04599.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from classifier.hold_out import draw_people
from classifier.subject_folds import deal_subjects
from extract.errors import SettingsError
from extract.seeds import derive_seed

FitTemperature = Callable[[np.ndarray, np.ndarray], float]  # logits (N, C), labels (N,)
NUM_PARTS = 5
FEWEST_SUBJECTS = 4  # of fewer, a temperature says how the one or two others look


@dataclass(frozen=True)
class Parts:
    """The validation images dealt into parts by subject, or why they cannot be."""

    number: np.ndarray | None  # (V,) int, of each image's part; None where there are too few subjects
    why_not: str = ""


UNDIVIDED = Parts(None, "the subjects of the validation images are not known")


@dataclass(frozen=True)
class Calibrated:
    """A model's temperature, and what it gives on real images that had no part in it."""

    temperature: float  # in force
    probs: np.ndarray  # (V, C) of the validation images, at that temperature
    judged_probs: np.ndarray  # (V, C), each at a temperature of other subjects where there could be one
    is_cross_fitted: bool | None  # whether there was; None: nothing was fitted


def deal_parts(subjects: np.ndarray, labels: np.ndarray, classes: Sequence[str], seed: int) -> Parts:
    """Deal the subjects of (V,) validation images into five parts that are as alike in classes as can be.

    The parts follow from the subjects' names, their classes and the seed, not from the order of the images.
    There are none where there are fewer than four subjects, or where one subject alone shows a class: a
    temperature that has not seen the class says little about it.
    """
    num_subjects = len(np.unique(subjects))
    if num_subjects < FEWEST_SUBJECTS:
        return Parts(
            None,
            f"to cross-fit takes at least {FEWEST_SUBJECTS} validation subjects, there are {num_subjects}",
        )
    parts = min(NUM_PARTS, num_subjects)
    number = deal_subjects(subjects, parts, derive_seed("calibration parts", seed), labels=labels)
    for label in np.unique(labels):
        if len(np.unique(number[labels == label])) < 2:
            return Parts(None, f"to cross-fit takes a second validation subject of class {classes[label]}")
    return Parts(number)


def calibrate(
    fit: FitTemperature | None,
    logits: np.ndarray,
    labels: np.ndarray,
    parts: Parts,
    held_out: tuple[np.ndarray, np.ndarray] | None = None,
) -> Calibrated:
    """Fit a model's temperature, and measure it where it was not fitted.

    Args:
        fit: None leaves the probabilities as they are.
        logits, labels: (V, C) and (V,) of the validation images.
        held_out: the same of images held out for the temperature alone; it is then fitted on these.
    """
    if fit is None:
        probs = softmax(logits, axis=1)
        return Calibrated(1.0, probs, probs, None)
    if held_out is not None:
        temperature = fit(*held_out)
        probs = softmax(logits / temperature, axis=1)
        return Calibrated(temperature, probs, probs, True)
    temperature = fit(logits, labels)
    probs = softmax(logits / temperature, axis=1)
    if parts.number is None:
        return Calibrated(temperature, probs, probs, False)
    judged = np.empty_like(probs)
    for part in np.unique(parts.number):
        own, others = parts.number == part, parts.number != part
        judged[own] = softmax(logits[own] / fit(logits[others], labels[others]), axis=1)
    return Calibrated(temperature, probs, judged, True)


def draw_held_out(subjects: np.ndarray, labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Draw a share of the subjects of (N,) images, of each class in proportion: an (N,) bool mask of theirs.

    A subject belongs to the rarest class (held by the fewest subjects) that it shows. Of each class at least
    one subject is drawn and one is left, where there are two.

    Args:
        share: of the subjects, in (0, 1).
    """
    rng = np.random.default_rng(derive_seed("calibration subjects", seed))
    drawn, _, owner = draw_people(labels, subjects, share, rng)
    return drawn[owner]


def check_held_out(
    is_held_out: np.ndarray, labels: np.ndarray, classes: Sequence[str], share: float, where: str
) -> None:
    """Refuse subjects held out for calibration without whom, or with whom alone, a class is missing.

    Raises:
        SettingsError: naming the class and `where`, the fold and fraction.
    """
    for part, name in ((is_held_out, "held out for calibration"), (~is_held_out, "left to choose by")):
        missing = [classes[label] for label in np.unique(labels) if not (labels[part] == label).any()]
        if missing:
            raise SettingsError(
                f"pseudo.calibration_share: with {share:g} of the validation subjects held out {where}, "
                f"those {name} show no {', '.join(missing)}; choose another share, make a split with a "
                "larger --val-share, or leave it out"
            )
