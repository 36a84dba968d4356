"""The deliberate fault of `leak_slices`: labeled images drawn by image, tested subjects among them.

Half of each test subject's images may be trained on, the other half is tested. As many images of each class
as the labeled fraction holds are drawn, blindly, from those halves and the whole training part: what a split
by image does. The honest counterpart has the same images in the same places but for those of test subjects,
in whose place stand others of the same class from the training part. Both are tested on the same images.
"""

from dataclasses import dataclass

import numpy as np

from extract.archive import Archive
from extract.errors import SettingsError
from extract.seeds import derive_seed
from extract.split import Split


@dataclass(frozen=True)
class ImageSplit:
    """Rows of an archive."""

    leaky: np.ndarray  # (L,) trained on, images of test subjects among them
    honest: np.ndarray  # (L,) the same without them
    tested: np.ndarray  # (T,) none of them trained on
    seen: np.ndarray  # (S,) images of test subjects that might have been drawn


def split_by_image(archive: Archive, split: Split, fold: int, fraction: float) -> ImageSplit:
    """Draw it; the same for all seeds of a study, as the labeled fraction is.

    Raises:
        SettingsError: where no test subject has two images of a class, so that nothing can leak.
    """
    rng = np.random.default_rng(derive_seed("split by image", split.sha256, fold, fraction))
    test = split.rows(archive, fold, "test")
    halves = np.random.default_rng(derive_seed("halves", split.sha256, fold))
    seen = _half_of_each_subject(archive, test, halves)
    if not len(seen):
        raise SettingsError(
            f"arms: 'leak_slices' needs test subjects with several images, and in fold {fold} each has one "
            "of a class, so a split by image would leak nothing; leave the arm out"
        )
    train = split.rows(archive, fold, "train")
    labels = np.asarray(archive.labels)
    leaky = split.rows(archive, fold, "train", fraction).copy()
    honest = leaky.copy()
    for label in np.unique(labels[leaky]):
        places = np.flatnonzero(labels[leaky] == label)
        own, others = train[labels[train] == label], seen[labels[seen] == label]
        drawn = rng.permutation(np.concatenate([own, others]))[: len(places)]
        is_seen = np.isin(drawn, others)
        instead = rng.permutation(np.setdiff1d(own, drawn))[: is_seen.sum()]
        leaky[places] = drawn
        drawn[is_seen] = instead
        honest[places] = drawn
    return ImageSplit(leaky, honest, np.setdiff1d(test, seen), seen)


def _half_of_each_subject(archive: Archive, rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half of the images of each subject and class, rounded down, sorted."""
    chosen: list[np.ndarray] = []
    for subject in np.unique(archive.subjects[rows]):
        own = rows[archive.subjects[rows] == subject]
        for label in np.unique(archive.labels[own]):
            of_class = own[archive.labels[own] == label]
            chosen.append(rng.permutation(of_class)[: len(of_class) // 2])
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=np.int64)
