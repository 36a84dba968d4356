"""Labeled images by reference, and the batches a training draws from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from classifier.errors import ClassifierError
from extract.seeds import derive_seed

if TYPE_CHECKING:
    from extract.archive import Archive
    from extract.split import Split


class ImageTable:
    """Images by reference: rows of uint8 arrays or memmaps, in any order, nothing copied until gathered.

    Real and synthetic archives stay in their own memmaps; a training set over both is a few index arrays.
    """

    def __init__(self, images: np.ndarray, rows: np.ndarray | None = None) -> None:
        """Refer to `rows` (all of them by default) of `images`, (N, C, H, W) uint8."""
        if images.ndim != 4 or images.dtype != np.uint8:
            raise ClassifierError(
                f"images must be a (N, C, H, W) uint8 array, got {images.dtype} of shape {images.shape}"
            )
        rows = np.arange(len(images)) if rows is None else np.asarray(rows, dtype=np.int64)
        if len(rows) and not (rows.min() >= 0 and rows.max() < len(images)):
            raise ClassifierError(
                f"rows must lie in 0 ... {len(images) - 1}, got {rows.min()} ... {rows.max()}: "
                "do the rows belong to another archive?"
            )
        self._sources: list[np.ndarray] = [images]
        self._source = np.zeros(len(rows), dtype=np.int64)  # (N,) which array an image lives in
        self._row = rows  # (N,) where in that array
        self.image_shape: tuple[int, int, int] = images.shape[1:]

    def __len__(self) -> int:
        return len(self._row)

    def gather(self, indices: np.ndarray) -> np.ndarray:
        """Copy the images at `indices` into one (n, C, H, W) uint8 array."""
        source, row = self._source[indices], self._row[indices]
        if len(self._sources) == 1:
            return np.asarray(self._sources[0][row])
        batch = np.empty((len(row), *self.image_shape), dtype=np.uint8)
        for number in np.unique(source):
            where = source == number
            batch[where] = self._sources[number][row[where]]
        return batch

    def subset(self, indices: np.ndarray) -> ImageTable:
        """The images at `indices` (integers or a mask), by reference."""
        return self._of(self._sources, self._source[indices], self._row[indices])

    @staticmethod
    def concat(tables: Sequence[ImageTable]) -> ImageTable:
        """All images of the tables, one table after the other, by reference."""
        shapes = sorted({table.image_shape for table in tables})
        if len(shapes) != 1:
            raise ClassifierError(
                f"images of one training must share one shape (channels, height, width), got {shapes}: "
                "make the archives with the same --size and the same number of channels"
            )
        sources: list[np.ndarray] = []
        numbers: list[np.ndarray] = []
        for table in tables:
            places = []
            for array in table._sources:
                known = [number for number, other in enumerate(sources) if other is array]
                if not known:
                    sources.append(array)
                places.append(known[0] if known else len(sources) - 1)
            numbers.append(np.array(places, dtype=np.int64)[table._source])
        return ImageTable._of(
            sources, np.concatenate(numbers), np.concatenate([table._row for table in tables])
        )

    @staticmethod
    def _of(sources: list[np.ndarray], source: np.ndarray, row: np.ndarray) -> ImageTable:
        table = ImageTable.__new__(ImageTable)
        table._sources, table._source, table._row = sources, source, row
        table.image_shape = sources[0].shape[1:]
        return table


@dataclass(frozen=True)
class LabeledImages:
    """Images with what is known about each: parallel arrays of one length."""

    images: ImageTable
    labels: np.ndarray  # (N,) int64, or (N, C) float32 soft labels
    subjects: np.ndarray  # (N,) str, empty where unknown
    origin: np.ndarray  # (N,) "real" | "synthetic"
    is_pseudo: np.ndarray  # (N,) bool, label given by a model
    weights: np.ndarray | None = None  # (N,) float, relative; None = all alike
    # (N, C) bool, classes that an image is known not to be of; such an image has no label (-1). None = none
    excluded: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("labels", "subjects", "origin", "is_pseudo", "weights", "excluded"):
            values = getattr(self, name)
            if values is not None and len(values) != len(self.images):
                raise ValueError(
                    f"{name} must have one entry an image ({len(self.images)}), got {len(values)}"
                )
        if self.labels.ndim not in (1, 2):
            raise ValueError(f"labels must be (N,) or (N, C), got shape {self.labels.shape}")
        if self.weights is not None and not (np.isfinite(self.weights).all() and (self.weights >= 0).all()):
            raise ValueError("weights must be finite and not negative")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def is_negative(self) -> np.ndarray:
        """(N,) bool, images of which only some classes are known that they are not."""
        if self.excluded is None:
            return np.zeros(len(self), dtype=bool)
        return np.asarray(self.excluded.any(axis=1))

    @property
    def has_soft_labels(self) -> bool:
        return self.labels.ndim == 2

    def soft_labels(self, num_classes: int) -> np.ndarray:
        """Labels as (N, C) float32 distributions; integers become one-hot rows, negative labels zeros.

        Raises:
            ClassifierError: where an image has no label, or a label outside the classes.
        """
        if self.excluded is not None:
            targets = np.zeros((len(self), num_classes), dtype=np.float32)
            labeled = np.flatnonzero(~self.is_negative)
            targets[labeled] = replace(self.subset(labeled), excluded=None).soft_labels(num_classes)
            return targets
        if self.has_soft_labels:
            if self.labels.shape[1] != num_classes:
                raise ClassifierError(
                    f"soft labels have {self.labels.shape[1]} columns for {num_classes} classes"
                )
            if not np.allclose(self.labels.sum(axis=1), 1.0, atol=1e-3) or (self.labels < 0).any():
                raise ClassifierError(
                    "soft labels must be probabilities: rows that sum to 1, nothing negative"
                )
            return self.labels.astype(np.float32)
        if len(self.labels) and not (self.labels.min() >= 0 and self.labels.max() < num_classes):
            raise ClassifierError(
                f"labels must lie in 0 ... {num_classes - 1}, got {self.labels.min()} ... "
                f"{self.labels.max()}: leave unlabeled images (-1) out, and check that the classes are "
                "those of the archive"
            )
        return np.eye(num_classes, dtype=np.float32)[self.labels]

    def subset(self, indices: np.ndarray) -> LabeledImages:
        """The images at `indices` (integers or a mask) with all that is known about them."""
        return LabeledImages(
            images=self.images.subset(indices),
            labels=self.labels[indices],
            subjects=self.subjects[indices],
            origin=self.origin[indices],
            is_pseudo=self.is_pseudo[indices],
            weights=None if self.weights is None else self.weights[indices],
            excluded=None if self.excluded is None else self.excluded[indices],
        )

    @staticmethod
    def concat(parts: Sequence[LabeledImages]) -> LabeledImages:
        """All images of the parts, by reference; one part with soft labels makes all labels soft."""
        widths = {part.labels.shape[1] for part in parts if part.has_soft_labels}
        if len(widths) > 1:
            raise ClassifierError(
                f"soft labels of one training must share their classes, got {sorted(widths)} columns"
            )
        if widths:
            num_classes = widths.pop()
            parts = [replace(part, labels=part.soft_labels(num_classes)) for part in parts]
        weights = None
        if any(part.weights is not None for part in parts):
            weights = np.concatenate(
                [np.ones(len(part)) if part.weights is None else part.weights for part in parts]
            )
        return LabeledImages(
            images=ImageTable.concat([part.images for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            subjects=np.concatenate([part.subjects for part in parts]),
            origin=np.concatenate([part.origin for part in parts]),
            is_pseudo=np.concatenate([part.is_pseudo for part in parts]),
            weights=weights,
            excluded=_joined_excluded(parts),
        )


def _joined_excluded(parts: Sequence[LabeledImages]) -> np.ndarray | None:
    known = [part.excluded.shape[1] for part in parts if part.excluded is not None]
    if not known:
        return None
    return np.concatenate(
        [np.zeros((len(part), known[0]), bool) if part.excluded is None else part.excluded for part in parts]
    )


def real_part(
    archive: Archive, images: np.ndarray, split: Split, fold: int, part: str, fraction: float = 1.0
) -> LabeledImages:
    """One part of a fold with its expert labels.

    Args:
        images: the archive's (N, C, H, W) uint8 images, as `extract.cache.open_images` gives them.
        part: "train", "val", "test" or "unlabeled"; the last keeps the labels that the study withholds,
            for those who measure against them.

    Raises:
        ClassifierError: where the part is empty, or a labeled part holds an image without a label.
    """
    rows = split.rows(archive, fold, part, fraction)
    labels = np.asarray(archive.labels[rows], dtype=np.int64)
    if len(rows) == 0 and part != "unlabeled":
        raise ClassifierError(
            f"{archive.path}: part {part} of fold {fold} at fraction {fraction:g} has no image; "
            "make a split with fewer folds or a larger fraction"
        )
    if part != "unlabeled" and (labels < 0).any():
        raise ClassifierError(
            f"{archive.path}: {int((labels < 0).sum())} images in part {part} of fold {fold} have no label; "
            "a classifier needs one for each: label them or leave them out of the archive"
        )
    return rows_with_labels(archive, images, rows)


def rows_with_labels(archive: Archive, images: np.ndarray, rows: np.ndarray) -> LabeledImages:
    """Real images with what the archive says of them; see `real_part`, which checks them."""
    return LabeledImages(
        images=ImageTable(images, rows),
        labels=np.asarray(archive.labels[rows], dtype=np.int64),
        subjects=np.asarray(archive.subjects[rows], dtype=str),
        origin=np.full(len(rows), "real"),
        is_pseudo=np.zeros(len(rows), dtype=bool),
    )


def shuffled_indices(num_images: int, batch_size: int, num_steps: int, seed: int) -> Iterator[np.ndarray]:
    """Draw index arrays of `batch_size`, `num_steps` times, from shuffled passes without end.

    A batch may reach over the end of a pass into the next, so that every image is drawn equally often and
    every batch is full, however few images there are.
    """
    order, num_passes = np.empty(0, dtype=np.int64), 0
    for _ in range(num_steps):
        while len(order) < batch_size:
            shuffled = np.random.default_rng(derive_seed(seed, "pass", num_passes)).permutation(num_images)
            order, num_passes = np.concatenate([order, shuffled]), num_passes + 1
        yield order[:batch_size]
        order = order[batch_size:]
