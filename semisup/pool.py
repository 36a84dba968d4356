"""The unlabeled pool: real images without their labels, or synthetic ones from a generator that saw no judge.

The one module that asks `gan` for a generator and its images.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from classifier.data import ImageTable
from extract.archive import Archive, open_archive
from extract.cache import open_images
from extract.progress import Progress, no_progress
from extract.split import Split
from semisup.errors import StudyError
from semisup.folders import RECORDS, read_json, write_json
from semisup.generators import training_seconds
from semisup.guards import read_fit_snapshot
from semisup.ledger import PoolIdentity
from semisup.machine import Stopwatch, describe_machine
from semisup.plan import Basis, GanJob, PoolJob, open_data
from semisup.pool_copies import (
    COPIES_FILE,
    PoolCopies,
    SeenImages,
    measure_copies,
    read_copies,
    write_copies,
)

GAN_JSON, POOL_JSON = RECORDS["gan"], RECORDS["pool"]
POOL_ARCHIVE = "synthetic.zip"
COPY_GATES = frozenset({"memorised", "near_duplicate"})  # that ask how much an image is like a training image


@dataclass(frozen=True)
class Pool:
    """What may be pseudo-labeled: N images by reference, none with a label that a model could see."""

    images: ImageTable
    subjects: np.ndarray  # (N,) str, empty for synthetic images
    origin: np.ndarray  # (N,) "real" | "synthetic"
    identity: PoolIdentity
    withheld_labels: np.ndarray | None  # (N,) int64, -1 = none, to judge pseudo-labels after the fact
    given_labels: np.ndarray | None = None  # (N,) int64, that a conditional generator was told

    @staticmethod
    def concat(first: "Pool", second: "Pool") -> "Pool":
        """The images of two pools, one after the other, by reference."""
        known = [
            np.full(len(pool.images), -1, dtype=np.int64)
            if pool.withheld_labels is None
            else pool.withheld_labels
            for pool in (first, second)
        ]
        return Pool(
            ImageTable.concat([first.images, second.images]),
            np.concatenate([first.subjects, second.subjects]),
            np.concatenate([first.origin, second.origin]),
            PoolIdentity.concat(first.identity, second.identity),
            np.concatenate(known),
        )


def real_pool(archive: Archive, images: np.ndarray, split: Split, fold: int, fraction: float) -> Pool:
    """The training images whose labels are withheld at this fraction."""
    rows = split.rows(archive, fold, "unlabeled", fraction)
    if not len(rows):
        raise StudyError(
            f"{archive.path}: expected unlabeled training images in fold {fold} at fraction {fraction:g}, "
            "got none; leave this fraction out, or the arms that need them"
        )
    return Pool(
        ImageTable(images, rows),
        archive.subjects[rows],
        np.full(len(rows), "real"),
        PoolIdentity.of_rows(archive.manifest, rows, archive.sha256),
        archive.labels[rows],
    )


def synthetic_pool(
    basis: Basis,
    key: str,
    real: Archive,
    split: Split,
    fold: int,
    *,
    fraction: float | None = None,
    conditional: bool = False,
    deliberate_leak: bool = False,
) -> Pool:
    """The synthetic images of `pools/<key>/`, checked: the very archive, from a generator fit for the fold.

    Args:
        fraction, conditional, deliberate_leak: what the generator may have seen, as in `read_fit_snapshot`.

    Raises:
        StudyError: if the archive is not the one that was generated, or of another image shape.
        GanError: if its generator saw a validation or test subject of this fold.
    """
    folder = basis.study_dir / PoolJob.folder / key
    made = read_json(folder / POOL_JSON)
    with open_archive(folder / POOL_ARCHIVE) as archive:
        if archive.sha256 != made["archive_sha256"]:
            raise StudyError(
                f"{archive.path}: expected the archive that was generated "
                f"({made['archive_sha256'][:12]}...), got another ({archive.sha256[:12]}...); "
                f"remove {folder} to generate it anew"
            )
        network = basis.study_dir / made["network"]  # an absolute path stays itself
        snapshot = read_fit_snapshot(
            network,
            real,
            split,
            fold,
            fraction=fraction,
            conditional=conditional,
            deliberate_leak=deliberate_leak,
        )
        if snapshot.sha256 != made["snapshot_sha256"]:
            raise StudyError(
                f"{snapshot.path}: expected the snapshot that the pool was drawn from "
                f"({made['snapshot_sha256'][:12]}...), got another; remove {folder} to generate it anew"
            )
        rows = np.arange(len(archive))
        return Pool(
            ImageTable(open_images(archive), rows),
            np.full(len(archive), "", dtype=str),
            np.full(len(archive), "synthetic"),
            PoolIdentity.of_rows(archive.manifest, rows, archive.sha256),
            None,
            np.asarray(archive.labels, dtype=np.int64) if conditional else None,
        )


def seen_images(
    archive: Archive, images: np.ndarray, split: Split, fold: int, fraction: float | None
) -> SeenImages:
    """The training images of a fold that a generator saw: all of them, or those of the labeled fraction."""
    rows = split.rows(archive, fold, "train", 1.0 if fraction is None else fraction)
    files, hashes = (archive.manifest[name].to_numpy(str)[rows] for name in ("file", "sha256"))
    return SeenImages(ImageTable(images, rows), rows, files, hashes, archive.subjects[rows])


def copies_of_pool(
    basis: Basis,
    key: str,
    archive: Archive,
    images: np.ndarray,
    split: Split,
    fold: int,
    fraction: float | None,
    progress: Progress = no_progress,
) -> PoolCopies:
    """How much like a training image each image of a pool is, measured where it was not yet.

    A pool that was made before this was measured gets its file now; runs that do so at once write the same.
    """
    folder = basis.study_dir / PoolJob.folder / key
    with open_archive(folder / POOL_ARCHIVE) as pool:
        found = read_copies(folder / COPIES_FILE, pool.sha256)
        if found is None:
            found = measure_copies(
                open_images(pool),
                pool.manifest["file"].to_numpy(str),
                pool.manifest["sha256"].to_numpy(str),
                seen_images(archive, images, split, fold, fraction),
                images,
                split.rows(archive, fold, "val", 1.0),
                pool.sha256,
                progress,
            )
            write_copies(found, folder / COPIES_FILE)
    return found


def perform_gan(job: GanJob, basis: Basis, progress: Progress = no_progress) -> None:
    """Train a fold's generator in `gans/<key>/`, going on where an earlier attempt was stopped."""
    from gan.training import train

    folder = basis.study_dir / job.folder / job.key
    config = basis.config.gan_config(
        job.fold,
        job.seed,
        folder,
        fraction=job.fraction,
        conditional=job.conditional,
        deliberate_leak=job.is_leak,
    )
    network = train(config, progress)
    seconds = training_seconds(network, math.inf)  # of all attempts
    with open_data(basis) as (archive, split):
        snapshot = read_fit_snapshot(
            network,
            archive,
            split,
            job.fold,
            fraction=job.fraction,
            conditional=job.conditional,
            deliberate_leak=job.is_leak,
        )
    write_json(
        folder / GAN_JSON,
        {
            "key": job.key,
            "fold": job.fold,
            "seed": job.seed,
            "fraction": job.fraction,
            "conditional": job.conditional,
            **({"leak": True} if job.is_leak else {}),
            "snapshot": snapshot.path.relative_to(folder).as_posix(),
            "snapshot_sha256": snapshot.sha256,
            "kimg": snapshot.kimg,
            "seconds": seconds,
            **describe_machine(basis.config.gan.device),
        },
    )


def perform_pool(job: PoolJob, basis: Basis, progress: Progress = no_progress) -> None:
    """Generate `pools/<key>/synthetic.zip`; refuses an unfit generator before a single image is drawn."""
    from gan.generate import generate_archive

    folder = basis.study_dir / job.folder / job.key
    if job.gan_key:
        gan = read_json(basis.study_dir / GanJob.folder / job.gan_key / GAN_JSON)
        network = Path(GanJob.folder) / job.gan_key / gan["snapshot"]  # relative: a study folder may be moved
    else:
        assert job.network is not None
        network = job.network
    with open_data(basis) as (archive, split):
        snapshot = read_fit_snapshot(
            basis.study_dir / network,
            archive,
            split,
            job.fold,
            fraction=job.fraction,
            conditional=job.conditional,
            deliberate_leak=job.is_leak,
        )
        shares = _class_shares(archive, split, job) if job.conditional else None
    settings = basis.config.pool
    watch = Stopwatch()
    dest = folder / POOL_ARCHIVE
    generate_archive(
        snapshot.path,
        range(job.first_seed, job.first_seed + settings.num_images),
        dest,
        truncation_psi=settings.truncation_psi,
        class_shares=shares,
        device=basis.config.gan.device,
        progress=progress,
        overwrite=True,  # of a pool that an interrupted command left without its record
    )
    with open_archive(dest) as generated:
        open_images(generated, progress)  # decoded once here, not in every run
        archive_sha256 = generated.sha256
    if COPY_GATES & set(basis.config.pseudo.gates) and basis.config.has_gates:
        with open_data(basis) as (archive, split):
            copies_of_pool(
                basis, job.key, archive, open_images(archive), split, job.fold, job.fraction, progress
            )
    write_json(
        folder / POOL_JSON,
        {
            "key": job.key,
            "fold": job.fold,
            "fraction": job.fraction,
            "conditional": job.conditional,
            **({"leak": True} if job.is_leak else {}),
            "network": network.as_posix(),
            "snapshot_sha256": snapshot.sha256,
            "archive_sha256": archive_sha256,
            "num_images": settings.num_images,
            "truncation_psi": settings.truncation_psi,
            "first_seed": job.first_seed,
            "gan_kimg": snapshot.kimg,
            "gan_seconds": training_seconds(snapshot.path, snapshot.kimg),
            **watch.read(),
            **describe_machine(basis.config.gan.device),
        },
    )


def _class_shares(archive: Archive, split: Split, job: PoolJob) -> dict[str, float]:
    """Share of each class among the labeled images, so that the synthetic ones have the same."""
    rows = split.rows(archive, job.fold, "train", job.fraction or 1.0)
    counts = np.bincount(archive.labels[rows], minlength=len(archive.classes))
    return {name: float(count) for name, count in zip(archive.classes, counts, strict=True)}
