"""What a study's jobs cost on this machine, from a few steps of a classifier and of a generator."""

import statistics
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from extract.progress import Progress, no_progress
from semisup.arms import ARMS
from semisup.plan import Plan, open_data

MODEL_OVERHEAD = 20_000  # bytes of a model folder beside its weights
LOOK_EVERY = 6  # steps between two looks of the probe, so that some fall into it
UNHURRIED = 2  # first steps that do not count: allocations, first calls
FIXMATCH_STEPS = 4  # at least, of those that count: each is some ten times as long as another's


@dataclass(frozen=True)
class ClassifierCost:
    """Of one training of the study."""

    setup_seconds: float  # data, network, normalisation
    step_seconds: float
    look_seconds: float  # at the validation part
    image_seconds: float  # to score one image
    model_bytes: int
    num_steps: int  # that were measured
    fixmatch_step_seconds: float | None = None  # whose batches hold views of unlabeled images, too


@dataclass(frozen=True)
class GeneratorCost:
    """Of one generator of the study, as far as it was measured."""

    kimg: float
    sec_per_kimg: float | None
    image_seconds: float | None  # to draw one image
    folder_bytes: int


class _Enough(Exception):
    """Ends the trial training."""


def probe_classifier(plan: Plan, probe_sec: float, progress: Progress = no_progress) -> ClassifierCost:
    """Train a scratch classifier at the study's settings for about `probe_sec`, at least two looks long.

    It trains on the labeled images of the first fold at the primary comparison's fraction. Where the study
    has FixMatch, a second one is trained as long with it: its steps cost several times as much, by how much
    depends on the network and the machine.
    """
    from classifier.data import real_part
    from classifier.fixmatch import Unlabeled
    from classifier.threads import torch_threads
    from classifier.training import train_classifier
    from extract.cache import open_images

    config, fold, fraction = plan.config, plan.folds[0], plan.config.primary.fraction
    settings = config.classifier_config(config.seeds[0])
    settings = replace(settings, validate_every=LOOK_EVERY, steps=max(settings.steps, 4 * LOOK_EVERY))

    def watch(moments: list[float], at_least: int, what: str) -> Progress:
        started = time.perf_counter()

        def note(done: int, total: int, message: str) -> None:
            moments.append(time.perf_counter())
            spent = moments[-1] - started
            progress(min(int(spent), int(probe_sec)), int(probe_sec), f"measuring {what}")
            if spent > probe_sec and len(moments) > at_least:
                raise _Enough("measured")

        return note

    moments: list[float] = []
    of_fixmatch: list[float] = []
    with open_data(plan.basis(Path())) as (archive, split), torch_threads(config.threads):
        images = open_images(archive, progress)
        started = time.perf_counter()
        train = real_part(archive, images, split, fold, "train", fraction)
        val = real_part(archive, images, split, fold, "val", fraction)
        with suppress(_Enough):
            note = watch(moments, 2 * LOOK_EVERY, "the classifier")
            train_classifier(train, val, plan.classes, settings, progress=note)
        if any(ARMS[run.arm].method == "fixmatch" for run in plan.runs):
            pool = real_part(archive, images, split, fold, "unlabeled", min(config.fractions))
            unlabeled = Unlabeled(pool.images, pool.subjects, config.fixmatch_config)
            with suppress(_Enough):
                note = watch(of_fixmatch, UNHURRIED + FIXMATCH_STEPS, "FixMatch")
                train_classifier(
                    train, val, plan.classes, replace(settings, validate_every=settings.steps),
                    progress=note, unlabeled=unlabeled,
                )  # fmt: skip
    gaps = [after - before for before, after in pairwise(moments)]
    # The gap after each LOOK_EVERY-th step holds a look as well.
    with_look = [gap for number, gap in enumerate(gaps, start=1) if number % LOOK_EVERY == 0]
    plain = [gap for number, gap in enumerate(gaps, start=1) if number % LOOK_EVERY and number > UNHURRIED]
    step = statistics.median(plain)
    look = max(statistics.median(with_look) - step, 0.0)
    setup = max(moments[0] - started - step, 0.0)
    fixmatch_gaps = [after - before for before, after in pairwise(of_fixmatch)][UNHURRIED:]
    return ClassifierCost(
        setup, step, look, look / max(len(val), 1), classifier_bytes(plan), len(moments),
        statistics.median(fixmatch_gaps) if fixmatch_gaps else None,
    )  # fmt: skip


def classifier_bytes(plan: Plan) -> int:
    """What one saved model takes."""
    from classifier.models import network_bytes

    settings = plan.config.classifier_config(0)
    with open_data(plan.basis(Path())) as (archive, _):
        channels, *size = settings.preprocessing.output_shape(archive.image_shape)
    classes = len(plan.classes)
    weights = network_bytes(settings.arch, classes, channels, (size[0], size[1]), settings.head)
    return weights + MODEL_OVERHEAD


def probe_generator(plan: Plan, probe_sec: float, progress: Progress = no_progress) -> GeneratorCost:
    """Train a scratch generator of the first fold for about `probe_sec`; 0 measures sizes alone."""
    from classifier.threads import torch_threads
    from gan.planning import measure_training

    config = plan.config
    settings = config.gan_config(plan.folds[0], config.gan.seed, Path("nowhere"))
    with torch_threads(config.threads_of_gan):
        extent, cost, image_seconds = measure_training(settings, probe_sec, progress)
    stored = extent.snapshots * (extent.snapshot_bytes + extent.grid_bytes) + 2 * extent.state_bytes
    if cost is None:
        return GeneratorCost(extent.kimg_left, None, None, stored)
    return GeneratorCost(extent.kimg_left, cost.sec_per_kimg, image_seconds, stored)
