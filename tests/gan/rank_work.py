"""What the two processes of `test_distributed.py` do; each runs this file with the environment of torchrun.

`python -m tests.gan.rank_work FOLDER` writes what this process found into FOLDER; `phases` is called by the
test as well, in one process on the total batch.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import gan.training
from gan.ada import AdaConfig, AdaController
from gan.config import TrainConfig, config_from_json
from gan.distributed import Ranks, open_ranks, place_of_this_process
from gan.errors import GanError
from gan.job import run_iteration
from gan.log import Statistics
from gan.losses import (
    LossConfig,
    Players,
    discriminator_main,
    discriminator_r1,
    generator_main,
    generator_path_length,
)
from gan.preparation import open_data, prepare_job, share_weights
from gan.training import gather_statistics, train
from vendor.stylegan2_ada import Discriminator, Generator

ROUNDS, SHARE, GROUP = 2, 4, 2  # rounds a phase, images a process and round, images that share a deviation
LOSSES = LossConfig(r1_gamma=1.0, pl_weight=2.0, style_mixing_prob=0.0)


def make_players() -> Players:
    """Conditional networks without noise inputs and augmentation: nothing is drawn in a phase."""
    torch.manual_seed(7)
    sizes = {"channel_base": 128, "channel_max": 16}
    G = Generator(16, 3, 16, 16, 1, num_mapping_layers=2, use_noise=False, **sizes)
    D = Discriminator(3, 16, 1, mbstd_group_size=GROUP, **sizes)
    players = Players(G.train(), D.train(), None, torch.tensor(0.3))
    G.requires_grad_(False)
    D.requires_grad_(False)
    return players


def total_batch(num_ranks: int) -> dict[str, Tensor]:
    """(num_ranks, ROUNDS, SHARE, ...) of everything that a phase is given."""
    torch.manual_seed(11)
    shape = (num_ranks, ROUNDS, SHARE)
    return {
        "images": torch.rand([*shape, 1, 16, 16]) * 2 - 1,
        "real_c": torch.eye(3)[torch.randint(3, shape)],
        "z": torch.randn([*shape, 16]),
        "c": torch.eye(3)[torch.randint(3, shape)],
        "noise": torch.randn([num_ranks, ROUNDS, SHARE // 2, 1, 16, 16]),
    }


def interleave(parts: Tensor) -> Tensor:
    """(ranks, n, ...) to one batch whose minibatch deviation groups are those within the ranks."""
    n = parts.shape[1]
    group = min(GROUP, n)
    if n < SHARE:  # the half batch of the path length: the first row of the groups
        return parts.flatten(0, 1)
    return parts.unflatten(1, (group, n // group)).transpose(0, 1).flatten(0, 2)


def run_phases(ranks: Ranks, rounds: list[dict[str, Tensor]]) -> tuple[dict[str, Tensor], Statistics, Tensor]:
    """Gradients of the four phases by phase and parameter, averaged over the processes; what was reported."""
    players, statistics = make_players(), Statistics()
    gradients: dict[str, Tensor] = {}
    report = statistics.report

    def path_length(part: dict[str, Tensor]) -> None:
        noise, average = part["noise"], ranks.average
        generator_path_length(players, LOSSES, part["z"], part["c"], 4.0, report, noise, average)

    def d_main(part: dict[str, Tensor]) -> None:
        discriminator_main(
            players, LOSSES, part["images"], part["real_c"], part["z"], part["c"], report
        )  # fmt: skip

    phases: list[tuple[str, torch.nn.Module, Callable[[dict[str, Tensor]], object]]] = [
        ("Gmain", players.G, lambda x: generator_main(players, LOSSES, x["z"], x["c"], report)),
        ("Greg", players.G, path_length),
        ("Dmain", players.D, d_main),
        (
            "Dreg",
            players.D,
            lambda x: discriminator_r1(players, LOSSES, x["images"], x["real_c"], 16.0, report),
        ),
    ]
    for name, network, run in phases:
        network.requires_grad_(True)
        for part in rounds:
            run(part)
        network.requires_grad_(False)
        ranks.average_gradients(network)
        for parameter_name, parameter in network.named_parameters():
            gradient = parameter.grad
            gradients[f"{name}.{parameter_name}"] = (
                torch.zeros_like(parameter) if gradient is None else gradient.clone()
            )
            parameter.grad = None
    w_avg = players.G.mapping.w_avg
    ranks.average_(w_avg)
    return gradients | {"pl_mean": players.pl_mean, "w_avg": w_avg.clone()}, statistics, w_avg


def own_rounds(rank: int, num_ranks: int) -> list[dict[str, Tensor]]:
    batch = total_batch(num_ranks)
    return [{name: values[rank, k] for name, values in batch.items()} for k in range(ROUNDS)]


def joined_rounds(num_ranks: int) -> list[dict[str, Tensor]]:
    batch = total_batch(num_ranks)
    return [{name: interleave(values[:, k]) for name, values in batch.items()} for k in range(ROUNDS)]


class _Holder:
    """As much of a job as `gather_statistics` needs."""

    def __init__(self, ranks: Ranks, statistics: Statistics) -> None:
        self.ranks, self.statistics = ranks, statistics


def check_laws(ranks: Ranks, config: TrainConfig, found: dict, folder: Path) -> None:
    gradients, statistics, _ = run_phases(ranks, own_rounds(ranks.rank, ranks.count))
    gather_statistics(_Holder(ranks, statistics))
    found["statistics"] = statistics.end_tick()
    torch.save(gradients, folder / f"gradients{ranks.rank}.pt")

    controller = AdaController(AdaConfig(target=0.6, ramp_kimg=1, interval=1))
    controller.observe(torch.ones(8, 1) if ranks.rank == 0 else torch.tensor([[1.0], [-1.0]]))
    found["p"] = controller.end_batch(10, ranks.sum)  # mean sign 8/10 is above the target, 0 is below
    found["largest"] = ranks.largest(15 * ranks.rank)
    found["from_first"] = ranks.from_first(lambda: f"made by {ranks.rank}")

    job = prepare_job(config, open_data(config, lambda *_: None), torch.device("cpu"), None, ranks)
    found["first_z"] = torch.randn(3).tolist()
    found["first_items"] = job.sampler.order[job.sampler.position : 4].tolist()
    share_weights(job)
    for _ in range(2):  # with and without the lazy regularisers
        run_iteration(job)
    networks = {f"{a}.{b}": t for a, m in job.networks.items() for b, t in m.state_dict().items()}
    torch.save({**networks, "pl_mean": job.players.pl_mean}, folder / f"networks{ranks.rank}.pt")
    ranks.check_equal(job.networks)
    found["failures"] = [plant_difference(ranks, job), plant_failure(ranks)]


def plant_difference(ranks: Ranks, job) -> str:
    if ranks.rank == 1:
        job.players.D.b4.out.bias.data += 1e-7
    return failure_of(lambda: ranks.check_equal(job.networks))


def plant_failure(ranks: Ranks) -> str:
    def work() -> None:
        with ranks.together():
            if ranks.rank == 1:
                raise GanError("the disk of host 1 is gone")

    return failure_of(work)


def failure_of(work: Callable[[], object]) -> str:
    try:
        work()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no failure"


def check_training(config: TrainConfig, found: dict, folder: Path) -> None:
    """A whole run, the same in two halves, and one in which a process fails."""
    found["whole"] = str(train(replace(config, outdir=folder / "whole")))
    train(replace(config, outdir=folder / "halves", kimg=config.kimg / 2))
    torch.manual_seed(1234)  # what happens in between must not matter
    found["halves"] = str(train(replace(config, outdir=folder / "halves", resume="latest")))

    rank = place_of_this_process().rank
    original = gan.training.run_iteration

    def fails(job) -> None:
        if rank == 1 and job.iteration == 1:
            raise GanError("process 1 has had enough")
        original(job)

    gan.training.run_iteration = fails
    found["failures"].append(failure_of(lambda: train(replace(config, outdir=folder / "fails"))))


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    config = config_from_json(json.loads((folder / "config.json").read_text()))
    place = place_of_this_process()
    found: dict = {}
    with open_ranks(place, "cpu") as ranks:
        check_laws(ranks, config, found, folder)
    check_training(config, found, folder)
    (folder / f"found{place.rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
