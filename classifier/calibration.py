"""Temperature scaling: probabilities that mean what they say, before any threshold is put on them.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", arXiv:1706.04599, Section 4.2.
"""

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

BOUNDS = (0.05, 20.0)


def scale_logits(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Probabilities softmax(logits / temperature), (N, C) float64."""
    return np.exp(log_softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=1))


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Find the temperature with the smallest negative log-likelihood.

    Args:
        logits: (N, C) of held-out real images, uncalibrated.
        labels: (N,) int, their expert labels.

    Returns:
        A temperature in [0.05, 20]. Where the data cannot settle one, 1.0: no image, one class, or logits
        that are not finite. Where every image is classified rightly the likelihood only grows as the
        temperature falls; then 1.0 as well, because so few images cannot vouch for more confidence.
    """
    logits, labels = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if len(logits) == 0 or logits.shape[1] < 2 or not np.isfinite(logits).all():
        return 1.0
    if len(np.unique(labels)) < 2 or (logits.argmax(axis=1) == labels).all():
        return 1.0
    rows = np.arange(len(labels))

    def nll(log_temperature: float) -> float:
        return -log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels].mean()

    low, high = np.log(BOUNDS[0]), np.log(BOUNDS[1])
    best = minimize_scalar(nll, bounds=(low, high), method="bounded", options={"xatol": 1e-6})
    return float(np.clip(np.exp(best.x), *BOUNDS))
