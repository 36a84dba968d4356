"""Several processes train what one would: laws of the reductions, of the state, of a process that ends."""

import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from extract.errors import SettingsError
from extract.progress import no_progress
from gan.config import TrainConfig, config_to_json, make_recipe, share_recipe
from gan.distributed import Ranks
from gan.preparation import open_data, prepare_job
from gan.sampler import EndlessSampler
from gan.state import STATE_NAME, read_state_header, restore_state, stored_config, stored_recipe
from gan.training import train
from tests.gan.rank_work import joined_rounds, run_phases

REPOSITORY = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


@pytest.fixture(scope="module")
def two(tiny: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two processes have left what `rank_work.py` found."""
    folder = tmp_path_factory.mktemp("two")
    config = replace(tiny, cond=True, mirror=True, aug="ada", kimg=0.032)
    (folder / "config.json").write_text(json.dumps(config_to_json(config)))
    places = {
        "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.gan.rank_work", str(folder)]
    processes = [
        subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **places, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        errors = [process.communicate(timeout=200)[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], errors
    finally:
        for process in processes:
            process.kill()
    return folder


def found(folder: Path, rank: int) -> dict:
    return json.loads((folder / f"found{rank}.json").read_text())


def test_two_processes_have_the_gradients_of_one_on_the_total_batch(two: Path):
    expected, _, _ = run_phases(Ranks(), joined_rounds(num_ranks=2))
    for rank in range(2):
        actual = torch.load(two / f"gradients{rank}.pt", weights_only=True)
        assert actual.keys() == expected.keys()
        for phase in ("Gmain", "Greg", "Dmain", "Dreg", "pl_mean", "w_avg"):
            names = [name for name in expected if name.startswith(phase)]
            one, other = (torch.cat([x[name].flatten() for name in names]) for x in (expected, actual))
            assert one.norm() > 0
            assert (one - other).norm() / one.norm() < 1e-6, phase


def test_statistics_over_processes_are_those_of_all_values(two: Path):
    _, statistics, _ = run_phases(Ranks(), joined_rounds(num_ranks=2))
    expected, actual = statistics.end_tick(), found(two, 0)["statistics"]
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        assert actual[name]["num"] == value["num"]
        assert actual[name]["mean"] == pytest.approx(value["mean"], rel=1e-5, abs=1e-6)
        assert actual[name]["std"] == pytest.approx(value["std"], rel=1e-4, abs=1e-6)


def test_after_some_iterations_all_processes_hold_the_same_bits(two: Path):
    one, other = (torch.load(two / f"networks{rank}.pt", weights_only=True) for rank in range(2))
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_processes_draw_different_latents_and_agree_on_p_and_on_stopping(two: Path):
    first, second = found(two, 0), found(two, 1)
    assert first["first_z"] != second["first_z"]
    assert first["p"] == second["p"] == pytest.approx(0.01)
    assert first["largest"] == second["largest"] == 15
    assert first["from_first"] == second["from_first"] == "made by 0"


def test_networks_that_differ_between_processes_are_noticed(two: Path):
    for rank in range(2):
        assert found(two, rank)["failures"][0].startswith(
            "GanError: expected equal networks in all 2 processes, got another D.b4.out.bias in process 1"
        )


def test_a_process_that_fails_takes_the_others_with_it_and_tells_why_once(two: Path):
    assert found(two, 1)["failures"][1:] == [
        "GanError: the disk of host 1 is gone", "GanError: process 1 has had enough"
    ]  # fmt: skip
    orderly, sudden = found(two, 0)["failures"][1:]
    assert orderly == "PeerFailed: process 1 of this training failed: the disk of host 1 is gone"
    assert sudden == "PeerFailed: another process of this training failed and has said why"


def test_two_processes_resume_bit_for_bit(two: Path):
    whole, halves = (Path(found(two, 0)[name]) for name in ("whole", "halves"))
    assert found(two, 1)["whole"] == str(whole)
    for name in (whole.name, STATE_NAME):
        one, other = load_file(whole.with_name(name)), load_file(halves.with_name(name))
        assert one.keys() == other.keys()
        assert [key for key in one if not torch.equal(one[key], other[key])] == []
    assert "rank1.random.torch" in load_file(whole.with_name(STATE_NAME))


def test_a_run_of_two_processes_goes_on_in_one_and_says_that_it_is_not_bit_for_bit(
    two: Path, tiny: TrainConfig, tmp_path: Path
):
    run_dir = Path(shutil.copytree(Path(found(two, 0)["whole"]).parent, tmp_path / "00000-two"))
    before = load_file(run_dir / STATE_NAME)
    config = replace(tiny, cond=True, mirror=True, aug="ada", resume=str(run_dir))
    train(replace(config, kimg=0.032))  # nothing left to do
    log = (run_dir / "log.txt").read_text()
    assert "The state was written by 2 processes, now there are 1: weights, averages, optimisers" in log
    snapshot = train(replace(config, kimg=0.040))  # one iteration more
    after = load_file(snapshot.with_name(STATE_NAME))
    assert after["G_opt.0.step"] == before["G_opt.0.step"] + 2  # path lengths are due
    assert after["D_opt.0.step"] == before["D_opt.0.step"] + 1
    moved = (after["G.synthesis.b4.const"] - before["G.synthesis.b4.const"]).abs().max()
    assert 0 < moved < 0.01
    assert "rank1.random.torch" not in after


def test_moments_follow_the_number_of_rounds_that_another_number_of_processes_sums(
    two: Path,
):
    run_dir = Path(found(two, 0)["whole"]).parent
    header, stored = read_state_header(run_dir), load_file(run_dir / STATE_NAME)
    config = replace(stored_config(header), gpus=1)
    recipe = stored_recipe(header, config)
    assert (recipe.batch_size, recipe.batch_gpu) == (8, 4)  # two rounds now, where each process had one
    job = prepare_job(config, open_data(config, no_progress), torch.device("cpu"), recipe)
    restore_state(run_dir, header, job)
    moments = job.D_opt.state_dict()["state"][0]
    torch.testing.assert_close(moments["exp_avg"], 2 * stored["D_opt.0.exp_avg"])
    torch.testing.assert_close(moments["exp_avg_sq"], 4 * stored["D_opt.0.exp_avg_sq"])
    assert job.images_seen == 32 and job.sampler.position == header["sampler_position"] == 32


def test_the_batch_is_shared_by_the_official_rules():
    config = TrainConfig(data=Path("a.zip"), outdir=Path("runs"))

    def rounds(resolution: int = 256, **options) -> tuple[int, int, int, int]:
        made = make_recipe(replace(config, **options), resolution, 3, 0, on_gpu=True)
        share = made.batch_size // options.get("gpus", 1)
        return made.batch_size, made.batch_gpu, share // made.batch_gpu, made.mbstd_group

    assert rounds(cfg="stylegan2") == (32, 4, 8, 4)
    assert rounds(cfg="stylegan2", gpus=8) == (32, 4, 1, 4)
    assert rounds(cfg="stylegan2", gpus=16) == (32, 2, 1, 2)  # officially this fails
    assert rounds(cfg="paper256", gpus=2) == (64, 8, 4, 8)
    assert rounds(cfg="cifar", gpus=2) == (64, 32, 1, 32)
    assert rounds(gpus=2) == (32, 16, 1, 4)
    assert rounds(resolution=64, gpus=8) == (64, 8, 1, 4)
    assert rounds(cfg="paper256", gpus=2, batch=8) == (8, 4, 1, 4)
    with pytest.raises(SettingsError, match=r"--gpus=64: batches of 32 images \(--cfg=stylegan2\) cannot"):
        rounds(cfg="stylegan2", gpus=64)


def test_another_number_of_processes_keeps_what_fits_at_a_time():
    config = TrainConfig(data=Path("a.zip"), outdir=Path("runs"), cfg="paper256", gpus=8)
    recipe = make_recipe(config, 256, 1, 0, on_gpu=True)
    assert share_recipe(recipe, 1, "paper256").batch_gpu == recipe.batch_gpu == 8
    more = share_recipe(recipe, 16, "paper256")
    assert (more.batch_size, more.batch_gpu, more.mbstd_group) == (64, 4, 4)


def test_ranks_share_the_walk_of_one_sampler_and_stay_abreast():
    alone = EndlessSampler(10, seed=3).take(24)
    both = [EndlessSampler(10, seed=3, rank=rank, num_ranks=2) for rank in range(2)]
    taken = [[sampler.take(4) for _ in range(3)] for sampler in both]
    joined = np.array(taken).reshape(2, -1).T.flatten()  # positions 0, 1, 2, ...
    assert joined.tolist() == alone.tolist()
    assert both[0].position == both[1].position == 24
    assert both[0].order.tolist() == both[1].order.tolist()


def test_more_gpus_than_there_are_is_refused_in_a_sentence(tiny: TrainConfig, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    with pytest.raises(SettingsError, match=r"--gpus=2: expected as many CUDA devices .* found 1; use fewer"):
        train(replace(tiny, gpus=2, device="auto"))


def test_torchrun_and_gpus_must_agree(tiny: TrainConfig, monkeypatch):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "4"), ("MASTER_ADDR", "x"), ("MASTER_PORT", "1")):
        monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match="--gpus=2: torchrun started 4 processes"):
        train(replace(tiny, gpus=2))
