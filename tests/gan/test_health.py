"""Divergence and collapse are noticed and said once, with the way back; a healthy training has no warning."""

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import gan.training
from gan.config import TrainConfig
from gan.errors import GanError, TrainingInterrupted
from gan.going_back import new_run_command, way_back
from gan.health import HealthWatch, all_finite, bad_gradients, fake_variety, judge, read_tick
from gan.job import Job
from gan.state import STATE_NAME
from gan.training import train

# A good training of 24 kimg on brain slices of 64 pixels: p, loss of D, then mean and deviation of the scores
# and mean of their signs, on reals and on fakes.
REAL_TICKS = (
    (0.000, 1.355, 0.041, 0.307, -0.188, -0.331, 0.211, -0.875),
    (0.003, 1.189, 0.573, 1.321, 0.442, -0.956, 1.886, -0.496),
    (0.012, 0.751, 2.376, 2.607, 0.634, -2.022, 1.829, -0.844),
    (0.037, 0.567, 3.056, 2.648, 0.757, -2.479, 3.551, -0.884),
    (0.021, 1.053, 0.788, 1.347, 0.444, -0.819, 0.998, -0.638),
    (0.012, 0.985, 1.194, 1.974, 0.523, -1.350, 1.749, -0.683),
    (0.001, 1.156, 0.475, 0.978, 0.347, -0.658, 0.923, -0.580),
)

HEALTHY = {
    "Loss/scores/real": {"num": 100, "mean": 0.9, "std": 1.2},
    "Loss/scores/fake": {"num": 100, "mean": -1.1, "std": 1.4},
    "Loss/signs/real": {"num": 100, "mean": 0.55, "std": 0.8},
    "Loss/signs/fake": {"num": 100, "mean": -0.6, "std": 0.7},
    "Loss/D/loss": {"num": 100, "mean": 0.9, "std": 0.5},
    "Progress/augment": {"num": 1, "mean": 0.1, "std": 0.0},
    "Health/fake_variety": {"num": 1, "mean": 0.6, "std": 0.0},
    "Health/bad_gradients": {"num": 100, "mean": 0.0, "std": 0.0},
}


def statistics(kimg: float, **means: float) -> dict:
    """A healthy tick but for some means; `std_scores` sets the deviation of both kinds of scores."""
    values = {name: dict(value) for name, value in HEALTHY.items()}
    names = {
        "score_real": "Loss/scores/real", "score_fake": "Loss/scores/fake", "sign_real": "Loss/signs/real",
        "sign_fake": "Loss/signs/fake", "loss_d": "Loss/D/loss", "p": "Progress/augment",
        "variety": "Health/fake_variety", "bad": "Health/bad_gradients",
    }  # fmt: skip
    for key, mean in means.items():
        if key == "std_scores":
            values["Loss/scores/real"]["std"] = values["Loss/scores/fake"]["std"] = mean
        else:
            values[names[key]]["mean"] = mean
    return {**values, "Progress/kimg": {"num": 1, "mean": kimg, "std": 0.0}}


def kinds_after(*ticks: dict, target: float | None = 0.6) -> list[str]:
    history = [read_tick(statistics(0.016)), *(read_tick(tick) for tick in ticks)]
    return [finding.kind for finding in judge(history, target)]


def lasting(num: int, **means: float) -> list[dict]:
    return [statistics(4.0, variety=0.5), *(statistics(8.0 + 4 * tick, **means) for tick in range(num))]


@pytest.mark.parametrize(
    ("means", "kind"),
    [
        ({"score_real": 300.0}, "scores explode"),
        ({"loss_d": 0.001}, "discriminator always right"),
        ({"sign_real": 0.995, "sign_fake": -0.995}, "discriminator always right"),
        ({"sign_real": 1.0, "sign_fake": 1.0}, "discriminator blind"),
        ({"std_scores": 0.0}, "discriminator blind"),
        ({"variety": 0.05}, "generator collapsed"),
        ({"p": 1.0, "sign_real": 0.9}, "augmentation at its limit"),
        ({"p": 0.7, "sign_real": 0.95}, "augmentation without effect"),
        ({"bad": 0.4}, "gradients break"),
    ],
)
def test_what_lasts_is_noticed(means: dict, kind: str):
    assert kinds_after(*lasting(4, **means)) == [kind]


@pytest.mark.parametrize(
    "means",
    [
        {"loss_d": 0.001},
        {"sign_real": 1.0, "sign_fake": 1.0},
        {"variety": 0.05},
        {"p": 1.0},
        {"p": 0.7, "sign_real": 0.95},
    ],
)
def test_what_passes_is_not(means: dict):
    assert kinds_after(*lasting(2, **means)) == []
    assert kinds_after(*lasting(4, **means), statistics(40.0)) == []


def test_a_healthy_training_gets_no_warning():
    assert kinds_after(*(statistics(4.0 * tick) for tick in range(1, 20))) == []


def test_fixed_augmentation_may_stay_at_its_limit():
    assert kinds_after(*lasting(5, p=1.0), target=None) == []


def test_a_p_that_takes_effect_is_no_trouble():
    falling = [
        statistics(4.0 * tick, p=0.5 + 0.05 * tick, sign_real=0.97 - 0.03 * tick) for tick in range(1, 6)
    ]
    assert kinds_after(*falling) == []


def test_a_generator_without_variety_from_its_start_is_noticed():
    assert kinds_after(*(statistics(4.0 * tick, variety=0.01) for tick in range(1, 4))) == [
        "generator collapsed"
    ]


def test_each_thing_is_said_once_until_it_clears():
    watch = HealthWatch(ada_target=0.6)
    watch.observe(statistics(0.016))
    told = [
        watch.observe(statistics(4.0 * tick, bad=bad))
        for tick, bad in enumerate((0.0, 0.5, 0.5, 0.0, 0.5), 1)
    ]
    assert [[finding.kind for finding in new] for new, _ in told] == [
        [], ["gradients break"], [], [], ["gradients break"],
    ]  # fmt: skip
    assert [[finding.kind for finding in cleared] for _, cleared in told] == [
        [], [], [], ["gradients break"], [],
    ]  # fmt: skip


def test_a_finding_tells_how_far_the_training_was_well():
    history = [read_tick(tick) for tick in (statistics(0.016), *lasting(3, loss_d=0.0))]
    (finding,) = judge(history, 0.6)
    assert finding.good_until_kimg == 4.0


def test_a_real_training_gives_no_false_alarm():
    ticks = []
    for number, (p, loss_d, real, real_std, sign_real, fake, fake_std, sign_fake) in enumerate(REAL_TICKS):
        tick = statistics(
            4.0 * number, p=p, loss_d=loss_d, score_real=real, score_fake=fake, sign_real=sign_real,
            sign_fake=sign_fake,
        )  # fmt: skip
        tick["Loss/scores/real"]["std"], tick["Loss/scores/fake"]["std"] = real_std, fake_std
        ticks.append(tick)
    watch = HealthWatch(ada_target=0.6)
    assert [watch.observe(tick) for tick in ticks] == [([], [])] * len(ticks)


def test_another_real_training_gives_no_false_alarm():
    if "SYNTHLABEL_TEST_STATS" not in os.environ:
        pytest.skip("name the stats.jsonl of a good training with SYNTHLABEL_TEST_STATS")
    watch = HealthWatch(ada_target=0.6)
    for line in Path(os.environ["SYNTHLABEL_TEST_STATS"]).read_text().splitlines():
        new, _ = watch.observe(json.loads(line))
        assert new == []


def test_variety_is_the_share_of_the_variance_between_reals():
    rng = np.random.default_rng(0)
    reals = rng.integers(0, 256, size=(64, 1, 8, 8)).astype(np.uint8)
    assert fake_variety(reals[:32], reals) == pytest.approx(1.0, abs=0.1)
    assert fake_variety(np.repeat(reals[:1], 8, axis=0), reals) == 0.0
    assert fake_variety((reals // 2), reals) == pytest.approx(0.25, abs=0.01)
    assert math.isnan(fake_variety(reals, np.repeat(reals[:1], 8, axis=0)))


def test_broken_gradients_and_weights_are_seen():
    network = torch.nn.Linear(2, 1)
    network(torch.ones(1, 2)).sum().backward()
    assert bad_gradients(network) == 0 and all_finite(network)
    network.weight.grad[0, 0] = math.inf
    assert bad_gradients(network) == 1
    with torch.no_grad():
        network.bias.fill_(math.nan)
    assert not all_finite(network)


def plant(monkeypatch: pytest.MonkeyPatch, from_iteration: int, spoil) -> None:
    """Spoil a training before each iteration from this one on."""
    original = gan.training.run_iteration

    def spoiled(job: Job) -> None:
        if job.iteration >= from_iteration:
            with torch.no_grad():
                spoil(job)
        original(job)

    monkeypatch.setattr(gan.training, "run_iteration", spoiled)


def warnings_in(run_dir: Path) -> list[str]:
    return [line for line in (run_dir / "log.txt").read_text().splitlines() if line.startswith("Warning:")]


def test_poisoned_weights_end_the_training_before_anything_good_is_overwritten(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plant(monkeypatch, 8, lambda job: job.players.G.mapping.w_avg.fill_(math.nan))  # no loss looks at it
    with pytest.raises(GanError, match="training diverged") as caught:
        train(replace(tiny, kimg=0.2, outdir=tmp_path))
    (run_dir,) = tmp_path.iterdir()
    for name in ("network-snapshot-000000.safetensors", STATE_NAME):
        assert all(tensor.isfinite().all() for tensor in load_file(run_dir / name).values())
    assert f"synthlabel gan train --resume={run_dir}/network-snapshot-000000.safetensors" in str(caught.value)
    assert warnings_in(run_dir) == [f"Warning: {caught.value}"]
    for line in (run_dir / "stats.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_a_signal_does_not_save_poisoned_weights(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import signal

    def poison_and_stop(job: Job) -> None:
        job.players.G.mapping.w_avg.fill_(math.nan)
        signal.raise_signal(signal.SIGTERM)

    plant(monkeypatch, 6, poison_and_stop)
    with pytest.raises((GanError, TrainingInterrupted)) as caught:
        train(replace(tiny, kimg=0.2, outdir=tmp_path))
    assert isinstance(caught.value, GanError)
    (run_dir,) = tmp_path.iterdir()
    assert all(tensor.isfinite().all() for tensor in load_file(run_dir / STATE_NAME).values())


def test_a_discriminator_with_a_huge_bias_is_noticed(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plant(monkeypatch, 1, lambda job: job.players.D.b4.out.bias.fill_(1e4))
    run_dir = train(replace(tiny, kimg=0.2, outdir=tmp_path)).parent
    told = warnings_in(run_dir)
    assert [line.split(";")[0].split("(")[0] for line in told] == [
        "Warning: the discriminator's scores explode ",
        "Warning: the discriminator has collapsed: for 3 ticks it judges reals and fakes alike ",
    ]
    assert all("to go on from it: synthlabel gan train --resume=" in line for line in told)


def test_a_generator_that_ignores_its_latents_is_noticed(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def deafen(job: Job) -> None:
        for network in (job.players.G, job.G_ema):
            for name, parameter in network.synthesis.named_parameters():
                if name.endswith("affine.weight"):
                    parameter.fill_(0.0)

    plant(monkeypatch, 0, deafen)
    run_dir = train(replace(tiny, kimg=0.2, outdir=tmp_path)).parent
    (told,) = [line for line in warnings_in(run_dir) if "hardly differ" in line]
    assert "mode collapse" in told


def test_a_healthy_small_training_warns_of_nothing(trained: Path):
    assert warnings_in(trained.parent) == []


def test_a_resumed_training_does_not_repeat_a_warning(
    tiny: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    plant(monkeypatch, 1, lambda job: job.players.D.b4.out.bias.fill_(1e4))
    config = replace(tiny, kimg=0.128, outdir=tmp_path)
    run_dir = train(config).parent
    before = warnings_in(run_dir)
    train(replace(config, kimg=0.16, resume="latest"))
    assert len(before) >= 1 and warnings_in(run_dir) == before


def test_the_command_to_go_back_repeats_the_options_with_another_seed(tiny: TrainConfig, tmp_path: Path):
    config = replace(tiny, seed=4, mirror=True, split=Path("a split.json"), resume="auto")
    command = new_run_command(config, tmp_path / "network-snapshot-000008.safetensors")
    assert command.startswith(
        f"synthlabel gan train --resume={tmp_path}/network-snapshot-000008.safetensors "
    )
    assert f"--data={tiny.data}" in command and "'--split=a split.json'" in command
    assert "--mirror=1" in command and "--grid=2x2" in command and command.endswith("--seed=5")
    assert "auto" not in command


def test_the_way_back_leads_to_a_snapshot_from_before(tiny: TrainConfig, tmp_path: Path):
    assert "There is no snapshot from before; start again" in way_back(tiny, tmp_path, 4.0)
    for kimg in (0, 8, 16):
        (tmp_path / f"network-snapshot-{kimg:06d}.safetensors").touch()
    assert "network-snapshot-000008.safetensors; to go on" in way_back(tiny, tmp_path, 12.0)
    mark = {"format": "synthlabel-best-1", "kimg": 4.0, "result": "fid@task", "value": 3.21, "snapshot": "b"}
    (tmp_path / "best.json").write_text(json.dumps(mark))
    assert way_back(tiny, tmp_path, 12.0).startswith("The best snapshot is b (fid@task 3.21); to go on")
