"""The pseudo-label rounds as a scikit-learn estimator, over any classifier with `predict_proba`.

The engine is that of the studies (`semisup.rounds.run_rounds`) with the studies' rules; names and
conventions are those of scikit-learn's `SelfTrainingClassifier`.
"""

from collections.abc import Callable
from functools import partial
from numbers import Real
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin
from sklearn.utils import Tags, check_random_state, get_tags
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from classifier.calibration import fit_temperature, scale_logits
from classifier.evaluate import classification_metrics
from extract.errors import SettingsError
from semisup.base_fits import BaseFits, log_probs, validation_of
from semisup.fit_data import UNKNOWN, UNLABELED, FitData, arrange, name_people
from semisup.fit_settings import RuleSettings, resolve_settings
from semisup.rounds import Round, RoundsResult, run_rounds
from semisup.rules import RunFacts, check_classes, labeled_shares, make_rule
from semisup.stopping import ClassDrift, StopRules

SET_HERE = (
    "rounds", "calibrate", "calibration_share", "pseudo_share", "stop_flip_rate", "stop_without_gain"
)  # fmt: skip


class PseudoLabelClassifier(ClassifierMixin, MetaEstimatorMixin, BaseEstimator):
    """Learn from unlabeled examples by pseudo-labels, and keep the labeled ones alone where that is better.

    The estimator is fitted on the labeled rows and calibrated on some that are held out; a rule gives
    pseudo-labels to those of the pool that it is sure about; a clone is fitted from scratch on both, and so
    on. Every round selects anew from the whole pool. The round with the best balanced accuracy on the
    held-out rows is kept, round 0 (no pseudo-labels) included.

    Args:
        estimator: a classifier with `fit` and `predict_proba`. Where its `fit` takes `sample_weight`,
            pseudo-labels are weighted by `pseudo_share` and may be soft or weighted; elsewhere labeled rows
            are repeated to the same end. Where its `fit` takes `X_val` and `y_val`, it gets those held out.
        rule: name of a rule, or its settings as an object of `semisup.pseudo_config` or a mapping, for
            instance `FixedRule(threshold=0.9)` or `{"rule": "error_controlled", "epsilon": 0.15}`: those of
            the section `pseudo` in a study file, less the settings that stand here.
        rounds: students after the supervised model, at most.
        calibrate: fit a temperature on the held-out rows, in each round.
        calibration_share: share of the people held out who serve for that alone, and do not choose the
            round; 0 = all serve for both.
        pseudo_share: most that pseudo-labels may count in the loss, as a share of all; 1 = as the labeled do.
        validation: share of the labeled people to hold out, or (X, y) or (X, y, groups) of your own; None =
            hold out nothing: the last round is then kept, unseen, and `calibrate` must be False.
        stop_flip_rate: end where at most this share of the pseudo-labels would change; None = never.
        stop_without_gain: end after so many rounds that are no better than an earlier one; None = never.
        random_state: draws the validation part, and seeds the estimator wherever it has no random state.

    Attributes:
        classes_: (C,) class labels.
        estimator_: the fitted clone of the round that was kept.
        best_round_: its number; 0 = without pseudo-labels.
        n_iter_: rounds that were trained after the first.
        transduction_: (N,) labels of all rows, those of X and then those of X_unlabeled: as given, or the
            pseudo-label in the kept round, or -1 where it had none.
        labeled_iter_: (N,) 0 where the label was given; else the round since which a row has had its
            pseudo-label without a break; -1 where it has none.
        termination_condition_: "max_iter" (all rounds done), "no_change" (nothing was selected, or
            too few labels would change), "no_gain", "class_drift", or "all_labeled" (there was nothing to
            label).
        stopped_: the same in a sentence.
        rounds_: a dict a round, with the keys of a study's `run.json`.
        temperature_: of the kept round.
        held_out_: (N,) bool, rows that served for validation, and unlabeled rows of the same people, whom no
            student may learn from.
        n_features_in_: second axis of X.

    Source: scikit-learn 1.9, `sklearn.semi_supervised.SelfTrainingClassifier`, for the conventions; the
        papers of the engine and the rules are named in `semisup.rounds`, `semisup.select` and beside them.
    """

    def __init__(
        self,
        estimator: Any,
        *,
        rule: RuleSettings = "fixed",
        rounds: int = 2,
        calibrate: bool = True,
        calibration_share: float = 0.0,
        pseudo_share: float = 0.5,
        validation: float | tuple[Any, ...] | None = 0.2,
        stop_flip_rate: float | None = None,
        stop_without_gain: int | None = None,
        random_state: Any = None,
    ) -> None:
        self.estimator = estimator
        self.rule = rule
        self.rounds = rounds
        self.calibrate = calibrate
        self.calibration_share = calibration_share
        self.pseudo_share = pseudo_share
        self.validation = validation
        self.stop_flip_rate = stop_flip_rate
        self.stop_without_gain = stop_without_gain
        self.random_state = random_state

    def fit(
        self, X: Any, y: Any, groups: Any = None, X_unlabeled: Any = None, groups_unlabeled: Any = None
    ) -> "PseudoLabelClassifier":
        """Run the rounds.

        Args:
            X: (n, ...) numbers: features (n, d), or whatever more axes the estimator takes.
            y: (n,) labels; the number -1 (in an object array among strings) marks a row without one.
            groups: (n,) whom each row shows. The held-out part is drawn by these, and unlabeled rows of its
                people are left out of the pool.
            X_unlabeled: (m, ...) further rows without a label.
            groups_unlabeled: (m,) whom they show; None = nobody labeled, as with synthetic images.

        Raises:
            SettingsError: for a setting that cannot be; a ValueError, too.
            ValueError: for rows, labels or groups that do not fit one another.
            ClassifierError: if no validation part can be drawn.
        """
        own = {name: getattr(self, name) for name in SET_HERE}
        pseudo = resolve_settings(self.rule, own, self.validation is not None)
        examples, targets, people = self._all_rows(X, y, groups, X_unlabeled, groups_unlabeled)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        data = arrange(examples, targets, people, self._checked_validation(), seed)
        names = tuple(str(name) for name in data.classes)
        check_classes(pseudo, names)
        fits = BaseFits(self.estimator, data, pseudo.pseudo_share, seed)
        if not fits.takes_weights and pseudo.labels != "hard":
            raise SettingsError(
                f"rule: labels: {pseudo.labels} reaches an estimator as sample_weight, and the fit of "
                f"{type(self.estimator).__name__} takes none; use labels: hard, or an estimator that does (a "
                "pipeline belongs around this classifier rather than inside)"
            )
        validation = validation_of(data, pseudo, seed)
        has_validation = len(validation.labels) > 0
        num_rounds = pseudo.rounds if len(data.pool) else 0
        shares = labeled_shares(data.labels[data.train], len(names))
        drift = None
        if pseudo.stop_class_drift is not None:
            drift = ClassDrift(pseudo.stop_class_drift, shares, names)
        result = run_rounds(
            fits.teacher(),
            num_rounds,
            val_logits=validation.logits_of,
            val_labels=validation.labels,
            pool_logits=lambda model: log_probs(model, data.examples[data.pool]),
            select=make_rule(pseudo, RunFacts(names, shares, validation.groups, seed)),
            train_student=fits.student,
            fit_temperature=fit_temperature if pseudo.calibrate else None,
            metrics=partial(classification_metrics, num_classes=len(names))
            if has_validation
            else _unmeasured,
            stop=StopRules(pseudo.stop_flip_rate, pseudo.stop_without_gain, drift),
            relabel=pseudo.relabel,
            parts=validation.parts,
            held_out=validation.for_calibration,
        )
        self._keep(result, result.best if has_validation else result.rounds[-1], data, fits)
        self.stopped_ = result.stopped if len(data.pool) else "there was nothing to label"
        self.termination_condition_ = _termination(result, num_rounds) if len(data.pool) else "all_labeled"
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """(n, C) calibrated probabilities of the kept round, in the order of `classes_`."""
        check_is_fitted(self)
        examples = validate_data(self, X, reset=False, allow_nd=True, ensure_all_finite=self._finite())
        if self.temperature_ == 1.0:
            return np.asarray(self.estimator_.predict_proba(examples))
        return scale_logits(log_probs(self.estimator_, examples), self.temperature_)

    def predict(self, X: Any) -> np.ndarray:
        """(n,) the most probable class: what the validation part has judged."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = get_tags(self.estimator).input_tags.allow_nan
        return tags

    def _keep(self, result: RoundsResult[Any], kept: Round[Any], data: FitData, fits: BaseFits) -> None:
        self.classes_ = data.classes
        self.estimator_ = kept.model
        self.temperature_ = kept.temperature
        self.best_round_ = kept.round_index
        self.n_iter_ = len(result.rounds) - 1
        self.held_out_ = data.held_out
        self.rounds_ = [_describe(done, fits, data) for done in result.rounds]
        labels, since = np.where(data.labels >= 0, data.labels, UNLABELED), np.where(data.labels >= 0, 0, -1)
        for done in result.rounds[1 : kept.round_index + 1]:
            assert done.scores is not None
            now = np.where(data.labels >= 0, data.labels, UNLABELED)
            now[data.pool[done.scores.selection.indices]] = done.scores.selection.labels
            since = np.where(now == labels, since, np.where(now >= 0, done.round_index, -1))
            labels = now
        self.labeled_iter_ = since
        self.transduction_ = _decoded(labels, data.classes)

    def _checked_validation(self) -> float | tuple[np.ndarray, np.ndarray, np.ndarray | None] | None:
        if self.validation is None:
            return None
        if isinstance(self.validation, Real) and not isinstance(self.validation, bool):
            if not 0 < float(self.validation) < 1:
                raise SettingsError(f"validation: expected a share between 0 and 1, got {self.validation}")
            return float(self.validation)
        if not isinstance(self.validation, tuple | list) or len(self.validation) not in (2, 3):
            raise SettingsError(
                "validation: expected a share such as 0.2, or (X, y) or (X, y, groups), got "
                f"{type(self.validation).__name__}"
            )
        examples, targets, *groups = self.validation
        examples, targets = validate_data(
            self, examples, targets, reset=False, allow_nd=True, ensure_all_finite=self._finite()
        )
        named = name_people(groups[0], len(targets), "groups of validation") if groups else None
        return examples, targets, named

    def _all_rows(
        self, X: Any, y: Any, groups: Any, X_unlabeled: Any, groups_unlabeled: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Rows of X and of X_unlabeled, their labels, and whom they show where that was said."""
        check: Callable[..., Any] = partial(
            validate_data, self, allow_nd=True, ensure_all_finite=self._finite()
        )
        examples, targets = check(X, y)
        targets = column_or_1d(targets)
        people = None if groups is None else name_people(groups, len(targets))
        if groups_unlabeled is not None and (X_unlabeled is None or people is None):
            raise ValueError("groups_unlabeled: expected groups and X_unlabeled with it, got it alone")
        if X_unlabeled is None:
            return examples, targets, people
        more = check(X_unlabeled, reset=False)
        if more.shape[1:] != examples.shape[1:]:
            raise ValueError(
                f"X_unlabeled: expected rows of shape {examples.shape[1:]} as in X, got {more.shape[1:]}"
            )
        unknown = np.full(len(more), UNKNOWN)
        if groups_unlabeled is not None:
            both = np.concatenate([np.asarray(groups), np.asarray(groups_unlabeled)])
            people = name_people(both, len(targets) + len(more), "groups and groups_unlabeled")
        elif people is not None:
            people = np.concatenate([people, unknown])
        if targets.dtype.kind in "US":  # no text means "unlabeled"
            targets = targets.astype(object)
        unlabeled = np.full(len(more), UNLABELED, dtype=targets.dtype)
        return np.concatenate([examples, more]), np.concatenate([targets, unlabeled]), people

    def _finite(self) -> bool | str:
        return "allow-nan" if get_tags(self.estimator).input_tags.allow_nan else True


def _unmeasured(probs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return dict.fromkeys(("balanced_accuracy", "nll", "ece"), float("nan"))


def _termination(result: RoundsResult[Any], num_rounds: int) -> str:
    if len(result.rounds) == num_rounds + 1:
        return "max_iter"
    if result.stopped.startswith("class drift"):
        return "class_drift"
    return "no_gain" if result.stopped.startswith("no gain") else "no_change"


def _decoded(labels: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """(N,) class labels as they were given, -1 where there is none; an object array where they are text."""
    dtype = object if classes.dtype.kind in "USO" else np.result_type(classes.dtype, np.int8)
    decoded = np.full(len(labels), UNLABELED, dtype=dtype)
    decoded[labels >= 0] = classes[labels[labels >= 0]]
    return decoded


def _describe(done: Round[Any], fits: BaseFits, data: FitData) -> dict[str, Any]:
    selection = done.scores.selection if done.scores else None
    labels = selection.labels if selection else np.zeros(0, dtype=np.int64)
    repeats, weight = fits.mixing[done.round_index]
    return {
        "round_index": done.round_index,
        "pool_size": done.pool_size,
        "num_selected": done.num_selected,
        "coverage": done.coverage,
        "per_class_selected": np.bincount(labels, minlength=len(data.classes)).tolist(),
        "thresholds": None if selection is None else selection.thresholds.tolist(),
        "selection_note": "" if selection is None else selection.note,
        "val_balanced_accuracy": done.val_metrics["balanced_accuracy"],
        "val_nll": done.val_metrics["nll"],
        "ece_before": done.ece_before,
        "ece_after": done.ece_after,
        "ece_after_is_cross_fitted": done.is_cross_fitted,
        "temperature": done.temperature,
        "num_train_images": len(data.train) + done.num_selected,
        "labeled_repeats": repeats,
        "pseudo_weight": weight if selection else None,
        "alarm": done.is_alarming,
    }
