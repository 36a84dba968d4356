"""Train a segmenter for an exact number of steps, to the same bits each time, killed in between or not.

Nothing is consumed in order: the images of a step, its augmentation, its rate follow from the seed and the
step's number, so that what a killed training needs to go on is its weights, its optimiser and its looks.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from classifier.data import ImageTable, shuffled_indices
from classifier.errors import ClassifierError
from classifier.models import choose_device
from classifier.preprocess import Preprocessing, fit_preprocessing
from classifier.segment_augment import PairAugmentation, augment_pairs
from classifier.segment_config import SegmentConfig
from classifier.segment_measures import overlap
from classifier.segment_state import STATE, SegmentRun, restore_segment_state, write_segment_state
from classifier.segmenter import Segmenter
from classifier.threads import torch_threads
from classifier.unet import build_unet
from extract.json_values import json_value
from extract.progress import Progress, no_progress
from extract.seeds import derive_seed

PREDICT_BATCH = 16
SMOOTH = 1.0  # of the Dice loss: pixels added above and below, so that an almost empty mask has a slope
MAX_GRADIENT = 5.0  # norm; a mask that fills the picture must not throw the weights far


def dice_bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross entropy plus one minus Dice, both means over the images.

    Args:
        logits: (N, 1, H, W).
        targets: (N, 1, H, W) in [0, 1].

    Source: the soft Dice of Milletari et al. 2016, "V-Net", arXiv:1606.04797, Section 3, with sums in place
    of squares in the denominator.
    """
    bce = nn.functional.binary_cross_entropy_with_logits(logits, targets)
    probs = torch.sigmoid(logits)
    both = (probs * targets).sum(dim=(1, 2, 3))
    total = probs.sum(dim=(1, 2, 3)) + targets.sum(dim=(1, 2, 3))
    return bce + (1 - (2 * both + SMOOTH) / (total + SMOOTH)).mean()


def one_cycle(step: int, config: SegmentConfig) -> tuple[float, float]:
    """Rate and momentum of a step: up along a cosine to the peak, down to nothing; the momentum mirrors it.

    Source: Smith 2018, arXiv:1803.09820.
    """
    share, peak = step / config.steps, config.lr
    if share < config.warmup:
        way = (1 - math.cos(math.pi * share / config.warmup)) / 2
        return peak / 25 + (peak - peak / 25) * way, 0.95 - 0.10 * way
    way = (1 - math.cos(math.pi * (share - config.warmup) / (1 - config.warmup))) / 2
    return peak + (peak / 1e4 - peak) * way, 0.85 + 0.10 * way


def train_segmenter(
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    config: SegmentConfig,
    *,
    state_dir: Path | None = None,
    replace_state: bool = False,
    data_sha256: str = "",
    progress: Progress = no_progress,
) -> tuple[Segmenter, list[dict[str, float]]]:
    """Train on `train` for exactly `config.steps` steps; keep the look with the best Dice on `val`.

    Args:
        train, val: images and masks, each (N, 1, size, size) uint8; masks from 0 to 255.
        state_dir: folder where the state is kept at every look, and from which a killed training with the
            same settings and data goes on; None = keep nothing.
        replace_state: begin anew where the state that is there is damaged, or of other settings or data.
        data_sha256: what the state is to know the data by; empty = a hash of the arrays.

    Returns:
        The segmenter and one row a look: step, train_loss, val_loss, val_dice, val_iou, lr, seconds.

    Raises:
        ClassifierError: if the arrays are not as described, the training diverges, or the state that is there
            belongs to other settings or data.
    """
    for part in (train, val):
        _check(part, config.size)
    device = choose_device(config.device)
    preprocessing = fit_preprocessing(ImageTable(train[0]), config.preprocessing)
    made_with = _made_with(config, data_sha256 or _hash_arrays(train, val))
    with torch_threads(config.threads):
        run = _start(config, device)
        state_path = None if state_dir is None else Path(state_dir) / STATE
        if state_path is not None and state_path.exists():
            try:
                restore_segment_state(state_path, run, made_with)
                progress(run.step, config.steps, f"going on after step {run.step}")
            except ClassifierError:
                if not replace_state:
                    raise
                run = _start(config, device)
        _fit(run, train, val, preprocessing, config, device, state_path, made_with, progress)
        run.model.load_state_dict(run.best)
    return Segmenter(run.model, config, preprocessing), run.rows


def _start(config: SegmentConfig, device: torch.device) -> SegmentRun:
    model = build_unet(1, config.width, config.depth, config.norm, derive_seed(config.seed, "segment model"))
    model.to(device)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    spared = [p for p in model.parameters() if p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": spared, "weight_decay": 0.0},
    ]
    return SegmentRun(model, torch.optim.AdamW(groups, lr=config.lr))


def _fit(
    run: SegmentRun,
    train: tuple[np.ndarray, np.ndarray],
    val: tuple[np.ndarray, np.ndarray],
    preprocessing: Preprocessing,
    config: SegmentConfig,
    device: torch.device,
    state_path: Path | None,
    made_with: Mapping[str, Any],
    progress: Progress,
) -> None:
    augmentation = PairAugmentation(mirror=config.mirror) if config.augment else None
    order_seed = derive_seed(config.seed, "segment order")
    order = shuffled_indices(len(train[0]), config.batch_size, config.steps, order_seed)
    started = time.monotonic()
    for step, indices in islice(enumerate(order), run.step, None):
        images = preprocessing.to_batch(train[0][indices], device)
        masks = _targets(train[1][indices], device)
        if augmentation is not None:
            generator = torch.Generator().manual_seed(derive_seed(config.seed, "segment augment", step))
            images, masks = augment_pairs(images, masks, augmentation, generator)
        lr, momentum = one_cycle(step, config)
        run.loss_sum += _learn(run, images, masks, lr, momentum)
        run.step = step + 1
        if run.step % config.validate_every == 0 or run.step == config.steps:
            seconds = run.seconds + time.monotonic() - started
            _look(run, val, preprocessing, config, lr, seconds, device)
            if state_path is not None:
                write_segment_state(state_path, run, seconds, made_with)
        told = f"validation Dice {run.rows[-1]['val_dice']:.3f}" if run.rows else ""
        progress(run.step, config.steps, told)


def _learn(run: SegmentRun, images: Tensor, masks: Tensor, lr: float, momentum: float) -> float:
    """One step; returns its loss."""
    run.model.train()
    for group in run.optimizer.param_groups:
        group["lr"], group["betas"] = lr, (momentum, 0.99)
    run.optimizer.zero_grad(set_to_none=True)
    loss = dice_bce(run.model(images), masks)
    value = float(loss.detach())
    if not math.isfinite(value):
        raise ClassifierError(
            f"the training diverged at step {run.step + 1} (its loss is {value}): use a smaller --lr"
        )
    loss.backward()
    nn.utils.clip_grad_norm_(run.model.parameters(), MAX_GRADIENT)
    run.optimizer.step()
    return value


def _look(
    run: SegmentRun,
    val: tuple[np.ndarray, np.ndarray],
    preprocessing: Preprocessing,
    config: SegmentConfig,
    lr: float,
    seconds: float,
    device: torch.device,
) -> None:
    """Measure the validation part at the network's size, before any cleaning; keep the best weights."""
    run.model.eval()
    losses, overlaps = [], []
    with torch.inference_mode():
        for start in range(0, len(val[0]), PREDICT_BATCH):
            rows = slice(start, start + PREDICT_BATCH)
            logits = run.model(preprocessing.to_batch(val[0][rows], device)).float()
            masks = _targets(val[1][rows], device)
            losses.append(float(dice_bce(logits, masks)) * len(masks))
            found = (torch.sigmoid(logits) >= config.threshold).cpu().numpy()[:, 0]
            truth = (masks >= 0.5).cpu().numpy()[:, 0]
            overlaps += [overlap(a, b) for a, b in zip(found, truth, strict=True)]
    # A lung so small that the network's square has no pixel of it is undefined, and leaves the mean.
    dice, iou = (float(value) for value in np.nanmean(np.array(overlaps), axis=0))
    seen = run.step - (int(run.rows[-1]["step"]) if run.rows else 0)
    run.rows.append({
        "step": run.step,
        "train_loss": run.loss_sum / seen,
        "val_loss": sum(losses) / len(val[0]),
        "val_dice": dice,
        "val_iou": iou,
        "lr": lr,
        "seconds": round(seconds, 3),
    })  # fmt: skip
    run.loss_sum = 0.0
    if dice > run.best_dice:
        run.best_dice, run.best_step = dice, run.step
        run.best = {name: value.detach().clone() for name, value in run.model.state_dict().items()}


def _targets(masks: np.ndarray, device: torch.device) -> Tensor:
    return torch.from_numpy(masks).to(device, torch.float32).div_(255)


def _made_with(config: SegmentConfig, data_sha256: str) -> dict[str, Any]:
    """What a training must share with the one whose state it goes on from."""
    settings = json_value(asdict(config))
    for name in ("device", "threads"):  # where it is computed may change between two stretches
        settings.pop(name)
    return {**settings, "data": data_sha256}


def _hash_arrays(*parts: tuple[np.ndarray, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        for array in part:
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _check(part: tuple[np.ndarray, np.ndarray], size: int) -> None:
    for what, array in zip(("images", "masks"), part, strict=True):
        if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1:] != (1, size, size):
            raise ClassifierError(
                f"expected {what} (N, 1, {size}, {size}) uint8, got {array.dtype} of shape {array.shape}"
            )
    if len(part[0]) == 0 or len(part[0]) != len(part[1]):
        raise ClassifierError(
            f"expected as many masks as images, at least one, got {len(part[0])} images and "
            f"{len(part[1])} masks"
        )
