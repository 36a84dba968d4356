import numpy as np
import pytest
from scipy import stats

from classifier import bootstrap
from classifier.bootstrap import draw_subjects, metric_draws, tail_share
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


def tails(num_subjects: int) -> list[float]:
    """Percents between which the interval of so many subjects lies: 2.5 and 97.5, further out for few."""
    beyond = stats.t.ppf(0.975, num_subjects - 1) * np.sqrt(num_subjects / (num_subjects - 1))
    return [100 * stats.norm.cdf(-beyond), 100 * stats.norm.cdf(beyond)]


def test_few_subjects_reach_further_into_the_tails():
    assert 100 * tail_share(20) == pytest.approx(tails(20)[0]) and tail_share(20) < 0.017
    assert tail_share(100_000) == pytest.approx(0.025, abs=1e-5)


def test_intervals_are_the_percentiles_of_these_draws():
    probs, labels, subjects = scored(120, 3, 20, seed=3)
    slow = [classification_metrics(probs[rows], labels[rows], 3) for rows in gathered_draws(subjects, 200)]
    found = subject_intervals(probs, labels, subjects, 3, num_draws=200)
    assert list(found) == [name for name in METRICS if name != "ece"]
    for name, (low, high) in found.items():
        expected = np.percentile([measured[name] for measured in slow], tails(len({*subjects})))
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
    found = metric_draws(probs[alone], labels[alone], 2, draws.of(alone))["accuracy"]
    is_missed = draws.totals(alone.astype(float)) == 0
    assert is_missed.any() and np.isnan(found[is_missed]).all()
    np.testing.assert_allclose(found[~is_missed], np.mean(probs[alone].argmax(1) == labels[alone]))
    assert np.isnan(draws.of(alone).interval(found)).all()  # one subject again and again
    assert np.isfinite(draws.interval(found)).all()


def people(rng: np.random.Generator, num_subjects: int):
    """Two classes; a subject has one to ten images, which share half of the chance in their scores."""
    owner = np.repeat(np.arange(num_subjects), rng.integers(1, 11, size=num_subjects))
    labels = (rng.random(num_subjects) < 0.4).astype(int)[owner]
    scores = 2 * labels - 1 + rng.normal(size=num_subjects)[owner] + rng.normal(size=len(owner))
    ill = 1 / (1 + np.exp(-scores))
    return np.column_stack([1 - ill, ill]), labels, owner.astype(str)


def test_the_intervals_contain_what_other_people_will_show():
    rng = np.random.default_rng(0)
    probs, labels, _ = people(rng, 50_000)
    truth = np.mean(probs.argmax(axis=1) == labels)
    by_subject, by_image = [], []
    for _ in range(200):
        probs, labels, subjects = people(rng, 20)
        for found, names in ((by_subject, subjects), (by_image, np.full(len(labels), ""))):
            draws = draw_subjects(names, num_draws=300)
            is_right = (probs.argmax(axis=1) == labels).astype(float)
            low, high = draws.interval(draws.totals(is_right) / draws.totals(np.ones(len(labels))))
            found.append(low <= truth <= high)
    assert 0.89 <= np.mean(by_subject) <= 0.98
    assert np.mean(by_image) < 0.82  # what drawing images would promise


def test_fewer_than_two_subjects_cannot_be_drawn():
    assert draw_subjects(np.full(5, "one")) is None
    assert draw_subjects(np.array([], dtype=str)) is None
    assert draw_subjects(np.array(["one", "two"]), num_draws=9).counts.sum(axis=0).tolist() == [2] * 9
