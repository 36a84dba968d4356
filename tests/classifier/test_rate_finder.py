from dataclasses import replace

import numpy as np
import pytest
import torch

from classifier.config import ClassifierConfig
from classifier.rate_finder import find_rate, suggest_rate
from tests.classifier.toys import CLASSES, toy_images

CONFIG = ClassifierConfig(batch_size=16, optimizer="sgd")


def test_the_rates_grow_geometrically_and_the_test_ends_when_the_loss_explodes():
    found = find_rate(toy_images(48, seed=1), CLASSES, CONFIG, num_steps=30, lowest=1e-5, highest=1e4)
    assert np.allclose(np.diff(np.log(found.rates)), np.log(1e9) / 29)
    assert len(found.losses) < 30  # it exploded
    assert 1e-4 < found.suggestion < 1.0


def test_it_repeats_to_the_bit_and_leaves_the_global_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    config = replace(CONFIG, frozen_share=0.5)
    first = find_rate(toy_images(48, seed=1), CLASSES, config, num_steps=12)
    assert torch.equal(before, torch.get_rng_state())
    assert first == find_rate(toy_images(48, seed=1), CLASSES, config, num_steps=12)


def test_the_suggestion_lies_a_decade_below_the_bottom():
    rates = np.geomspace(1e-6, 1, 61)
    losses = 1 / (1 + np.exp(2 * (np.log10(rates) + 3)))  # falls about 1e-3, flat from 1e-1 on
    found = suggest_rate(rates.tolist(), losses.tolist())
    assert 1e-3 < found < 1e-2
    noise = np.random.default_rng(0).uniform(0, 0.01, 61) * (rates > 0.1)
    assert suggest_rate(rates.tolist(), (losses - noise).tolist()) == pytest.approx(found, rel=3)
