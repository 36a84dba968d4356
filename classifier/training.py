"""Train one classifier for an exact number of optimiser steps, to the same bits each time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import pandas as pd
import torch
from fastai.callback.core import Callback, TrainEvalCallback
from fastai.callback.schedule import ParamScheduler, combined_cos
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from fastai.optimizer import OptimWrapper
from torch import Tensor, nn

from classifier.batches import TrainingBatches, ValidationBatches
from classifier.calibration import fit_temperature, scale_logits
from classifier.config import ClassifierConfig
from classifier.data import LabeledImages
from classifier.errors import ClassifierError
from classifier.evaluate import classification_metrics
from classifier.losses import SoftCrossEntropyFlat
from classifier.models import build_model, check_arch, choose_device
from classifier.preprocess import Preprocessing, fit_preprocessing
from classifier.run import Classifier, Provenance
from classifier.threads import torch_threads
from extract.progress import Progress, no_progress
from extract.seeds import derive_seed


def train_classifier(
    train: LabeledImages,
    val: LabeledImages,
    classes: Sequence[str],
    config: ClassifierConfig,
    *,
    provenance: Provenance | None = None,
    progress: Progress = no_progress,
) -> Classifier:
    """Train on `train` for exactly `config.steps` steps; choose checkpoint and temperature on `val`.

    All chance (weights, order, augmentation, dropout) follows from `config.seed`, and torch's global
    generator is left as it was. Images of weight 0 take no part at all, not even in the normalisation.

    Args:
        train: real or synthetic images with hard, soft or pseudo-labels.
        val: real images with expert labels alone, of other subjects than the training images.
        provenance: what to record about the source of the images.

    Raises:
        ClassifierError: if the validation part holds anything else, or a class has no training image.
        SettingsError: if `config.arch` names no network.
    """
    check_arch(config.arch, config.pretrained)
    if train.weights is not None:
        train = train.subset(train.weights > 0)
    targets = train.soft_labels(len(classes))  # (N, C)
    _refuse_missing_classes(targets, classes)
    _refuse_unfit_validation(train, val, classes)
    device = choose_device(config.device)
    preprocessing = fit_preprocessing(train.images, config.preprocessing)
    with _reproducible(config, device):
        model = build_model(
            config.arch,
            len(classes),
            preprocessing.input_channels,
            preprocessing.input_size,
            pretrained=config.pretrained,
            seed=derive_seed(config.seed, "model"),
        )
        model.to(device)
        history = _fit(model, train, targets, val, preprocessing, config, device, progress)
    classifier = Classifier(
        model,
        classes,
        config,
        preprocessing,
        history=history,
        train_subjects=_named(train.subjects),
        val_subjects=_named(val.subjects),
        provenance=provenance,
    )
    if config.calibrate:
        classifier.temperature = fit_temperature(classifier.predict_logits(val.images), val.labels)
    return classifier


class StepBudget(Callback):
    """Counts steps over all stretches, for the schedule and for whoever watches."""

    order = -5  # after fastai's own counter, before its schedule

    def __init__(self, num_steps: int, report: Progress) -> None:
        self.num_steps, self.report, self.step = num_steps, report, 0
        self.loss_sum = torch.zeros(())
        self.message = ""

    def before_batch(self) -> None:
        self.learn.pct_train = self.step / self.num_steps

    def after_batch(self) -> None:
        if self.training:
            self.step += 1
            self.loss_sum = self.loss_sum + self.loss.detach().cpu()
            self.report(self.step, self.num_steps, self.message)


class RealValidation(Callback):
    """Looks at the real validation part after each stretch, keeps the history and the best weights."""

    order = 70

    def __init__(self, labels: np.ndarray, num_classes: int, budget: StepBudget, keep: str) -> None:
        self.labels, self.num_classes, self.budget, self.keep = labels, num_classes, budget, keep
        self.rows: list[dict[str, float]] = []
        self.best: tuple[float, float] | None = None
        self.best_state: dict[str, Tensor] = {}
        self.logits: list[Tensor] = []
        self.started, self.seen_steps = time.monotonic(), 0

    def before_validate(self) -> None:
        self.logits = []

    def after_pred(self) -> None:
        if not self.training:
            self.logits.append(self.pred.detach().float().cpu())

    def after_validate(self) -> None:
        logits = torch.cat(self.logits).numpy()
        if not np.isfinite(logits).all():
            raise ClassifierError(
                f"the training diverged before step {self.budget.step} (the network's output is not finite): "
                "use a smaller --lr"
            )
        measured = classification_metrics(scale_logits(logits, 1.0), self.labels, self.num_classes)
        train_loss = float(self.budget.loss_sum) / (self.budget.step - self.seen_steps)
        self.budget.loss_sum, self.seen_steps = torch.zeros(()), self.budget.step
        self.rows.append({
            "step": self.budget.step,
            "train_loss": train_loss,
            "val_nll": measured["nll"],
            "val_accuracy": measured["accuracy"],
            "val_balanced_accuracy": measured["balanced_accuracy"],
            "seconds": round(time.monotonic() - self.started, 3),
        })  # fmt: skip
        self.budget.message = f"balanced accuracy {measured['balanced_accuracy']:.3f}"
        standing = (measured["balanced_accuracy"], -measured["nll"])
        if self.keep == "best" and (self.best is None or standing > self.best):
            self.best = standing
            self.best_state = {name: value.clone() for name, value in self.learn.model.state_dict().items()}

    def after_fit(self) -> None:
        if self.best_state:
            self.learn.model.load_state_dict(self.best_state)


def _fit(
    model: nn.Module,
    train: LabeledImages,
    targets: np.ndarray,
    val: LabeledImages,
    preprocessing: Preprocessing,
    config: ClassifierConfig,
    device: torch.device,
    progress: Progress,
) -> pd.DataFrame:
    loaders = DataLoaders(
        TrainingBatches(train, targets, preprocessing, config, device),
        ValidationBatches(val, targets.shape[1], preprocessing, device),
        device=device,
    )
    budget = StepBudget(config.steps, progress)
    validation = RealValidation(val.labels, targets.shape[1], budget, config.keep)
    lr = config.peak_lr
    # One cycle (Smith 2018, arXiv:1803.09820): the rate rises and falls, the momentum mirrors it.
    schedule = ParamScheduler({
        "lr": combined_cos(config.warmup, lr / 25, lr, lr / 1e4),
        "mom": combined_cos(config.warmup, 0.95, 0.85, 0.95),
    })  # fmt: skip
    learner = Learner(
        loaders,
        model,
        loss_func=SoftCrossEntropyFlat(config.label_smoothing),
        opt_func=partial(OptimWrapper, opt=torch.optim.AdamW, fused=True),
        lr=lr,
        splitter=_decayed_and_spared,
        wd_bn_bias=True,  # the splitter decides instead
        cbs=[TrainEvalCallback(), budget, validation, schedule],
        default_cbs=False,  # fastai's recorder and progress bar have no reader here
    )
    learner.create_opt()
    learner.opt.set_hyper("wd", [config.weight_decay, 0.0])
    num_stretches = -(-config.steps // config.validate_every)
    learner.fit(num_stretches)
    return pd.DataFrame(validation.rows)


def _decayed_and_spared(model: nn.Module) -> list[list[nn.Parameter]]:
    """Split parameters into those that decay (matrices, kernels) and those that do not (biases, norms)."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return [[p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]]


def _refuse_missing_classes(targets: np.ndarray, classes: Sequence[str]) -> None:
    present = set(targets.argmax(axis=1).tolist())
    missing = [name for number, name in enumerate(classes) if number not in present]
    if missing:
        raise ClassifierError(
            f"no training image of class {', '.join(missing)}: every class must occur in training; "
            "use a larger labeled fraction or another split"
        )


def _refuse_unfit_validation(train: LabeledImages, val: LabeledImages, classes: Sequence[str]) -> None:
    if len(val) == 0:
        raise ClassifierError("the validation part has no image: make a split with a larger --val-share")
    num_synthetic, num_pseudo = int((val.origin != "real").sum()), int(val.is_pseudo.sum())
    if num_synthetic or num_pseudo or val.has_soft_labels:
        raise ClassifierError(
            "validation accepts only real images with expert labels, got "
            f"{num_synthetic} synthetic and {num_pseudo} pseudo-labeled images"
            f"{' and soft labels' if val.has_soft_labels else ''}: leave them to the training part"
        )
    val.soft_labels(len(classes))  # refuses unlabeled images and unknown classes
    if val.images.image_shape != train.images.image_shape:
        raise ClassifierError(
            f"validation images have shape {val.images.image_shape}, training images "
            f"{train.images.image_shape}: both must come from archives of one size"
        )
    shared = sorted(set(_named(train.subjects)) & set(_named(val.subjects)))
    if shared:
        raise ClassifierError(
            f"{len(shared)} subjects are in training and in validation ({', '.join(shared[:8])}): "
            "split by subject"
        )


def _named(subjects: np.ndarray) -> list[str]:
    return sorted(set(map(str, subjects)) - {""})


@contextmanager
def _reproducible(config: ClassifierConfig, device: torch.device) -> Iterator[None]:
    """Seed torch's global generator (dropout draws from it) and set the threads; put both back afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch_threads(config.threads):
        torch.manual_seed(derive_seed(config.seed, "training"))
        yield
