"""Pretrain an encoder by undoing noise: an exact number of steps, from any of them on to the same bits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from classifier.augment import Augmentation, augment_batch
from classifier.autoencoder import Autoencoder
from classifier.data import ImageTable, shuffled_indices
from classifier.denoising import add_noise, reconstruction_loss
from classifier.errors import ClassifierError
from classifier.preprocess import PreparedImages, Preprocessing
from classifier.pretrain_config import PretrainConfig
from classifier.threads import torch_threads
from extract.progress import Progress, no_progress
from extract.seeds import derive_seed

MEASURE_BATCH = 256
MAX_MEASURED = 1024  # held-out images of a look; drawn once, by the seed


@dataclass
class Pretraining:
    """A pretraining at some step: everything that the next step depends on."""

    model: Autoencoder
    optimizer: torch.optim.AdamW
    step: int = 0
    loss_sum: Tensor = field(default_factory=lambda: torch.zeros(()))  # since the last look
    history: list[dict[str, float]] = field(default_factory=list)  # one row a look
    seconds: float = 0.0  # of all sessions together


def start_pretraining(config: PretrainConfig, channels: int, device: torch.device) -> Pretraining:
    """A new autoencoder, whose weights follow from the seed alone, and its optimiser."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(config.seed, "autoencoder"))
        model = Autoencoder(channels, config.code_width)
    model = model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},  # biases and norms
    ]
    return Pretraining(model, torch.optim.AdamW(groups, lr=config.lr, fused=True))


def pretrain(
    job: Pretraining,
    train: ImageTable,
    held_out: ImageTable,
    preprocessing: Preprocessing,
    config: PretrainConfig,
    device: torch.device,
    *,
    save: Callable[[Pretraining], None] | None = None,
    progress: Progress = no_progress,
) -> None:
    """Bring `job` from its step to `config.steps`.

    Order, augmentation and noise of a step follow from the seed and the step's number, so a job that was
    saved and read back goes on as if it had never stopped.

    Args:
        train: the images to learn from; labels are not asked for.
        held_out: images of other subjects, for the reconstruction error.
        save: called with the job every `config.save_every` steps.

    Raises:
        ClassifierError: if the training diverges.
    """
    with torch_threads(config.threads):
        images = PreparedImages(train, preprocessing)
        measured = _Measured(held_out, preprocessing, config, device)
        order_seed = derive_seed(config.seed, "order")
        order = shuffled_indices(len(train), config.batch_size, config.steps, order_seed)
        job.loss_sum = job.loss_sum.to(device)
        message = ""
        with _clock(job) as tick:
            for indices in islice(order, job.step, None):
                target = _augmented(images.batch(indices, device), config, job.step)
                job.loss_sum = job.loss_sum + _learn(job, target, config)
                job.step += 1
                if job.step % config.validate_every == 0 or job.step == config.steps:
                    tick()
                    message = f"reconstruction error {_look(job, measured, config):.3f}"
                if save is not None and (job.step % config.save_every == 0 or job.step == config.steps):
                    tick()
                    save(job)
                progress(job.step, config.steps, message)


def one_cycle(step: int, config: PretrainConfig) -> tuple[float, float]:
    """Rate and momentum of a step: the rate rises to its peak and falls to nothing along cosines.

    Source: Smith 2018, arXiv:1803.09820.
    """
    place = step / config.steps
    if place < config.warmup:
        share = (1 - np.cos(np.pi * place / config.warmup)) / 2  # 0 to 1
        lr = config.lr * (1 / 25 + share * (1 - 1 / 25))
    else:
        share = (1 + np.cos(np.pi * (place - config.warmup) / (1 - config.warmup))) / 2  # 1 to 0
        lr = config.lr * (1e-4 + share * (1 - 1e-4))
    return float(lr), float(0.95 - 0.1 * share)


def noise_generator(config: PretrainConfig, *purpose: object) -> torch.Generator:
    """The source of the noise for one purpose (a step, a batch of held-out images)."""
    return torch.Generator().manual_seed(derive_seed(config.seed, "noise", *purpose))


def _augmented(batch: Tensor, config: PretrainConfig, step: int) -> Tensor:
    if not config.augment:
        return batch
    generator = torch.Generator().manual_seed(derive_seed(config.seed, "augment", step))
    # Brightness and contrast stay: standardised images have none of their own.
    return augment_batch(batch, Augmentation(max_brightness=0.0, max_contrast=0.0), generator)


def _learn(job: Pretraining, target: Tensor, config: PretrainConfig) -> Tensor:
    lr, momentum = one_cycle(job.step, config)
    for group in job.optimizer.param_groups:
        group["lr"], group["betas"] = lr, (momentum, group["betas"][1])
    job.model.train()
    spoilt = add_noise(target, config.noise, noise_generator(config, job.step))
    loss = reconstruction_loss(job.model(spoilt.images), target, config.loss)
    job.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    job.optimizer.step()
    return loss.detach()


class _Measured:
    """Held-out images, and the same noise at every look."""

    def __init__(
        self, held_out: ImageTable, preprocessing: Preprocessing, config: PretrainConfig, device: torch.device
    ) -> None:
        rng = np.random.default_rng(derive_seed(config.seed, "measured"))
        rows = np.sort(rng.permutation(len(held_out))[:MAX_MEASURED])
        self._images = PreparedImages(held_out.subset(rows), preprocessing)
        self._num_images, self._config, self._device = len(rows), config, device

    def batches(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Targets, spoilt images, and where nothing was left of them."""
        for start in range(0, self._num_images, MEASURE_BATCH):
            rows = np.arange(start, min(start + MEASURE_BATCH, self._num_images))
            target = self._images.batch(rows, self._device)
            spoilt = add_noise(target, self._config.noise, noise_generator(self._config, "held out", start))
            yield target, spoilt.images, spoilt.is_dropped


def _look(job: Pretraining, measured: _Measured, config: PretrainConfig) -> float:
    """Add a row to the history; the held-out mean squared error."""
    steps_before = int(job.history[-1]["step"]) if job.history else 0
    sums = {"loss": 0.0, "mse": 0.0, "dropped": 0.0, "untouched": 0.0}
    num_images = num_dropped = num_pixels = 0
    job.model.eval()
    with torch.inference_mode():
        for target, spoilt, is_dropped in measured.batches():
            output = job.model(spoilt)
            squares = (output - target).square().mean(dim=1, keepdim=True)  # (N, 1, H, W)
            sums["loss"] += float(reconstruction_loss(output, target, config.loss)) * len(target)
            sums["mse"] += float(squares.sum(dtype=torch.float64))
            sums["dropped"] += float(squares[is_dropped].sum(dtype=torch.float64))
            sums["untouched"] += float((spoilt - target).square().mean(dim=1).sum(dtype=torch.float64))
            num_images += len(target)
            num_dropped += int(is_dropped.sum())
            num_pixels += squares.numel()
    error = sums["mse"] / num_pixels
    if not np.isfinite(error):
        raise ClassifierError(
            f"the pretraining diverged before step {job.step} (the reconstruction is not finite): use a "
            "smaller --lr"
        )
    job.history.append({
        "step": job.step,
        "train_loss": float(job.loss_sum) / (job.step - steps_before),
        "val_loss": sums["loss"] / num_images,
        "val_mse": error,
        "val_mse_dropped": sums["dropped"] / num_dropped if num_dropped else float("nan"),
        "noised_mse": sums["untouched"] / num_pixels,
        "seconds": round(job.seconds, 3),
    })  # fmt: skip
    job.loss_sum = torch.zeros((), device=job.loss_sum.device)
    return error


@contextmanager
def _clock(job: Pretraining) -> Iterator[Callable[[], None]]:
    """Yield a function that brings `job.seconds` up to date."""
    last = time.monotonic()

    def tick() -> None:
        nonlocal last
        now = time.monotonic()
        job.seconds, last = job.seconds + now - last, now

    yield tick
    tick()
