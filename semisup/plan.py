"""From a study file to the list of jobs: the generators, pools and classifier runs it needs, in their order.

Every job is named by the hash of the settings that determine its result. What two jobs share (a supervised
model that is round 0 of three arms, a generator that serves all seeds of a fold) is therefore made once.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from classifier.encoder_file import check_weights_for_fold
from extract.archive import Archive, open_archive
from extract.errors import ExtractError, SettingsError
from extract.file_hash import file_sha256
from extract.phantom_origin import read_phantom_origin
from extract.seeds import derive_seed
from extract.sides import refuse_mirroring
from extract.split import Split, read_split
from semisup.arms import ARMS, Arm
from semisup.by_image import split_by_image
from semisup.calibrating import check_held_out, draw_held_out
from semisup.config import StudyConfig
from semisup.errors import StudyError
from semisup.guards import read_fit_snapshot
from semisup.pseudo_config import PseudoConfig
from semisup.rules import check_classes

FORMAT = "synthlabel-study-1"  # part of every hash: raised when the same settings would give other numbers


@dataclass(frozen=True)
class GanJob:
    """A generator to train on the training part of a fold, or on its labeled fraction."""

    key: str
    fold: int
    seed: int
    fraction: float | None = None  # None = all training images
    conditional: bool = False  # with labels; else without
    is_leak: bool = False  # of all images, whoever they are of, and for all folds

    needs: tuple[str, ...] = ()
    kind = "gan"
    folder = "gans"

    @property
    def title(self) -> str:
        if self.is_leak:
            return "generator of all images (deliberate fault)"
        return f"generator of fold {self.fold}{_of_labels(self.fraction, self.conditional)}"


@dataclass(frozen=True)
class PoolJob:
    """Synthetic images to draw from a generator."""

    key: str
    fold: int
    gan_key: str | None  # trained by this study, or
    network: Path | None  # a snapshot that was there before, or neither: fresh phantoms
    first_seed: int
    fraction: float | None = None  # that the generator saw
    conditional: bool = False
    is_leak: bool = False  # the generator saw everybody

    kind = "pool"
    folder = "pools"

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.gan_key,) if self.gan_key else ()

    @property
    def is_oracle(self) -> bool:
        return self.gan_key is None and self.network is None

    @property
    def title(self) -> str:
        if self.is_oracle:
            return f"fresh phantoms for fold {self.fold}"
        if self.is_leak:
            return f"synthetic images for fold {self.fold} of a generator of all images (deliberate fault)"
        return f"synthetic images of fold {self.fold}{_of_labels(self.fraction, self.conditional)}"


def _of_labels(fraction: float | None, conditional: bool) -> str:
    seen = "" if fraction is None else f", {fraction:.0%} of the labels"
    return f"{seen}, by class" if conditional else seen


@dataclass(frozen=True)
class RunJob:
    """One arm at one fold, seed and fraction."""

    key: str
    arm: str
    fold: int
    seed: int
    fraction: float
    classifier_seed: int
    teacher_key: str | None  # the supervised run whose model is round 0
    pool_key: str | None
    settings: dict[str, Any]  # all that the key hashes
    reference_key: str | None = None  # of a control: the run whose rounds it repeats

    kind = "run"
    folder = "runs"

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(key for key in (self.teacher_key, self.pool_key, self.reference_key) if key)

    @property
    def title(self) -> str:
        return f"{self.arm} at {self.fraction:.0%} of the labels, fold {self.fold}, seed {self.seed}"


Job = GanJob | PoolJob | RunJob


@dataclass(frozen=True)
class Basis:
    """What every job of a study needs to know beside itself."""

    config: StudyConfig
    study_dir: Path
    classes: tuple[str, ...]
    archive_sha256: str
    split_sha256: str


@dataclass(frozen=True)
class Plan:
    """A study resolved against its data: nothing in it is left to choose."""

    config: StudyConfig
    classes: tuple[str, ...]
    archive_sha256: str
    split_sha256: str
    folds: tuple[int, ...]
    jobs: tuple[Job, ...]  # each after all that it needs

    def basis(self, study_dir: Path) -> Basis:
        return Basis(self.config, study_dir, self.classes, self.archive_sha256, self.split_sha256)

    @property
    def runs(self) -> tuple[RunJob, ...]:
        return tuple(job for job in self.jobs if isinstance(job, RunJob))

    @property
    def num_trainings(self) -> int:
        """Classifier trainings at most; a run ends earlier where a round selects nothing."""
        return sum(self.trainings_of(run) for run in self.runs)

    def trainings_of(self, run: RunJob) -> int:
        return trainings_of(ARMS[run.arm], self.config.pseudo)


def trainings_of(arm: Arm, pseudo: PseudoConfig) -> int:
    """Classifier trainings of its own in a run of an arm, at most; with those of an ensemble."""
    helpers = pseudo.rounds * pseudo.num_members if arm.method == "rounds" else 0
    return arm.num_trainings(pseudo.rounds) + helpers


def make_plan(config: StudyConfig) -> Plan:
    """Check a study against its archive and split, and list its jobs.

    Raises:
        SettingsError: for a fold, fraction or network that does not exist, before any work.
        ExtractError, GanError: for an archive, split or snapshot that cannot be used.
    """
    from classifier.models import (  # torch takes a second to import; a wrong study file should not
        check_arch,
        choose_device,
    )

    classifier = config.classifier
    with open_archive(config.data) as archive:
        check_classes(config.pseudo, archive.classes)
        for section in ("classifier", *(["gan"] if config.needs_gan else [])):
            if getattr(config, section).mirror:
                refuse_mirroring(f"{section}.mirror", archive.classes)
        split = read_split(config.split, archive)
        folds = _check_against(config, split)
        check_arch(classifier.arch, classifier.pretrained)
        choose_device(classifier.device)
        jobs = _list_jobs(config, archive, split, folds)
        return Plan(config, archive.classes, archive.sha256, split.sha256, folds, jobs)


@contextmanager
def open_data(basis: Basis) -> Iterator[tuple[Archive, Split]]:
    """Open a study's archive and split.

    Raises:
        StudyError: if either is not the file that the study was planned with.
    """
    with open_archive(basis.config.data) as archive:
        split = read_split(basis.config.split, archive)
        for what, now, then in (
            (basis.config.data, archive.sha256, basis.archive_sha256),
            (basis.config.split, split.sha256, basis.split_sha256),
        ):
            if now != then:
                raise StudyError(
                    f"{what}: expected the file that the study was planned with ({then[:12]}...), "
                    f"got another ({now[:12]}...); put the old file back, or start a new "
                    "study in another --outdir"
                )
        yield archive, split


def settings_key(settings: dict[str, Any]) -> str:
    """Name a job by what determines its result: 16 hex digits."""
    text = json.dumps({"format": FORMAT, **settings}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _check_against(config: StudyConfig, split: Split) -> tuple[int, ...]:
    folds = tuple(range(len(split.folds))) if config.folds == "all" else tuple(sorted(config.folds))
    for fold in folds:
        if fold >= len(split.folds):
            raise SettingsError(
                f"folds: {fold} does not exist, {config.split} has folds 0 to {len(split.folds) - 1}"
            )
    for key, fractions in (("fractions", config.fractions), ("curve_fractions", config.curve_fractions)):
        for fraction in fractions:
            if fraction not in split.fractions:
                raise SettingsError(
                    f"{key}: {fraction:g} does not exist, {config.split} has "
                    f"{', '.join(f'{known:g}' for known in split.fractions)}; choose among them, or make a "
                    "split with this fraction"
                )
    return folds


def _list_jobs(
    config: StudyConfig, archive: Archive, split: Split, folds: tuple[int, ...]
) -> tuple[Job, ...]:
    data = {"archive": archive.sha256, "split": split.sha256, "threads": config.threads}
    for fold in folds:  # weights of an own training may have seen who judges there
        check_weights_for_fold(config.classifier.weights, archive, split, fold)
    gans: dict[str, GanJob] = {}
    pools: dict[str, PoolJob] = {}

    def pool_of(arm: Arm, fold: int, fraction: float) -> PoolJob | None:
        arm = ARMS[config.pool_arm(arm.name)]
        if arm.pool == "oracle":
            pool = _oracle_job(config, fold, archive)
            return pools.setdefault(pool.key, pool)
        if not arm.draws_images:
            return None
        gan, pool = _generator_jobs(config, arm, fold, fraction, archive, split)
        if gan:
            gans[gan.key] = gan
        return pools.setdefault(pool.key, pool)

    runs: dict[str, RunJob] = {}
    stages = [ARMS[name] for name in config.arms]
    for arm in sorted(stages, key=lambda arm: (arm.is_leak, arm.starts_from_supervised, arm.is_control)):
        for seed in config.seeds:  # a first seed of everything is done before a second of anything
            for fold in folds:
                for fraction in config.fractions_of(arm.name):
                    if arm.method == "by image":
                        split_by_image(archive, split, fold, fraction)  # refuses where nothing can leak
                    pool = pool_of(arm, fold, fraction)
                    run = _run_job(config, arm, fold, seed, fraction, pool, data)
                    _check_calibration(config, run, archive, split)
                    runs[run.key] = run
    return (
        *sorted(gans.values(), key=lambda job: job.fold),
        *sorted(pools.values(), key=lambda job: job.fold),
        *runs.values(),
    )


def _check_calibration(config: StudyConfig, run: RunJob, archive: Archive, split: Split) -> None:
    share = config.pseudo.calibration_share
    if share:
        rows = split.rows(archive, run.fold, "val", run.fraction)
        subjects, labels = np.asarray(archive.subjects[rows], dtype=str), archive.labels[rows]
        is_held_out = draw_held_out(subjects, labels, share, run.classifier_seed)
        where = f"in fold {run.fold} at fraction {run.fraction:g}"
        check_held_out(is_held_out, labels, archive.classes, share, where)


def generator_data(arm: Arm, fraction: float) -> tuple[float | None, bool]:
    """What an arm's generator may see: the fraction of the labeled images (None = all images), and labels."""
    conditional = arm.generator == "classes"
    if arm.generator in ("all", "everyone") or (fraction == 1.0 and not conditional):
        return None, False
    return fraction, conditional


def _generator_jobs(
    config: StudyConfig, arm: Arm, fold: int, fraction: float, archive: Archive, split: Split
) -> tuple[GanJob | None, PoolJob]:
    seen, conditional = generator_data(arm, fraction)
    pool = config.pool.model_dump()
    first_seed = derive_seed("pool", fold) % 2**30  # room for the seeds that follow
    network = config.gan.network
    if network is None:
        section = config.gan.model_dump(mode="json", exclude={"network"})
        if arm.generator == "everyone":
            return _leaky_jobs(config, section, fold, archive)
        data = {"archive": archive.sha256, "split": split.sha256, "threads": config.threads_of_gan}
        if seen is not None:
            data |= {"fraction": seen, "conditional": conditional}
        key = settings_key({"gan": section, "fold": fold, **data})
        gan = GanJob(key, fold, derive_seed("gan", section["seed"], fold), seen, conditional)
        pool_key = settings_key({"pool": pool, "gan": key})
        return gan, PoolJob(pool_key, fold, key, None, first_seed, seen, conditional)
    path = network.get(fold) if isinstance(network, dict) else network
    if path is None:
        raise SettingsError(f"gan.network: names no snapshot for fold {fold}; give one a fold")
    if not path.exists():
        raise SettingsError(f"gan.network: expected a snapshot for fold {fold} at {path}, got nothing there")
    snapshot = read_fit_snapshot(path, archive, split, fold)
    key = settings_key({"pool": pool, "snapshot": snapshot.sha256, "fold": fold})
    return None, PoolJob(key, fold, None, snapshot.path, first_seed)


def _leaky_jobs(
    config: StudyConfig, section: dict[str, Any], fold: int, archive: Archive
) -> tuple[GanJob, PoolJob]:
    """A generator that saw everybody, shared by all folds; its pools are drawn as those of the others."""
    threads = config.threads_of_gan
    key = settings_key({"gan": section, "everyone": True, "archive": archive.sha256, "threads": threads})
    pool_key = settings_key({"pool": config.pool.model_dump(), "gan": key, "fold": fold})
    first_seed = derive_seed("pool", fold) % 2**30
    return (
        GanJob(key, 0, derive_seed("gan", section["seed"], "everyone"), is_leak=True),
        PoolJob(pool_key, fold, key, None, first_seed, is_leak=True),
    )


def _oracle_job(config: StudyConfig, fold: int, archive: Archive) -> PoolJob:
    """Fresh phantoms in place of a generator's images.

    Raises:
        SettingsError: for an archive of anything else.
    """
    try:
        origin = read_phantom_origin(archive.preparation, f"{archive.path}")
    except ExtractError as error:
        raise SettingsError(
            f"arms: 'oracle' draws new subjects from the process behind an archive of phantoms; {error}; "
            "leave this arm out"
        ) from error
    num_images = config.pool.num_images
    key = settings_key({"oracle": num_images, "fold": fold, "archive": archive.sha256})
    seed = derive_seed("oracle", archive.sha256, fold)
    while seed in origin.seeds:
        seed = derive_seed("oracle", seed)
    return PoolJob(key, fold, None, None, seed)


def _run_job(
    config: StudyConfig,
    arm: Arm,
    fold: int,
    seed: int,
    fraction: float,
    pool: PoolJob | None,
    data: dict[str, Any],
) -> RunJob:
    classifier = config.classifier_of(arm.name).model_dump(mode="json")
    if config.classifier.weights is not None:  # by what the file holds: it may be moved
        try:
            classifier["weights"] = file_sha256(config.classifier.weights)
        except OSError as error:
            raise SettingsError(
                f"classifier.weights: expected a file of weights at {config.classifier.weights}, got "
                f"{error.strerror or error}"
            ) from error

    share = config.pseudo.calibration_share  # decides whom every arm chooses its checkpoints by
    held_out = {"calibration_share": share} if share else {}

    def settings_of(name: str, **more: Any) -> dict[str, Any]:
        # `supervised` at fraction 1 and `supervised_full` are the same training, and so are their seeds.
        return {
            "arm": name,
            "fold": fold,
            "seed": seed,
            "fraction": fraction,
            "classifier": classifier,
            "calibrate": config.pseudo.calibrate,
            **held_out,
            **data,
            **more,
        }

    # One seed for every arm and round: two models of a pair then differ by their data alone.
    classifier_seed = derive_seed("classifier", seed, fold, fraction)
    if not arm.has_own_pool:
        assert config.reference_arm is not None
        reference = _run_job(config, ARMS[config.reference_arm], fold, seed, fraction, pool, data)
        settings = settings_of(arm.name, reference=reference.key)
        return replace(
            reference,
            key=settings_key(settings),
            arm=arm.name,
            settings=settings,
            teacher_key=reference.teacher_key if arm.starts_from_supervised else None,
            reference_key=reference.key if arm.is_control else None,
        )
    if not arm.starts_from_supervised:
        own_pool = pool.key if pool else None
        more: dict[str, Any] = {"pool": own_pool} if own_pool else {}
        if arm.method == "fixmatch":
            more["fixmatch"] = config.fixmatch.model_dump()
        settings = settings_of(arm.name, **more)
        return RunJob(
            settings_key(settings), arm.name, fold, seed, fraction, classifier_seed, None, own_pool, settings
        )
    teacher = settings_key(settings_of("supervised"))
    pool_key = pool.key if pool else None
    if arm.method == "given":
        pseudo: dict[str, Any] = {
            "pseudo_share": config.pseudo.pseudo_share,
            **config.pseudo.student_settings,
        }
        if config.pseudo.gates:
            pseudo["gates"] = config.pseudo.gates
    else:
        pseudo = config.pseudo.model_dump()
        if not arm.is_gated:
            pseudo.pop("gates", None)
    settings = settings_of(arm.name, pseudo=pseudo, teacher=teacher, pool=pool_key)
    return RunJob(
        settings_key(settings), arm.name, fold, seed, fraction, classifier_seed, teacher, pool_key, settings
    )
