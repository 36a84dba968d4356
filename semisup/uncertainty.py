"""What several predictions of a teacher say together: their mean, and how far they are apart.

Sources: mean probabilities of an ensemble, Lakshminarayanan et al. 2017, "Simple and Scalable Predictive
Uncertainty Estimation using Deep Ensembles", arXiv:1612.01474; standard deviation as a filter of
pseudo-labels, Rizve et al. 2021 (UPS), arXiv:2101.06329; mutual information, Houlsby et al. 2011 (BALD),
arXiv:1112.5745.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
from scipy.special import log_softmax, logsumexp, softmax

from semisup.label_forms import uncertainty_weights
from semisup.pseudo_config import UncertaintyConfig

Model = TypeVar("Model")
Measure = Literal["std", "mutual_information"]
Part = Literal["pool", "val", "calibration"]


@dataclass(frozen=True)
class Opinion:
    """What a teacher that was asked several times thinks of N images."""

    logits: np.ndarray  # (N, C), logarithms of its mean probabilities; not calibrated
    uncertainty: np.ndarray  # (N,) by the measure that was asked for
    by_class: np.ndarray  # (N, C) the same of each class: "mutual_information" knows only the image's


def form_opinion(sample_logits: np.ndarray, measure: Measure = "std") -> Opinion:
    """Put several predictions of the same images together.

    Args:
        sample_logits: (S, N, C) uncalibrated.
        measure: "std", the standard deviation over the samples of the probability of the class that their
            mean predicts, in [0, 0.5]; or "mutual_information", the entropy of the mean less the mean
            entropy, in nats, at most log C. Both are of uncalibrated probabilities, and 0 where all samples
            agree.

    Returns:
        The logits of one sample are that sample's, and nothing is uncertain then.

    Raises:
        ValueError: if there is no sample.
    """
    if sample_logits.ndim != 3 or not len(sample_logits):
        raise ValueError(f"expected (S, N, C) logits of at least one sample, got {sample_logits.shape}")
    num_samples, num_images, num_classes = sample_logits.shape
    if num_samples == 1:
        return Opinion(sample_logits[0], np.zeros(num_images), np.zeros((num_images, num_classes)))
    samples = sample_logits.astype(np.float64)
    logits = logsumexp(log_softmax(samples, axis=2), axis=0) - np.log(num_samples)  # (N, C)
    probs = softmax(samples, axis=2)
    if measure == "std":
        by_class = probs.std(axis=0)  # (N, C)
        return Opinion(logits, by_class[np.arange(num_images), logits.argmax(axis=1)], by_class)
    uncertainty = np.maximum(_entropy(np.exp(logits)) - _entropy(probs).mean(axis=0), 0.0)
    return Opinion(logits, uncertainty, np.repeat(uncertainty[:, None], num_classes, axis=1))


def _entropy(probs: np.ndarray) -> np.ndarray:
    """In nats, over the last axis."""
    return -(probs * np.log(np.maximum(probs, 1e-300))).sum(axis=-1)


@dataclass(frozen=True)
class Doubt:
    """How unsure a teacher is of each image of the pool."""

    method: str
    uncertainty: np.ndarray  # (N,)
    is_certain: np.ndarray  # (N,) bool, who may get a pseudo-label
    is_class_certain: np.ndarray  # (N, C) bool, which classes may be excluded
    temperature: float = 1.0  # of the mean predictions; that of the round is the one prediction's


@dataclass(frozen=True)
class Asking(Generic[Model]):
    """How a teacher is asked several times, and what becomes of those it is unsure of."""

    ask: Callable[[Model, int, Part], Opinion]  # the teacher, the round that made it, and about which images
    method: str  # for the ledger
    max_uncertainty: float | None = None  # images above it get no pseudo-label
    weigh: Callable[[np.ndarray], np.ndarray] | None = None  # (N,) uncertainty to weights in [0, 1]

    def doubt(self, opinion: Opinion, temperature: float) -> Doubt:
        """Who is held back, and which classes are too uncertain to be excluded."""
        limit = np.inf if self.max_uncertainty is None else self.max_uncertainty
        sure = opinion.by_class <= limit
        return Doubt(self.method, opinion.uncertainty, self.is_certain(opinion), sure, temperature)

    def is_certain(self, opinion: Opinion) -> np.ndarray:
        """(N,) bool."""
        if self.max_uncertainty is None:
            return np.ones(len(opinion.uncertainty), dtype=bool)
        return opinion.uncertainty <= self.max_uncertainty


def make_asking(
    config: UncertaintyConfig, weigh: bool, ask: Callable[[Model, int, Part], np.ndarray]
) -> Asking[Model]:
    """From the settings of a study and a function that gives (S, N, C) logits."""
    return Asking(
        lambda model, round_index, part: form_opinion(ask(model, round_index, part), config.measure),
        f"{config.method}, {config.measure} of {config.samples}",
        config.max,
        (lambda uncertainty: uncertainty_weights(uncertainty, config.scale)) if weigh else None,
    )
