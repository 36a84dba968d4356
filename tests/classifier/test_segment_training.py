import dataclasses

import numpy as np
import pytest
import torch

from classifier.errors import ClassifierError
from classifier.segment_config import SegmentConfig
from classifier.segment_state import STATE
from classifier.segment_training import dice_bce, one_cycle, train_segmenter
from classifier.segmenter import Segmenter
from extract.errors import SettingsError
from tests.classifier.phantom_lungs import arrays

TINY = SegmentConfig(size=32, width=4, depth=2, steps=12, batch_size=4, validate_every=4, seed=1, threads=1)


@pytest.fixture(scope="module")
def data():
    return arrays(range(8)), arrays(range(20, 24))


def weights(segmenter: Segmenter) -> dict[str, torch.Tensor]:
    return segmenter.model.state_dict()


def same(a: Segmenter, b: Segmenter) -> bool:
    return all(torch.equal(value, weights(b)[name]) for name, value in weights(a).items())


def test_the_loss_is_cross_entropy_and_one_minus_dice():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(2, 1, 5, 6)), (rng.random((2, 1, 5, 6)) < 0.4).astype(float)
    probs = 1 / (1 + np.exp(-logits))
    bce = -(targets * np.log(probs) + (1 - targets) * np.log(1 - probs)).mean()
    dice = [(2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1) for p, t in zip(probs, targets, strict=True)]
    found = dice_bce(torch.from_numpy(logits), torch.from_numpy(targets))
    assert float(found) == pytest.approx(bce + 1 - np.mean(dice))


def test_the_rate_rises_to_the_peak_and_falls_to_nothing():
    config = dataclasses.replace(TINY, steps=100, lr=1e-2, warmup=0.2)
    rates = [one_cycle(step, config)[0] for step in range(101)]
    assert rates[0] == pytest.approx(1e-2 / 25) and rates[20] == pytest.approx(1e-2)
    assert rates[100] == pytest.approx(1e-6) and int(np.argmax(rates)) == 20
    assert (np.diff(rates[:21]) > 0).all() and (np.diff(rates[20:]) < 0).all()
    assert one_cycle(20, config)[1] == pytest.approx(0.85) and one_cycle(0, config)[1] == pytest.approx(0.95)


def test_the_same_seed_gives_the_same_bits_and_another_seed_another_network(data):
    first, rows = train_segmenter(*data, TINY)
    torch.manual_seed(77)  # what the process did before
    second, again = train_segmenter(*data, TINY)
    assert same(first, second)
    strip = [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
    assert strip == [{key: value for key, value in row.items() if key != "seconds"} for row in again]
    assert [row["step"] for row in rows] == [4, 8, 12]
    other, _ = train_segmenter(*data, dataclasses.replace(TINY, seed=2))
    assert not same(first, other)


class Killed(BaseException):
    """As a signal would end it, at any place."""


@pytest.mark.parametrize("killed_at", [2, 5, 8, 11])
def test_a_training_that_is_killed_goes_on_to_the_same_bits(data, tmp_path, killed_at):
    whole, rows = train_segmenter(*data, TINY)

    def kill(done: int, total: int, message: str) -> None:
        if done == killed_at:
            raise Killed

    with pytest.raises(Killed):
        train_segmenter(*data, TINY, state_dir=tmp_path, progress=kill)
    steps: list[int] = []
    resumed, again = train_segmenter(
        *data, TINY, state_dir=tmp_path, progress=lambda done, total, message: steps.append(done)
    )
    assert steps[0] == (killed_at // 4 * 4 or 1)  # it did not begin anew where there was a state
    assert same(whole, resumed)
    assert [row["val_dice"] for row in again] == [row["val_dice"] for row in rows]
    assert [row["train_loss"] for row in again] == [row["train_loss"] for row in rows]


def test_a_state_of_other_settings_or_data_is_not_gone_on_with(data, tmp_path):
    train_segmenter(*data, TINY, state_dir=tmp_path)
    with pytest.raises(ClassifierError, match="begun otherwise"):
        train_segmenter(*data, dataclasses.replace(TINY, lr=1e-3), state_dir=tmp_path)
    with pytest.raises(ClassifierError, match="begun otherwise"):
        train_segmenter(arrays(range(40, 48)), data[1], TINY, state_dir=tmp_path)
    train_segmenter(*data, dataclasses.replace(TINY, threads=None), state_dir=tmp_path)  # may change
    anew, _ = train_segmenter(
        *data, dataclasses.replace(TINY, lr=1e-3), state_dir=tmp_path, replace_state=True
    )
    assert same(anew, train_segmenter(*data, dataclasses.replace(TINY, lr=1e-3))[0])


def test_a_damaged_state_is_named(data, tmp_path):
    train_segmenter(*data, TINY, state_dir=tmp_path)
    state = tmp_path / STATE
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(ClassifierError, match=r"state\.safetensors: expected the state of a training"):
        train_segmenter(*data, TINY, state_dir=tmp_path)


def test_phantom_lungs_are_learned_and_the_best_look_is_kept():
    train, val = arrays(range(16)), arrays(range(30, 36))
    config = dataclasses.replace(TINY, width=6, steps=60, batch_size=8, validate_every=10, lr=1e-2)
    segmenter, rows = train_segmenter(train, val, config)
    best = max(row["val_dice"] for row in rows)
    assert best > 0.9
    found = segmenter.predict_squares(val[0]) >= config.threshold
    truth = val[1] >= 128
    dice = 2 * (found & truth).sum(axis=(1, 2, 3)) / (found.sum(axis=(1, 2, 3)) + truth.sum(axis=(1, 2, 3)))
    assert dice.mean() == pytest.approx(best, abs=1e-6)


def test_a_training_that_diverges_says_so(data):
    with pytest.raises(ClassifierError, match=r"diverged at step .* smaller --lr"):
        train_segmenter(*data, dataclasses.replace(TINY, lr=1e30, steps=40))


def test_arrays_of_another_size_are_refused(data):
    with pytest.raises(ClassifierError, match=r"expected images \(N, 1, 64, 64\)"):
        train_segmenter(*data, dataclasses.replace(TINY, size=64))
    with pytest.raises(ClassifierError, match="as many masks as images"):
        train_segmenter((data[0][0], data[0][1][:3]), data[1], TINY)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"size": 8}, "size must be in 16"),
        ({"size": 16, "depth": 4}, "depth 4 needs a size of at least 32"),
        ({"norm": "none"}, "norm must be one of"),
        ({"threshold": 1.0}, "threshold must lie between"),
        ({"val_share": 0.6, "test_share": 0.5}, "must leave subjects for training"),
        ({"preprocessing": "brain-planes"}, "changes gray levels alone"),
        ({"preprocessing": {"crop": "content"}}, "changes gray levels alone"),
        ({"steps": 0}, "steps must be at least 1"),
    ],
)
def test_settings_outside_their_range_are_refused(wrong, sentence):
    with pytest.raises(SettingsError, match=sentence):
        SegmentConfig(**wrong)
