"""How doubtful each label is, asked of those who have not learned it.

The model has seen the labels that are reviewed and may have learned wrong ones by heart. So a linear
classifier is fitted without the image's own subject and asked for the image's class, as confident learning
does: once to what the model's last layer decides by, which tells most where the model has not learned by
heart, and once to small pictures, into which no label has gone. The two are heard alike.

Source: Northcutt, Jiang, Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset Labels",
arXiv:1911.00068, Section 3 (out-of-sample probabilities, ranking by them).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from classifier.errors import ClassifierError
from classifier.subject_folds import deal_subjects

NUM_FOLDS = 5
MAX_DIMENSIONS = 128  # principal components of the features; measured: more change nothing
INVERSE_PENALTY = 0.01  # of the logistic regression, on components of about unit variance
MAX_STEPS = 300


def cross_fitted(
    features: np.ndarray,
    labels: np.ndarray,
    subjects: np.ndarray,
    num_classes: int,
    *,
    links: Sequence[Sequence[str]] = (),
    seed: int = 0,
) -> np.ndarray:
    """Class probabilities of each image by a rule that was fitted without its subject.

    Args:
        features: (M, D) numbers: a model's last layer, or pixels.
        labels: (M,) int classes, none unlabeled.
        subjects: (M,) str.
        links: subjects that share pictures and are kept together.

    Returns:
        (M, C) float64, rows sum to 1; a class that the others do not show has 0.

    Raises:
        ClassifierError: if there are fewer than two subjects that share no picture.
    """
    from sklearn.linear_model import LogisticRegression

    num_folds = min(NUM_FOLDS, len(np.unique(subjects)))
    if num_folds < 2:
        raise ClassifierError("expected images of at least two subjects to compare labels, got one subject")
    fold_of = deal_subjects(subjects, num_folds, seed, labels=labels, links=links)
    components = _components(features)
    probs = np.zeros((len(labels), num_classes))
    for fold in range(num_folds):
        own = fold_of == fold
        shown = np.unique(labels[~own])
        if len(shown) == 1:
            probs[own, shown[0]] = 1.0
            continue
        rule = LogisticRegression(C=INVERSE_PENALTY, max_iter=MAX_STEPS)
        rule.fit(components[~own], labels[~own])
        probs[np.ix_(own, rule.classes_)] = rule.predict_proba(components[own])
    return probs


def heard_alike(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(M, C) probabilities: the geometric mean of two opinions, rows that sum to 1."""
    both = np.sqrt(np.maximum(first, 1e-9) * np.maximum(second, 1e-9))
    return both / both.sum(axis=1, keepdims=True)


def label_losses(probs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(M,) float: minus the logarithm of the (M, C) probability that is given to each image's own label."""
    return -np.log(np.maximum(probs[np.arange(len(labels)), labels], 1e-12))


def _components(features: np.ndarray) -> np.ndarray:
    """(M, K) principal components of the standardised (M, D) features; no label goes in."""
    scaled = features.astype(np.float64) - features.mean(axis=0)
    scaled /= np.maximum(scaled.std(axis=0), 1e-6)
    covariance = scaled.T @ scaled / len(scaled)  # (D, D)
    _, directions = np.linalg.eigh(covariance)  # ascending
    return scaled @ directions[:, ::-1][:, :MAX_DIMENSIONS]
