"""What an audit looks at: generated images, and the real ones on both sides of the question."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from extract.archive import open_archive
from extract.cache import open_images
from extract.errors import SettingsError
from extract.folder_archive import archive_of
from extract.png import encode_png
from extract.progress import Progress
from extract.split import read_split
from gan.class_shares import assign_classes, shares_of
from gan.errors import GanError
from gan.images import channels_last
from gan.reference import find_reference, is_own_part, part_rows, seen_rows
from gan.sampling import check_sampling, open_sampler
from gan.snapshot import read_snapshot, refuse_overlap


@dataclass(frozen=True)
class Generated:
    """The images under audit."""

    images: np.ndarray  # (n, C, H, W) uint8
    files: list[str]
    sha256: list[str]  # of the PNG bytes: what manifests and ledgers know an image by
    seeds: list[str]  # empty where unknown
    source: Path  # snapshot or archive
    snapshot_sha256: str  # empty where unknown
    classes: list[str]  # that the generator was asked for; empty where there are none


@dataclass(frozen=True)
class RealSides:
    """The real images on both sides of the question."""

    archive_path: Path
    archive_sha256: str
    images: np.ndarray  # (M, C, H, W) uint8, all of the archive
    files: list[str]  # of all
    subjects: np.ndarray  # (M,) str
    labels: np.ndarray  # (M,) class names, empty where unlabeled
    train: np.ndarray  # rows that the generator learned from
    held_out: np.ndarray  # rows that it never saw; may be empty
    split_sha256: str | None
    fold: int | None


def reals_of_network(
    network: Path, data: Path | None, split: Path | None, fold: int | None, progress: Progress
) -> RealSides:
    """Both sides of a snapshot's fold: the training images that it saw, and the held-out ones.

    The training images of people whom a generator of a labeled fraction has not seen are on neither side.
    """
    snapshot = read_snapshot(network)
    reference = find_reference(snapshot, data, None, split, fold, None)
    own_fold = None if reference.split is None else reference.fold
    reals = reals_of_split(reference.data, reference.split, own_fold, progress)
    if reals.archive_sha256 != snapshot.archive_sha256:
        raise GanError(
            f"--data={reference.data}: expected the archive that {snapshot.path} was trained on "
            f"({snapshot.archive_sha256[:12]}), got another ({reals.archive_sha256[:12]}); leave --data out, "
            "or name that archive"
        )
    if len(reals.held_out):
        subjects = sorted({str(name) for name in reals.subjects[reals.held_out]})
        refuse_overlap(
            snapshot, subjects, reals.archive_sha256, f"the held-out parts of fold {reference.fold}"
        )
    if reals.split_sha256 is not None and is_own_part(
        snapshot, "train", reals.archive_sha256, reals.split_sha256, reals.fold
    ):
        reals = replace(reals, train=seen_rows(snapshot, reals.train, reals.subjects))
    return reals


def reals_of_split(data: Path, split: Path | None, fold: int | None, progress: Progress) -> RealSides:
    with open_archive(archive_of(data, progress)) as archive:
        folds = None if split is None else read_split(split, archive)
        if folds is None and fold is not None:
            raise SettingsError(f"--fold={fold}: expected the split it belongs to, got none; give --split")
        if folds is None:
            train = np.flatnonzero(archive.is_real)
            held_out = np.zeros(0, dtype=np.int64)
        else:
            train = part_rows(folds, archive, fold or 0, "train")
            held_out = np.concatenate(
                [part_rows(folds, archive, fold or 0, part) for part in ("val", "test")]
            )
        if len(train) < 2:
            raise GanError(f"{data}: expected real training images to compare with, got {len(train)}")
        return RealSides(
            archive_path=data,
            archive_sha256=archive.sha256,
            images=open_images(archive, progress),
            files=archive.names,
            subjects=archive.subjects,
            labels=archive.manifest["label"].to_numpy(),
            train=train,
            held_out=held_out,
            split_sha256=None if folds is None else folds.sha256,
            fold=None if folds is None else fold or 0,
        )


def sample(
    network: Path,
    seeds: Sequence[int],
    reals: RealSides,
    truncation_psi: float,
    noise_mode: str,
    batch_size: int,
    device: str,
    progress: Progress,
) -> Generated:
    """The images of the seeds; a conditional generator makes the classes as often as the training part."""
    snapshot = read_snapshot(network)
    check_sampling(seeds, noise_mode, batch_size, truncation_psi)
    numbers: list[int] | None = None
    if snapshot.classes:
        taught = reals.labels[reals.train]
        shares = shares_of(snapshot, None, {name: float((taught == name).sum()) for name in snapshot.classes})
        assert shares is not None
        numbers = assign_classes(len(seeds), shares)
    sampler = open_sampler(network, device=device, several_classes=numbers is not None)
    images = np.empty((len(seeds), *snapshot.image_shape), dtype=np.uint8)
    done = 0
    for part, pixels in sampler.batches(seeds, truncation_psi, noise_mode, batch_size, numbers):
        images[done : done + len(part)] = pixels
        done += len(part)
        progress(done, len(seeds), "images sampled")
    return Generated(
        images=images,
        files=[f"seed{seed:04d}.png" for seed in seeds],
        sha256=[hashlib.sha256(encode_png(channels_last(image))).hexdigest() for image in images],
        seeds=[str(seed) for seed in seeds],
        source=snapshot.path,
        snapshot_sha256=snapshot.sha256,
        classes=[""] * len(seeds) if numbers is None else [snapshot.classes[number] for number in numbers],
    )


def read_generated(fakes: Path, progress: Progress) -> Generated:
    with open_archive(fakes) as archive:
        manifest = archive.manifest
        snapshots = set(manifest["snapshot_sha256"])
        return Generated(
            images=open_images(archive, progress),
            files=manifest["file"].tolist(),
            sha256=[str(value) for value in manifest["sha256"]],
            seeds=manifest["seed"].tolist(),
            source=fakes,
            snapshot_sha256=snapshots.pop() if len(snapshots) == 1 else "",
            classes=manifest["class"].tolist(),
        )
