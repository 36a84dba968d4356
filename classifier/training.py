"""Train one classifier for an exact number of optimiser steps, to the same bits each time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from fastai.callback.core import Callback, TrainEvalCallback
from fastai.data.core import DataLoaders
from fastai.learner import Learner
from torch import nn

from classifier.averaging import WeightAverage
from classifier.batches import TrainingBatches, ValidationBatches
from classifier.calibration import fit_temperature
from classifier.config import ClassifierConfig
from classifier.data import LabeledImages
from classifier.encoder_file import seen_by_weights
from classifier.errors import ClassifierError
from classifier.fixmatch import FixMatchBatches, FixMatchLoss, Unlabeled
from classifier.looks import Looks, OnLook, StepBudget, no_reaction
from classifier.losses import ClassificationLoss, make_loss
from classifier.models import build_model, check_arch, choose_device
from classifier.negative import NegativeLoss
from classifier.optimising import make_optimizer, make_rates
from classifier.phases import look_lengths, plan_phases, rate_groups, resting_norms
from classifier.precision import Autocast
from classifier.preprocess import Preprocessing, fit_preprocessing
from classifier.pseudo_mix import MixedBatches, PseudoMix, RampedLoss
from classifier.resuming import KeptState, Resuming
from classifier.run import Classifier, Provenance
from classifier.threads import torch_threads
from classifier.usual import measure_usual
from extract.progress import Progress, no_progress
from extract.seeds import derive_seed
from extract.sides import refuse_mirroring


def train_classifier(
    train: LabeledImages,
    val: LabeledImages,
    classes: Sequence[str],
    config: ClassifierConfig,
    *,
    provenance: Provenance | None = None,
    progress: Progress = no_progress,
    on_look: OnLook = no_reaction,
    kept: KeptState | None = None,
    unlabeled: Unlabeled | None = None,
    mix: PseudoMix | None = None,
    start: Classifier | None = None,
    deliberate_leak: bool = False,
) -> Classifier:
    """Train on `train` for `config.steps` steps; choose checkpoint and temperature on `val`.

    The steps are exact unless `config.patience` ends a phase early.

    All chance (weights, order, augmentation, dropout) follows from `config.seed`, and torch's global
    generator is left as it was. Images of weight 0 take no part at all, not even in the normalisation.

    Args:
        train: real or synthetic images with hard, soft or pseudo-labels.
        val: real images with expert labels alone, of other subjects than the training images.
        provenance: what to record about the source of the images.
        on_look: told of each look at the validation part; what it raises ends the training.
        kept: where the state is written now and then, and gone on from where a killed process has left one;
            it is for the caller to remove it when the result is safe.
        unlabeled: real images of other subjects than those of the validation part, to train as FixMatch does;
            averaged weights are then kept, with FixMatch's decay where the settings name none.
        mix: how pseudo-labeled images enter the batches; not with `unlabeled`.
        start: a classifier of the same network whose weights the training begins with; the optimiser and its
            rates begin anew.
        deliberate_leak: accept pseudo-labeled images in `val`, to show what that fault would have claimed.

    Raises:
        ClassifierError: if the validation part holds anything else, or a class has no training image.
        SettingsError: if `config.arch` names no network, or mirroring is asked for where classes name a side.
    """
    check_arch(config.arch, config.pretrained)
    if config.mirror:
        refuse_mirroring("--mirror", classes)
    if train.weights is not None:
        train = train.subset(train.weights > 0)
    targets = train.soft_labels(len(classes))  # (N, C)
    _refuse_missing_classes(targets[~train.is_negative], classes)
    if train.excluded is not None:
        targets = np.concatenate([targets, train.excluded.astype(np.float32)], axis=1)  # (N, 2 C)
    _refuse_unfit_validation(train, val, classes, deliberate_leak)
    if unlabeled is not None:
        _refuse_unfit_unlabeled(unlabeled, train, val)
        config = replace(config, ema=config.ema or unlabeled.config.ema)
    device = choose_device(config.device)
    preprocessing = fit_preprocessing(train.images, config.preprocessing)
    with reproducible(config, device):
        model = make_network(config, len(classes), preprocessing).to(device)
        if start is not None:
            _start_from(model, start, val)
        history = _fit(
            model, train, targets, val, preprocessing, config, device, progress, on_look, kept, unlabeled, mix
        )
    taught, chose = seen_by_weights(config.weights)
    classifier = Classifier(
        model,
        classes,
        config,
        preprocessing,
        history=history,
        train_subjects=sorted(
            {
                *_named(train.subjects),
                *_seen_without_label(unlabeled),
                *taught,
                *(start.train_subjects if start else ()),
            }
        ),
        val_subjects=sorted({*_named(val.subjects), *chose, *(start.val_subjects if start else ())}),
        provenance=provenance,
        usual=measure_usual(train.images),
    )
    if config.calibrate:
        classifier.temperature = fit_temperature(classifier.predict_logits(val.images), val.labels)
    return classifier


def make_network(config: ClassifierConfig, num_classes: int, preprocessing: Preprocessing) -> nn.Module:
    """The network of a training, with its initial weights."""
    return build_model(
        config.arch,
        num_classes,
        preprocessing.input_channels,
        preprocessing.input_size,
        pretrained=config.pretrained,
        weights=config.weights,
        head=config.head,
        dropout=config.dropout,
        seed=derive_seed(config.seed, "model"),
    )


def _fit(
    model: nn.Module,
    train: LabeledImages,
    targets: np.ndarray,
    val: LabeledImages,
    preprocessing: Preprocessing,
    config: ClassifierConfig,
    device: torch.device,
    progress: Progress,
    on_look: OnLook,
    kept: KeptState | None,
    unlabeled: Unlabeled | None,
    mix: PseudoMix | None,
) -> pd.DataFrame:
    num_classes = targets.shape[1] if train.excluded is None else train.excluded.shape[1]
    batches, loss = _make_batches(train, targets, preprocessing, config, device, unlabeled, mix)
    loaders = DataLoaders(batches, ValidationBatches(val, num_classes, preprocessing, device), device=device)
    budget = StepBudget(config.steps, progress)
    looks = Looks(val.labels, num_classes, budget, config, on_look)
    average = WeightAverage(config.ema) if config.ema is not None else None
    resuming = Resuming(kept, batches, budget, looks, average) if kept is not None else None
    start = 0
    for number, phase in enumerate(plan_phases(config)):
        if resuming and number < resuming.first_phase:
            start += phase.num_steps
            continue
        stretches = look_lengths(phase, config.validate_every)
        budget.begin_phase(start, phase.num_steps)
        start += phase.num_steps
        groups = rate_groups(model, phase, config.stage_lr_ratio)
        rates = make_rates(config, groups)
        looks.begin_phase(rates)
        learner = Learner(
            loaders,
            model,
            loss_func=loss,
            opt_func=make_optimizer(config),
            lr=phase.lr,
            splitter=lambda _, groups=groups: [group.parameters for group in groups],
            wd_bn_bias=True,  # the groups decide instead
            cbs=[
                TrainEvalCallback(),
                RestingNorms(resting_norms(model, phase, config.freeze_norm)),
                *([Autocast(config.precision)] if config.precision != "fp32" else []),
                budget,
                rates,
                looks,
                *([average] if average else []),
                *([resuming] if resuming else []),
            ],
            default_cbs=False,  # fastai's recorder and progress bar have no reader here
        )
        learner.create_opt()
        learner.opt.set_hyper("wd", [config.weight_decay * group.decays for group in groups])
        if resuming:
            resuming.begin_phase(number)
            stretches = stretches[resuming.restore(model, learner.opt.opt, rates) :]
        batches.begin_phase(stretches)
        learner.fit(len(stretches))
        if looks.failure is not None:
            raise looks.failure
    if config.keep == "best":
        model.load_state_dict(looks.best_state)
    elif average is not None:
        model.load_state_dict(average.average)
    return pd.DataFrame(looks.rows)


def _make_batches(
    train: LabeledImages,
    targets: np.ndarray,
    preprocessing: Preprocessing,
    config: ClassifierConfig,
    device: torch.device,
    unlabeled: Unlabeled | None,
    mix: PseudoMix | None,
) -> tuple[TrainingBatches, nn.Module | ClassificationLoss]:
    """What a training draws, and the loss that understands it."""
    supervised = make_loss(config)
    if unlabeled is not None:
        batches = FixMatchBatches(train, targets, preprocessing, config, device, unlabeled)
        return batches, FixMatchLoss(supervised, config.loss, unlabeled)
    loss = supervised if train.excluded is None else NegativeLoss(supervised, config.loss)
    if mix is None:
        return TrainingBatches(train, targets, preprocessing, config, device), loss
    mixed = MixedBatches(train, targets, preprocessing, config, device, mix)
    return mixed, loss if mix.ramp is None else RampedLoss(loss, mixed)


def _start_from(model: nn.Module, start: Classifier, val: LabeledImages) -> None:
    shared = sorted(set(start.train_subjects) & set(_named(val.subjects)))
    if shared:
        raise ClassifierError(
            f"the classifier to start from was trained on {len(shared)} subjects of the validation part "
            f"({', '.join(shared[:8])}): split by subject"
        )
    try:
        model.load_state_dict(start.model.state_dict())
    except RuntimeError as error:
        raise ClassifierError(
            f"expected a classifier with the network of this training to start from, got {start.config.arch} "
            f"of {len(start.classes)} classes, whose weights do not fit; start from one trained alike"
        ) from error


class RestingNorms(Callback):
    """Keeps BatchNorm modules in inference mode while the rest of the network trains."""

    order = -9  # after fastai has put the whole network into training mode

    def __init__(self, norms: Sequence[nn.Module]) -> None:
        self.norms = norms

    def before_train(self) -> None:
        for norm in self.norms:
            norm.eval()


def _refuse_missing_classes(targets: np.ndarray, classes: Sequence[str]) -> None:
    present = set(targets.argmax(axis=1).tolist())
    missing = [name for number, name in enumerate(classes) if number not in present]
    if missing:
        raise ClassifierError(
            f"no training image of class {', '.join(missing)}: every class must occur in training; "
            "use a larger labeled fraction or another split"
        )


def _refuse_unfit_validation(
    train: LabeledImages, val: LabeledImages, classes: Sequence[str], deliberate_leak: bool
) -> None:
    if len(val) == 0:
        raise ClassifierError("the validation part has no image: make a split with a larger --val-share")
    num_synthetic, num_pseudo = int((val.origin != "real").sum()), int(val.is_pseudo.sum())
    if (num_synthetic or num_pseudo or val.has_soft_labels) and not deliberate_leak:
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
    # Pseudo-labeled images got here by a deliberate leak alone, and may show subjects that are trained on.
    shared = sorted(set(_named(train.subjects)) & set(_named(val.subjects[~val.is_pseudo])))
    if shared:
        raise ClassifierError(
            f"{len(shared)} subjects are in training and in validation ({', '.join(shared[:8])}): "
            "split by subject"
        )


def _refuse_unfit_unlabeled(unlabeled: Unlabeled, train: LabeledImages, val: LabeledImages) -> None:
    if len(unlabeled.images) == 0:
        raise ClassifierError("FixMatch needs unlabeled images, got none: leave labels of a part out")
    if unlabeled.images.image_shape != train.images.image_shape:
        raise ClassifierError(
            f"unlabeled images have shape {unlabeled.images.image_shape}, training images "
            f"{train.images.image_shape}: both must come from archives of one size"
        )
    shared = sorted(set(_named(unlabeled.subjects)) & set(_named(val.subjects)))
    if shared:
        raise ClassifierError(
            f"{len(shared)} subjects are among the unlabeled images and in validation "
            f"({', '.join(shared[:8])}): split by subject"
        )


def _seen_without_label(unlabeled: Unlabeled | None) -> list[str]:
    return [] if unlabeled is None else _named(unlabeled.subjects)


def _named(subjects: np.ndarray) -> list[str]:
    return sorted(set(map(str, subjects)) - {""})


@contextmanager
def reproducible(config: ClassifierConfig, device: torch.device) -> Iterator[None]:
    """Seed torch's global generator (dropout draws from it) and set the threads; put both back afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch_threads(config.threads):
        torch.manual_seed(derive_seed(config.seed, "training"))
        yield
