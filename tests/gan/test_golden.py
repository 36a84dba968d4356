"""Every case of the reference numbers for schedules and measures; their folder says what each array means."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from gan.ada import AdaConfig, AdaController, adjust_p
from gan.ema import ema_decay
from gan.metrics import (
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
    slerp,
    trimmed_path_length,
)
from gan.sampler import EndlessSampler, choose_subset

FOLDER = Path(os.environ.get("STYLEGAN2_GOLDEN_DIR") or Path(__file__).parents[2] / "../shared/golden")
WITHOUT_CEILING = float("inf")


def load(name: str) -> dict[str, np.ndarray]:
    path = FOLDER / name
    if not path.is_file():
        return {}
    with np.load(path) as content:
        return dict(content)


SCHEDULES, METRICS = load("schedules.npz"), load("metrics.npz")
needs_schedules = pytest.mark.skipif(
    not SCHEDULES, reason=f"no schedules.npz in {FOLDER} (STYLEGAN2_GOLDEN_DIR)"
)
needs_metrics = pytest.mark.skipif(not METRICS, reason=f"no metrics.npz in {FOLDER} (STYLEGAN2_GOLDEN_DIR)")


def keys(prefix: str) -> list[str]:
    return [key for key in SCHEDULES if key.startswith(prefix)]


@needs_schedules
def test_each_ada_step_is_the_reference_step():
    assert len(SCHEDULES["ada_rows"]) > 0
    for p, r_t, target, batch, interval, kimg, expected in SCHEDULES["ada_rows"]:
        config = AdaConfig(float(target), float(kimg), int(interval), ceiling=WITHOUT_CEILING)
        assert adjust_p(p, r_t, int(batch * interval), config) == pytest.approx(expected, abs=1e-6)


@needs_schedules
def test_a_sequence_of_ada_steps_follows_the_reference():
    batch_size = 32
    controller = AdaController(AdaConfig(target=0.6, ramp_kimg=500, interval=4, ceiling=WITHOUT_CEILING))
    reached = []
    for r_t in SCHEDULES["ada_seq_signs"]:
        controller._sign_sum, controller._num_signs = float(r_t) * 1000, 1000
        for _ in range(4):
            controller.end_batch(batch_size)
        reached.append(controller.p)
    np.testing.assert_allclose(reached, SCHEDULES["ada_seq_p"], atol=1e-6)


@needs_schedules
def test_ema_decay_is_the_reference_decay():
    assert len(SCHEDULES["ema_rows"]) > 0
    for batch, kimg, ramp, images_seen, expected in SCHEDULES["ema_rows"]:
        decay = ema_decay(int(batch), float(kimg), None if ramp < 0 else float(ramp), int(images_seen))
        assert decay == pytest.approx(expected, abs=1e-6)


@needs_schedules
@pytest.mark.parametrize("key", keys("sampler/"))
def test_sampler_visits_the_reference_indices(key: str):
    expected = SCHEDULES[key]
    size = int(re.search(r"len(\d+)", key)[1])
    if "noshuffle" in key:
        sampler = EndlessSampler(size, shuffle=False)
    else:
        seed, rank, num_ranks = (int(re.search(rf"{name}(\d+)", key)[1]) for name in ("seed", "rank", "_of"))
        sampler = EndlessSampler(size, seed, rank, num_ranks)
    assert sampler.take(len(expected)).tolist() == expected.astype(int).tolist()


@needs_schedules
@pytest.mark.parametrize("key", keys("subset/"))
def test_subset_is_the_reference_subset(key: str):
    size, limit, seed = (
        int(number) for number in re.match(r"subset/n(\d+)_max(\d+)_seed(\d+)", key).groups()
    )
    assert choose_subset(size, limit, seed).tolist() == SCHEDULES[key].astype(int).tolist()


@needs_metrics
def test_frechet_distance_is_the_reference_fid():
    value = frechet_distance(METRICS["real_features"], METRICS["gen_features"])
    assert value == pytest.approx(float(METRICS["fid"]), rel=1e-5)


@needs_metrics
def test_kernel_distance_is_the_reference_kid():
    (key,) = [key for key in METRICS if key.startswith("kid_")]
    seed, subsets, size = (
        int(number) for number in re.match(r"kid_seed(\d+)_subsets(\d+)_size(\d+)", key).groups()
    )
    real, fake = METRICS["real_features"], METRICS["gen_features"]
    value = kernel_distance(real, fake, subsets, size, np.random.RandomState(seed)).mean
    assert value == pytest.approx(float(METRICS[key]), rel=1e-5)


@needs_metrics
def test_precision_and_recall_are_the_reference_ones():
    (key,) = [key for key in METRICS if key.startswith("precision_recall_k")]
    neighbors = int(key.rpartition("k")[2])
    found = precision_recall(METRICS["real_features"], METRICS["gen_features"], neighbors)
    np.testing.assert_allclose([found.precision, found.recall], METRICS[key], atol=1e-6)


@needs_metrics
def test_inception_score_is_the_reference_score():
    (key,) = [key for key in METRICS if key.startswith("is_mean_std_splits")]
    found = inception_score(METRICS["probs"], int(key.rpartition("splits")[2]))
    np.testing.assert_allclose([found.mean, found.std], METRICS[key], rtol=1e-4)


@needs_metrics
def test_path_length_is_trimmed_as_in_the_reference():
    assert trimmed_path_length(METRICS["ppl_distances"]) == pytest.approx(
        float(METRICS["ppl_score"]), rel=1e-5
    )


@needs_metrics
def test_slerp_is_the_reference_interpolation():
    found = slerp(METRICS["slerp_a"], METRICS["slerp_b"], METRICS["slerp_t"])
    np.testing.assert_allclose(found, METRICS["slerp_out"], atol=1e-5)
