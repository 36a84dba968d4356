"""The images a generator learns from: the training part of one fold, and nothing else."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from extract.archive import Archive, open_archive
from extract.cache import open_images
from extract.errors import SettingsError
from extract.folder_archive import archive_of
from extract.progress import Progress, no_progress
from extract.split import read_split
from gan.errors import GanError
from gan.sampler import choose_subset


@dataclass(frozen=True)
class TrainingImages:
    """Real images of the training part, mirrored copies behind them where asked for.

    Item i < len(rows) is image rows[i]; item len(rows) + i is the same image mirrored left-right.
    """

    name: str  # of the archive, for run folders
    images: np.ndarray  # (M, C, H, W) uint8, the whole archive, read-only, on disk
    rows: np.ndarray  # (N,) int64, images that may be shown
    mirror: bool
    labels: np.ndarray  # (M,) int64, -1 = unlabeled
    classes: tuple[str, ...]  # empty = unconditional
    subjects: tuple[str, ...]  # of the rows, sorted
    num_synthetic_left_out: int
    num_available: int  # images before the subset was chosen
    archive_sha256: str
    split_sha256: str | None
    archive_classes: tuple[str, ...] = ()  # of the archive, whether they are used or not

    def __len__(self) -> int:
        return len(self.rows) * (2 if self.mirror else 1)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def c_dim(self) -> int:
        return len(self.classes)

    def pixels(self, items: np.ndarray) -> np.ndarray:
        """(n, C, H, W) uint8."""
        batch = np.ascontiguousarray(self.images[self.rows[items % len(self.rows)]])
        mirrored = items >= len(self.rows)
        if mirrored.any():
            batch[mirrored] = batch[mirrored][..., ::-1]
        return batch

    def one_hot(self, items: np.ndarray) -> np.ndarray:
        """(n, c_dim) float32; of width 0 for an unconditional generator."""
        hot = np.zeros((len(items), self.c_dim), dtype=np.float32)
        if self.c_dim:
            hot[np.arange(len(items)), self.labels[self.rows[items % len(self.rows)]]] = 1
        return hot

    def batch(self, items: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        """Images (n, C, H, W) float32 in [-1, 1] and labels (n, c_dim)."""
        pixels = torch.from_numpy(self.pixels(items)).to(device)
        return to_signed(pixels), torch.from_numpy(self.one_hot(items)).to(device)


def to_signed(pixels: Tensor) -> Tensor:
    """uint8 0..255 to float32 -1..1."""
    return pixels.to(torch.float32) / 127.5 - 1


def open_training_images(
    data: Path,
    split: Path | None = None,
    fold: int = 0,
    *,
    fraction: float | None = None,
    cond: bool = False,
    mirror: bool = False,
    subset: int | None = None,
    seed: int = 0,
    progress: Progress = no_progress,
) -> TrainingImages:
    """Open an archive and choose what may be shown to the networks.

    With a split these are the training rows of one fold; validation and test are never touched. Without one
    they are all real images. Synthetic images are always left out. A `fraction` of the split means
    the training subjects that are labeled there, and nobody else.

    Raises:
        SettingsError: if the options do not fit the archive.
        GanError: if nothing is left to train on.
    """
    with open_archive(archive_of(data, progress)) as archive:
        _check_shape(archive)
        real = archive.is_real
        if split is None:
            rows, split_sha256 = np.flatnonzero(real), None
        else:
            folds = read_split(split, archive)
            if fold >= len(folds.folds):
                raise SettingsError(f"--fold={fold}: {split} has {len(folds.folds)} folds, numbered from 0")
            labeled = 1.0 if fraction is None else fraction
            rows, split_sha256 = folds.rows(archive, fold, "train", labeled), folds.sha256
            rows = rows[real[rows]]
        if len(rows) == 0:
            raise GanError(
                f"{data}: no real image is left to train on; expected at least one with origin 'real'"
            )
        available = len(rows)
        rows = _limit(rows, subset, seed)
        classes = _classes(archive, rows, data) if cond else ()
        subjects = sorted({str(name) for name in archive.subjects[rows] if str(name)})
        return TrainingImages(
            name=data.name if data.is_dir() else data.stem,
            images=open_images(archive, progress),
            rows=rows.astype(np.int64),
            mirror=mirror,
            labels=archive.labels,
            classes=classes,
            subjects=tuple(subjects),
            num_synthetic_left_out=int((~real).sum()),
            num_available=available,
            archive_sha256=archive.sha256,
            split_sha256=split_sha256,
            archive_classes=tuple(archive.classes),
        )


def _check_shape(archive: Archive) -> None:
    channels, height, width = archive.image_shape
    if channels not in (1, 3) or height != width or height < 8 or height & (height - 1):
        raise GanError(
            f"{archive.path}: expected square images whose side is a power of two (8 or more) with 1 or 3 "
            f"channels, "
            f"got {width}x{height} with {channels}; extract them again with another --size"
        )


def _limit(rows: np.ndarray, subset: int | None, seed: int) -> np.ndarray:
    if subset is None:
        return rows
    if not 1 <= subset <= len(rows):
        raise SettingsError(f"--subset must be between 1 and {len(rows)}, got {subset}")
    return rows[choose_subset(len(rows), subset, seed)]


def _classes(archive: Archive, rows: np.ndarray, data: Path) -> tuple[str, ...]:
    if not archive.classes:
        raise SettingsError(f"--cond=True requires labels specified in dataset.json; {data} has none")
    missing = int((archive.labels[rows] < 0).sum())
    if missing:
        raise SettingsError(
            f"--cond=True requires a label for every training image; {data} has {missing} of {len(rows)} "
            f"without one"
        )
    return tuple(archive.classes)
