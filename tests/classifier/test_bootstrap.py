import numpy as np
import pytest

from classifier import bootstrap
from classifier.bootstrap import draw_subjects, interval, metric_draws
from classifier.evaluate import METRICS, classification_metrics, subject_intervals

NUM_DRAWS = 25


def scored(num_images: int, num_classes: int, num_subjects: int, seed: int):
    """Probabilities with ties and exact zeros and ones, labels, and subjects of very different sizes."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(num_classes, size=num_images)
    probs = np.round(rng.dirichlet(np.ones(num_classes), num_images) + 0.4 * np.eye(num_classes)[labels], 1)
    probs /= probs.sum(axis=1, keepdims=True)
    probs[:3] = np.eye(num_classes)[labels[:3]]
    probs[3] = np.eye(num_classes)[(labels[3] + 1) % num_classes]
    subjects = np.array(
        [f"s{number**2 // num_subjects}" for number in rng.integers(num_subjects, size=num_images)]
    )
    subjects[5] = ""
    return probs, labels, subjects


def gathered_draws(subjects: np.ndarray, num_draws: int, seed: int = 0):
    """Rows of each draw, images repeated as often as their subject: the plain way, slowly."""
    named = [str(subject) or f"\x00{row}" for row, subject in enumerate(subjects)]
    _, owner = np.unique(named, return_inverse=True)
    num_subjects = owner.max() + 1
    rng = np.random.default_rng(seed)
    for _ in range(num_draws):
        drawn = rng.integers(num_subjects, size=num_subjects)
        yield np.concatenate([np.flatnonzero(owner == subject) for subject in drawn])


@pytest.mark.parametrize(
    ("num_images", "num_classes", "num_subjects"), [(80, 2, 12), (150, 3, 40), (60, 5, 9), (12, 4, 2)]
)
def test_weighted_draws_are_those_of_measuring_every_repeated_image(num_images, num_classes, num_subjects):
    probs, labels, subjects = scored(num_images, num_classes, num_subjects, seed=num_images)
    draws = draw_subjects(subjects, num_draws=NUM_DRAWS)
    found = metric_draws(probs, labels, num_classes, draws)
    for number, rows in enumerate(gathered_draws(subjects, NUM_DRAWS)):
        expected = classification_metrics(probs[rows], labels[rows], num_classes)
        for name, values in found.items():
            assert values[number] == pytest.approx(expected[name], abs=1e-12, nan_ok=True), name


def test_intervals_are_the_percentiles_of_these_draws():
    probs, labels, subjects = scored(120, 3, 20, seed=3)
    slow = [classification_metrics(probs[rows], labels[rows], 3) for rows in gathered_draws(subjects, 200)]
    found = subject_intervals(probs, labels, subjects, 3, num_draws=200)
    assert list(found) == [name for name in METRICS if name != "ece"]
    for name, (low, high) in found.items():
        expected = np.percentile([measured[name] for measured in slow], [2.5, 97.5])
        assert (low, high) == pytest.approx(tuple(expected), abs=1e-12)


def test_little_memory_gives_the_same_numbers(monkeypatch):
    probs, labels, subjects = scored(100, 3, 20, seed=4)
    draws = draw_subjects(subjects, num_draws=NUM_DRAWS)
    at_once = metric_draws(probs, labels, 3, draws)
    monkeypatch.setattr(bootstrap, "MAX_CELLS", 250)  # two draws at a time
    in_parts = metric_draws(probs, labels, 3, draws)
    for name, values in at_once.items():
        np.testing.assert_array_equal(in_parts[name], values)


def test_a_draw_without_images_of_a_subgroup_is_undefined_and_does_not_count():
    probs, labels, subjects = scored(40, 2, 6, seed=5)
    draws = draw_subjects(subjects, num_draws=300)
    alone = subjects == subjects[0]
    found = metric_draws(probs[alone], labels[alone], 2, draws.of(alone))
    is_missed = draws.totals(alone.astype(float)) == 0
    assert is_missed.any() and np.isnan(found["accuracy"][is_missed]).all()
    assert interval(found["accuracy"]) == pytest.approx(
        (np.mean(probs[alone].argmax(1) == labels[alone]),) * 2
    )


def test_fewer_than_two_subjects_cannot_be_drawn():
    assert draw_subjects(np.full(5, "one")) is None
    assert draw_subjects(np.array([], dtype=str)) is None
    assert draw_subjects(np.array(["one", "two"]), num_draws=9).counts.sum(axis=0).tolist() == [2] * 9
