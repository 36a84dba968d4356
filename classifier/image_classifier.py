"""Our networks as a scikit-learn estimator over arrays of pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from classifier.config import ClassifierConfig
from classifier.data import ImageTable, LabeledImages
from classifier.errors import ClassifierError
from classifier.hold_out import draw_hold_out
from extract.errors import SettingsError


class ImageClassifier(ClassifierMixin, BaseEstimator):
    """Trains one network as `classifier train` does, on pictures in memory.

    Args:
        settings: of the training, None = the defaults; its seed counts where `random_state` is None.
        validation: share of the people (or rows, without `groups`) to hold out, on which checkpoint and
            temperature are chosen, unless `fit` is given a validation part.
        random_state: seed of the training and of the part that is held out.

    Attributes:
        classes_: (C,) class labels.
        classifier_: the trained `classifier.run.Classifier`, which can be saved, explained and exported.
        history_: a table with a row a look at the validation part.
        n_features_in_: length of the second axis of X.
    """

    def __init__(
        self,
        settings: ClassifierConfig | None = None,
        *,
        validation: float = 0.2,
        random_state: Any = None,
    ) -> None:
        self.settings = settings
        self.validation = validation
        self.random_state = random_state

    def fit(
        self,
        X: Any,
        y: Any,
        groups: Any = None,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
    ) -> ImageClassifier:
        """Train the network.

        Args:
            X: (N, H, W) or (N, C, H, W) uint8.
            y: (N,) class labels.
            groups: (N,) whom each picture shows; without it every picture is taken for a person of its own.
            sample_weight: (N,) relative weights in the loss; pictures of weight 0 take no part at all.
            X_val, y_val: real pictures of other people to validate on; None = held out of X.

        Raises:
            ClassifierError: for pictures that are none, or too few of them.
            SettingsError: for a share outside (0, 1).
            ValueError: for labels that do not fit the pictures.
        """
        from dataclasses import replace

        from classifier.training import train_classifier  # torch and fastai take seconds

        images, targets = _as_images(X), column_or_1d(y)
        check_classification_targets(targets)
        _require_length("y", targets, len(images))
        self.classes_, labels = np.unique(targets, return_inverse=True)
        weights = None if sample_weight is None else np.asarray(sample_weight, dtype=np.float64)
        if weights is not None:
            _require_length("sample_weight", weights, len(images))
        settings = self.settings or ClassifierConfig()
        if self.random_state is not None:
            settings = replace(settings, seed=int(check_random_state(self.random_state).randint(2**31 - 1)))
        owners = np.arange(len(images)) if groups is None else np.asarray(groups).astype(str)
        _require_length("groups", owners, len(images))
        names = np.full(len(images), "") if groups is None else owners
        train = _labeled(images, labels, names, weights)
        if X_val is None:
            if not 0 < self.validation < 1:
                raise SettingsError(f"validation: expected a share between 0 and 1, got {self.validation}")
            held = draw_hold_out(labels, owners, self.validation, settings.seed)
            train, val = train.subset(~held), _labeled(images[held], labels[held], names[held], None)
        else:
            val = self._given_validation(X_val, y_val)
        self.n_features_in_ = np.shape(X)[1]
        self.classifier_ = train_classifier(train, val, [str(name) for name in self.classes_], settings)
        self.history_ = self.classifier_.history
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """(N, C) probabilities, calibrated if the settings say so, in the order of `classes_`."""
        check_is_fitted(self)
        return self.classifier_.predict_probs(ImageTable(_as_images(X)))

    def predict(self, X: Any) -> np.ndarray:
        """(N,) the most probable class."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(axis=1)]

    def _given_validation(self, X_val: Any, y_val: Any) -> LabeledImages:
        images, targets = _as_images(X_val), column_or_1d(y_val)
        _require_length("y_val", targets, len(images))
        unknown = sorted({str(target) for target in targets[~np.isin(targets, self.classes_)]})
        if unknown:
            raise ValueError(f"y_val: expected the classes of y, got {', '.join(unknown)} as well")
        labels = np.searchsorted(self.classes_, targets)
        return _labeled(images, labels, np.full(len(images), ""), None)

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags


def _as_images(X: Any) -> np.ndarray:
    """(N, C, H, W) uint8 from that or from (N, H, W)."""
    images = np.asarray(X)
    if images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or images.dtype != np.uint8:
        raise ClassifierError(
            f"X: expected pictures as (N, H, W) or (N, C, H, W) uint8, got {images.dtype} of shape "
            f"{np.shape(X)}; scale gray levels to 0 ... 255 and convert"
        )
    return images


def _labeled(
    images: np.ndarray, labels: np.ndarray, subjects: np.ndarray, weights: np.ndarray | None
) -> LabeledImages:
    return LabeledImages(
        images=ImageTable(images),
        labels=labels.astype(np.int64),
        subjects=subjects,
        origin=np.full(len(images), "real"),
        is_pseudo=np.zeros(len(images), dtype=bool),
        weights=weights,
    )


def _require_length(name: str, values: np.ndarray, length: int) -> None:
    if values.shape != (length,):
        raise ValueError(f"{name}: expected one entry a picture ({length}), got shape {values.shape}")
