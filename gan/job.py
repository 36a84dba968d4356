"""A training in progress: everything that changes from one iteration to the next, and the iteration."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gan.ada import AdaConfig, AdaController
from gan.config import Recipe
from gan.data import TrainingImages
from gan.distributed import Ranks
from gan.ema import ema_decay, update_ema
from gan.health import BAD_GRADIENTS, bad_gradients
from gan.log import Statistics
from gan.losses import (
    LossConfig,
    Players,
    discriminator_main,
    discriminator_r1,
    generator_main,
    generator_path_length,
)
from gan.networks import (
    build_augment_pipe,
    build_discriminator,
    build_generator,
    network_settings,
    use_channels_last,
)
from gan.sampler import EndlessSampler
from vendor.stylegan2_ada import Generator

PHASE_NAMES = ("Gmain", "Greg", "Dmain", "Dreg")
GRADIENT_LIMIT = 1e5  # what an infinite gradient is replaced by


@dataclass
class Job:
    """Networks, optimisers, counters and sources of chance; `state.py` saves and restores them.

    Of a training in several processes this is what one of them holds; the networks are the same in all.
    """

    recipe: Recipe
    settings: dict[str, Any]  # of the networks, as snapshots record them
    data: TrainingImages
    device: torch.device
    players: Players
    G_ema: Generator
    G_opt: torch.optim.Adam
    D_opt: torch.optim.Adam
    sampler: EndlessSampler
    label_random: np.random.RandomState  # labels of the fakes
    ada: AdaController
    ranks: Ranks = field(default_factory=Ranks)  # the processes that train together
    statistics: Statistics = field(default_factory=Statistics)
    images_seen: int = 0
    iteration: int = 0
    tick: int = 0
    tick_start_images: int = 0
    elapsed_sec: float = 0.0  # of earlier sessions of this training
    # Of the snapshot whose weights this training started from: who taught those is not forgotten.
    earlier_subjects: tuple[str, ...] = ()
    earlier_archives: tuple[str, ...] = ()  # hashes, other than this training's own
    start_notes: tuple[str, ...] = ()  # what became of those weights, for the log
    phase_ms: dict[str, float] = field(default_factory=dict)  # last duration of each phase

    @property
    def kimg(self) -> float:
        return self.images_seen / 1000

    @property
    def networks(self) -> dict[str, nn.Module]:
        """What is trained, by the names that a state gives it."""
        networks: dict[str, nn.Module] = {"G": self.players.G, "D": self.players.D, "G_ema": self.G_ema}
        return networks if self.players.augment is None else {**networks, "augment": self.players.augment}

    @property
    def is_done(self) -> bool:
        return self.images_seen >= self.recipe.total_kimg * 1000


def build_job(
    recipe: Recipe, data: TrainingImages, device: torch.device, seed: int, ranks: Ranks | None = None
) -> Job:
    """Fresh networks (weights from torch's global generator), optimisers and samplers."""
    ranks = ranks or Ranks()
    settings = network_settings(recipe)
    G = build_generator(settings).train().to(device)
    D = build_discriminator(settings).train().to(device)
    augment = build_augment_pipe(settings)
    p = recipe.augment_p or 0.0
    if augment is not None:
        augment = augment.train().requires_grad_(False).to(device)
        augment.p.fill_(p)
    if recipe.channels_last:
        use_channels_last(G, D)
    target = recipe.ada_target if recipe.ada_target is not None else 0.0
    return Job(
        recipe=recipe,
        settings=settings,
        data=data,
        device=device,
        players=Players(
            G.requires_grad_(False), D.requires_grad_(False), augment, torch.zeros([], device=device)
        ),
        G_ema=copy.deepcopy(G).eval().requires_grad_(False),
        G_opt=_lazy_adam(G, recipe, recipe.g_reg_interval),
        D_opt=_lazy_adam(D, recipe, recipe.d_reg_interval),
        sampler=EndlessSampler(len(data), seed=seed, rank=ranks.rank, num_ranks=ranks.count),
        label_random=np.random.RandomState(rank_seed(seed, ranks)),
        ada=AdaController(AdaConfig(target, recipe.ada_kimg, recipe.ada_interval), p),
        ranks=ranks,
    )


def rank_seed(seed: int, ranks: Ranks) -> int:
    """The seed of one process's latents and labels, as the official code derives it."""
    return (seed * ranks.count + ranks.rank) % 2**32


def _lazy_adam(network: nn.Module, recipe: Recipe, interval: int) -> torch.optim.Adam:
    """Adam slowed down for the extra steps that a regulariser takes every `interval` iterations."""
    share = interval / (interval + 1)
    betas = (recipe.adam_betas[0] ** share, recipe.adam_betas[1] ** share)
    return torch.optim.Adam(
        network.parameters(), lr=recipe.lr * share, betas=betas, eps=recipe.adam_eps, fused=True
    )


def run_iteration(job: Job) -> None:
    """Show one batch of real images: the phases that are due, the moving average, and the strength p.

    Each of several processes shows its share of the batch.
    """
    recipe, data = job.recipe, job.data
    share = recipe.batch_size // job.ranks.count
    real_images, real_c = data.batch(job.sampler.take(share), job.device)
    shape = (len(PHASE_NAMES), share)
    z = torch.randn(
        [*shape, recipe.latent_dim], device=job.device
    )  # drawn for phases that are not due as well
    fake_items = job.label_random.randint(len(data), size=shape[0] * shape[1])
    c = torch.from_numpy(data.one_hot(fake_items)).to(job.device).reshape(*shape, data.c_dim)

    for name, network, optimizer, run in _phases_due(job):
        started = time.perf_counter()
        phase = PHASE_NAMES.index(name)
        network.requires_grad_(True)
        for part in _rounds(share, recipe.batch_gpu):
            run(real_images[part], real_c[part], z[phase, part], c[phase, part])
        network.requires_grad_(False)
        job.ranks.average_gradients(network)
        job.statistics.report(BAD_GRADIENTS, bad_gradients(network))
        step(network, optimizer)
        job.phase_ms[name] = (time.perf_counter() - started) * 1000

    # Each process has moved w_avg by the latents that it drew. The mean of these is what one process would
    # have, since the moving average is linear; and every later reduction finds equal networks.
    job.ranks.average_(job.players.G.mapping.w_avg)
    decay = ema_decay(recipe.batch_size, recipe.ema_kimg, recipe.ema_ramp, job.images_seen)
    update_ema(job.G_ema, job.players.G, decay)
    job.images_seen += recipe.batch_size
    job.iteration += 1
    if recipe.ada_target is not None and job.players.augment is not None:
        job.players.augment.p.fill_(job.ada.end_batch(recipe.batch_size, job.ranks.sum))


PhaseRun = Callable[
    [Tensor, Tensor, Tensor, Tensor], None
]  # real images, their labels, z, labels of the fakes


def _phases_due(job: Job) -> list[tuple[str, nn.Module, torch.optim.Adam, PhaseRun]]:
    recipe, players, report = job.recipe, job.players, job.statistics.report
    config = LossConfig(
        r1_gamma=recipe.r1_gamma, pl_weight=recipe.pl_weight, style_mixing_prob=recipe.style_mixing_prob
    )

    def g_main(real_images: Tensor, real_c: Tensor, z: Tensor, c: Tensor) -> None:
        generator_main(players, config, z, c, report)

    def g_reg(real_images: Tensor, real_c: Tensor, z: Tensor, c: Tensor) -> None:
        generator_path_length(players, config, z, c, recipe.g_reg_interval, report, None, job.ranks.average)

    def d_main(real_images: Tensor, real_c: Tensor, z: Tensor, c: Tensor) -> None:
        job.ada.observe(discriminator_main(players, config, real_images, real_c, z, c, report))

    def d_reg(real_images: Tensor, real_c: Tensor, z: Tensor, c: Tensor) -> None:
        job.ada.observe(discriminator_r1(players, config, real_images, real_c, recipe.d_reg_interval, report))

    phases: list[tuple[str, nn.Module, torch.optim.Adam, PhaseRun]] = [
        ("Gmain", players.G, job.G_opt, g_main)
    ]
    if recipe.pl_weight > 0 and job.iteration % recipe.g_reg_interval == 0:
        phases.append(("Greg", players.G, job.G_opt, g_reg))
    phases.append(("Dmain", players.D, job.D_opt, d_main))
    if recipe.r1_gamma > 0 and job.iteration % recipe.d_reg_interval == 0:
        phases.append(("Dreg", players.D, job.D_opt, d_reg))
    return phases


def _rounds(share: int, batch_gpu: int) -> list[slice]:
    return [slice(start, start + batch_gpu) for start in range(0, share, batch_gpu)]


def step(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Update a network from its gradients and forget them.

    A parameter that the phase did not touch gets a zero gradient rather than none: Adam's moments decay for
    it, as they do in the official training. Gradients that are not finite are replaced.
    """
    parameters = list(network.parameters())
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    # One test for all on a CPU; on a GPU a test would wait for the device, so there the cleaning always runs.
    if gradients[0].is_cuda or not torch.stack(torch._foreach_norm(gradients)).isfinite().all():
        for gradient in gradients:
            torch.nan_to_num(gradient, nan=0.0, posinf=GRADIENT_LIMIT, neginf=-GRADIENT_LIMIT, out=gradient)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
