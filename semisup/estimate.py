"""What a planned study takes (steps, time, disk, summed over its jobs), and the effect that it can show."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from extract.progress import Progress, no_progress
from semisup.arms import ARMS
from semisup.execute import default_jobs
from semisup.forecast import Task, longest_chain, wall_seconds
from semisup.plan import Job, Plan, RunJob, open_data
from semisup.probing import (
    ClassifierCost,
    GeneratorCost,
    classifier_bytes,
    probe_classifier,
    probe_generator,
)
from semisup.statistics.power import Expectation, detectable_difference
from semisup.workers import threads_of

LEDGER_ROW_BYTES, LEDGER_CLASS_BYTES = 140, 16  # of an image and round: hashes do not compress; two float64
AGREEMENTS = (0.8, 0.5, 0.2)  # correlation of two arms' hits: much, middling, little in common
PREDICTION_BYTES, PREDICTION_CLASS_BYTES = 12, 8  # of a test image: names compress well


@dataclass(frozen=True)
class Sizes:
    """Of the data that the study's jobs meet, on average over its folds."""

    image_bytes: float  # of one image in the archive
    unlabeled: Mapping[float, float]  # training images without a label, by fraction
    val: Mapping[float, float]  # validation images, by fraction
    test: float
    test_subjects: int  # over all folds
    test_images: int


@dataclass(frozen=True)
class Detectable:
    """What a study's size can show."""

    num_subjects: int  # who are tested, over all folds
    images_per_subject: float
    num_seeds: int
    agreements: tuple[float, ...]  # guesses of how alike two arms judge
    differences: tuple[float, ...]  # for each, in accuracy (0.03 = three points); infinite: too few subjects


@dataclass(frozen=True)
class Estimate:
    """What `semisup plan` foresees; seconds are None without a probe."""

    steps: int  # optimiser steps of all classifier trainings, at most
    num_processes: int
    seconds_by_kind: dict[str, float] | None  # "gan", "pool", "run": one process after the other
    wall_seconds: float | None  # in `num_processes` processes
    chain_seconds: float | None  # of the longest chain of jobs that wait for one another
    chain: tuple[str, ...]  # its titles
    bytes_by_kind: dict[str, float]  # of generators, pools and runs, in the study folder
    detectable: Detectable
    fixmatch_ratio: float | None = None  # of the time of its steps to that of the others; None = not measured


def estimate_study(
    plan: Plan, probe_sec: float, num_processes: int | None = None, progress: Progress = no_progress
) -> Estimate:
    """Foresee a study's cost, from a short trial on this machine as busy as it is now.

    Args:
        probe_sec: seconds of trial training, of a classifier and of a generator each; 0 = none.
        num_processes: at once; None = as many as `semisup run` takes.

    Raises:
        SettingsError, ClassifierError, GanError: for what the training itself would refuse.
    """
    processes = num_processes or default_jobs(plan.config.threads)
    sizes = measure_sizes(plan)
    gans = [job for job in plan.jobs if job.kind == "gan"]
    generator = probe_generator(plan, probe_sec, progress) if gans else None
    classifier = probe_classifier(plan, probe_sec, progress) if probe_sec > 0 else None
    model_bytes = classifier.model_bytes if classifier else classifier_bytes(plan)
    stored: Counter[str] = Counter()
    for job in plan.jobs:
        stored[job.kind] += round(job_bytes(job, plan, sizes, model_bytes, generator))
    by_kind, wall, chain_sec = None, None, None
    chain: tuple[str, ...] = ()
    if classifier is not None:
        tasks = make_tasks(plan, sizes, classifier, generator)
        by_kind = dict.fromkeys(stored, 0.0)
        for job, task in zip(plan.jobs, tasks, strict=True):
            by_kind[job.kind] += task.seconds
        wall = wall_seconds(tasks, processes * plan.config.threads)
        chain_sec, keys = longest_chain(tasks)
        titles = {job.key: job.title for job in plan.jobs}
        chain = tuple(titles[key] for key in keys)
    return Estimate(
        steps=plan.num_trainings * plan.config.classifier.steps,
        num_processes=processes,
        seconds_by_kind=by_kind,
        wall_seconds=wall,
        chain_seconds=chain_sec,
        chain=chain,
        bytes_by_kind=dict(stored),
        detectable=_detectable(plan, sizes),
        fixmatch_ratio=None
        if classifier is None or classifier.fixmatch_step_seconds is None
        else classifier.fixmatch_step_seconds / classifier.step_seconds,
    )


def _detectable(plan: Plan, sizes: Sizes) -> Detectable:
    num_subjects, num_seeds = max(sizes.test_subjects, 1), len(plan.config.seeds)
    images = max(sizes.test_images / num_subjects, 1.0)
    differences = [
        detectable_difference(
            num_subjects,
            images,
            num_seeds,
            Expectation(agreement=agreement),
            num_folds=len(plan.folds),
            num_classes=len(plan.classes),
        )
        for agreement in AGREEMENTS
    ]
    return Detectable(num_subjects, images, num_seeds, AGREEMENTS, tuple(differences))


def measure_sizes(plan: Plan) -> Sizes:
    """Count images and subjects by part."""
    config = plan.config
    with open_data(plan.basis(config.data.parent)) as (archive, split):
        folds = plan.folds

        def mean(part: str, fraction: float = 1.0) -> float:
            return sum(len(split.rows(archive, fold, part, fraction)) for fold in folds) / len(folds)

        fractions = {run.fraction for run in plan.runs} | {config.primary.fraction}
        tested = {subject for fold in folds for subject in split.subjects(fold, "test")}
        return Sizes(
            image_bytes=config.data.stat().st_size / max(len(archive), 1),
            unlabeled={fraction: mean("unlabeled", fraction) for fraction in fractions},
            val={fraction: mean("val", fraction) for fraction in fractions},
            test=mean("test"),
            test_subjects=len(tested),
            test_images=sum(len(split.rows(archive, fold, "test")) for fold in folds),
        )


def make_tasks(
    plan: Plan, sizes: Sizes, classifier: ClassifierCost, generator: GeneratorCost | None
) -> list[Task]:
    """The plan's jobs with the seconds that each takes alone in a process."""
    basis = plan.basis(plan.config.data.parent)
    return [
        Task(job.key, job.needs, job_seconds(job, plan, sizes, classifier, generator), threads_of(job, basis))
        for job in plan.jobs
    ]


def job_seconds(
    job: Job, plan: Plan, sizes: Sizes, classifier: ClassifierCost, generator: GeneratorCost | None
) -> float:
    """A job's share of the time; images of a generator that was there before are not measured: free."""
    config = plan.config
    if not isinstance(job, RunJob):
        if generator is None:
            return 0.0
        if job.kind == "gan":
            return generator.kimg * (generator.sec_per_kimg or 0.0)
        return config.pool.num_images * (generator.image_seconds or 0.0)
    settings = config.classifier_config(0)
    looks = -(-settings.steps // settings.validate_every)
    val = sizes.val[job.fraction]  # the trial looked at that of the primary comparison
    look_seconds = classifier.look_seconds * val / max(sizes.val[config.primary.fraction], 1)
    step_seconds = classifier.step_seconds
    if ARMS[job.arm].method == "fixmatch":
        step_seconds = classifier.fixmatch_step_seconds or step_seconds
    training = classifier.setup_seconds + settings.steps * step_seconds + looks * look_seconds
    trainings = plan.trainings_of(job)
    pool, rounds = pool_size(job, plan, sizes), rounds_of(job, plan)
    scored = sizes.test + val * (trainings + 1) + rounds * pool
    scored += rounds * further_predictions(job, plan) * (pool + val)
    return trainings * training + scored * classifier.image_seconds


def job_bytes(job: Job, plan: Plan, sizes: Sizes, model_bytes: int, generator: GeneratorCost | None) -> float:
    """What a job leaves in the study folder."""
    if job.kind == "gan":
        return generator.folder_bytes if generator else 0.0
    if not isinstance(job, RunJob):
        return plan.config.pool.num_images * sizes.image_bytes
    classes = len(plan.classes)
    rows = rounds_of(job, plan) * pool_size(job, plan, sizes)
    predictions = sizes.test * (PREDICTION_BYTES + classes * PREDICTION_CLASS_BYTES)
    return model_bytes + predictions + rows * (LEDGER_ROW_BYTES + classes * LEDGER_CLASS_BYTES)


def rounds_of(run: RunJob, plan: Plan) -> int:
    """How often a run scores a pool, at most."""
    if pool_kind(run) == "none":
        return 0
    return plan.config.pseudo.rounds if ARMS[run.arm].method == "rounds" else 1


def further_predictions(run: RunJob, plan: Plan) -> int:
    """Predictions of each scored image beyond the first, where teachers are asked several times."""
    asked = plan.config.pseudo.uncertainty
    return asked.samples - 1 if asked is not None and ARMS[run.arm].method == "rounds" else 0


def pool_kind(run: RunJob) -> str:
    return ARMS[run.arm].pool


def pool_size(run: RunJob, plan: Plan, sizes: Sizes) -> float:
    """Images that a run may pseudo-label."""
    real = sizes.unlabeled.get(run.fraction, 0.0) if pool_kind(run) in ("real", "both") else 0.0
    return real + (plan.config.pool.num_images if run.pool_key else 0)


def chain_text(titles: Sequence[str]) -> str:
    """A chain of jobs on one line."""
    return ", then ".join(titles)
