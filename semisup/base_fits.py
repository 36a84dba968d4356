"""Teachers and students of any scikit-learn classifier: how additions and their weights reach its `fit`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import has_fit_parameter

from semisup.calibrating import UNDIVIDED, Parts, check_held_out, deal_parts, draw_held_out
from semisup.fit_data import FitData
from semisup.pseudo_config import PseudoConfig
from semisup.rounds import HeldOut, mixing
from semisup.select import Selection

SMALLEST = np.finfo(np.float64).eps  # of a probability before its logarithm is taken: forests say 0


class BaseFits:
    """Fits clones of one estimator, all with the same seed, on the labeled examples and a selection."""

    def __init__(self, estimator: Any, data: FitData, pseudo_share: float, seed: int) -> None:
        self._estimator, self._data, self._share, self._seed = estimator, data, pseudo_share, seed
        self.takes_weights = has_fit_parameter(estimator, "sample_weight")
        self._validates = has_fit_parameter(estimator, "X_val") and len(data.val_labels) > 0
        self.mixing: dict[int, tuple[int, float]] = {}  # by round: repeats of a labeled row, weight of others

    def teacher(self) -> Any:
        """Round 0: on the labeled examples, in the order in which they came, without weights."""
        self.mixing[0] = 1, 1.0
        return self._fitted(self._data.train, self._data.labels[self._data.train], None)

    def student(self, selection: Selection, round_index: int) -> Any:
        """From scratch on the labeled examples and those of the pool that were selected."""
        data = self._data
        rows, labels = data.pool[selection.indices], selection.labels
        repeats, weight = self._mixed(len(selection))
        self.mixing[round_index] = repeats, weight
        weights = np.full(len(selection), weight)
        if selection.weights is not None:
            weights = weights * selection.weights
        if selection.soft_labels is not None:  # each class once, with its probability: the same cross-entropy
            num_classes = len(data.classes)
            rows, labels = np.repeat(rows, num_classes), np.tile(np.arange(num_classes), len(rows))
            weights = np.repeat(weights, num_classes) * selection.soft_labels.ravel()
            rows, labels, weights = (values[weights > 0] for values in (rows, labels, weights))
        labeled = np.tile(data.train, repeats)
        all_weights = np.concatenate([np.ones(len(labeled)), weights])
        return self._fitted(
            np.concatenate([labeled, rows]),
            np.concatenate([data.labels[labeled], labels]),
            all_weights if (all_weights != 1).any() else None,
        )

    def _mixed(self, num_pseudo: int) -> tuple[int, float]:
        """Repeats and weight, so that pseudo-labels count at most their share of the loss.

        Weights alone do it exactly where the estimator takes them; the others see labeled rows repeated, to
        the nearest whole number.
        """
        num_labeled = len(self._data.train)
        if not self.takes_weights:
            return mixing(num_labeled, num_pseudo, self._share)[0], 1.0
        if self._share >= 1 or not num_pseudo:
            return 1, 1.0
        return 1, min(1.0, num_labeled * self._share / ((1 - self._share) * num_pseudo))

    def _fitted(self, rows: np.ndarray, labels: np.ndarray, weights: np.ndarray | None) -> Any:
        data = self._data
        fitted = seeded_clone(self._estimator, self._seed)
        extra: dict[str, Any] = {}
        if weights is not None and self.takes_weights:
            extra["sample_weight"] = weights
        if self._validates:
            extra |= {"X_val": data.val_examples, "y_val": data.classes[data.val_labels]}
        return fitted.fit(data.examples[rows], data.classes[labels], **extra)


def seeded_clone(estimator: Any, seed: int) -> Any:
    """An unfitted copy; where the user gave it (or a part of it) no random state, `seed` is it."""
    copy = clone(estimator)
    open_states = {
        name: seed
        for name, value in copy.get_params(deep=True).items()
        if (name == "random_state" or name.endswith("__random_state")) and value is None
    }
    return copy.set_params(**open_states) if open_states else copy


def log_probs(model: Any, examples: np.ndarray) -> np.ndarray:
    """(N, C) float64 logarithms of a fitted model's probabilities: logits as good as any for a softmax."""
    probs = np.asarray(model.predict_proba(examples), dtype=np.float64)
    return np.log(np.maximum(probs, SMALLEST))


@dataclass(frozen=True)
class Validation:
    """The held-out rows as the rounds look at them."""

    logits_of: Callable[[Any], np.ndarray]  # gives (V, C) for a fitted model
    labels: np.ndarray  # (V,) int, empty without held-out rows
    groups: np.ndarray  # (V,) str
    parts: Parts
    for_calibration: HeldOut[Any] | None  # rows that serve for the temperature alone


def validation_of(data: FitData, pseudo: PseudoConfig, seed: int) -> Validation:
    """Divide the held-out rows into those that choose the round and, where asked for, those that calibrate.

    Raises:
        SettingsError: if either would lack a class.
    """
    examples, labels, groups = data.val_examples, data.val_labels, data.val_groups
    names = tuple(str(name) for name in data.classes)
    if not len(labels):
        return Validation(lambda model: np.empty((0, len(names))), labels, groups, UNDIVIDED, None)
    calibrates = np.zeros(len(labels), dtype=bool)
    if pseudo.calibration_share:
        calibrates = draw_held_out(groups, labels, pseudo.calibration_share, seed)
        check_held_out(calibrates, labels, names, pseudo.calibration_share, "of this data")
    chooses = ~calibrates
    return Validation(
        lambda model: log_probs(model, examples[chooses]),
        labels[chooses],
        groups[chooses],
        deal_parts(groups[chooses], labels[chooses], names, seed),
        HeldOut(lambda model: log_probs(model, examples[calibrates]), labels[calibrates])
        if calibrates.any()
        else None,
    )
