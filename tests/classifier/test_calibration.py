import numpy as np
import pytest

from classifier.calibration import BOUNDS, fit_temperature, scale_logits
from classifier.evaluate import expected_calibration_error


def planted(temperature: float, num_images: int = 6000) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose labels were drawn from softmax(logits / temperature)."""
    rng = np.random.default_rng(2)
    logits = rng.normal(scale=2.0 * temperature, size=(num_images, 3))
    draws = rng.random((num_images, 1))
    labels = (scale_logits(logits, temperature).cumsum(axis=1) < draws).sum(axis=1)
    return logits, labels


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_a_planted_temperature_is_found_again(temperature):
    logits, labels = planted(temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.06)


def test_scaling_repairs_overconfidence_and_leaves_the_ranking():
    logits, labels = planted(3.0)
    raw, calibrated = scale_logits(logits, 1.0), scale_logits(logits, fit_temperature(logits, labels))
    assert expected_calibration_error(calibrated, labels) < 0.03 < expected_calibration_error(raw, labels)
    assert (raw.argmax(axis=1) == calibrated.argmax(axis=1)).all()


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (np.empty((0, 2)), np.empty(0, int)),
        (np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([1, 1])),
        (np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 1])),
        (np.array([[np.inf, 0.0], [0.0, 1.0]]), np.array([0, 0])),
    ],
    ids=["no image", "one class", "all right", "not finite"],
)
def test_data_that_settle_no_temperature_give_one(logits, labels):
    assert fit_temperature(logits, labels) == 1.0


def test_hopeless_logits_stay_within_the_bounds():
    logits = np.array([[50.0, 0.0], [0.0, 50.0], [50.0, 0.0], [0.0, 50.0]])
    temperature = fit_temperature(logits, np.array([1, 0, 1, 1]))
    assert BOUNDS[0] <= temperature <= BOUNDS[1] and temperature > 15
