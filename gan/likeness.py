"""How much like real images single generated ones are: the nearest of them, and the rule for copies.

`gan audit` judges a generator by thousands of images; this looks at the few that somebody has before them, by
the same scores, calibrated in the same way on real images of people whom the generator never saw.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extract.archive import Archive, open_archive
from extract.progress import Progress, no_progress
from extract.seeds import derive_seed
from extract.split import Split, read_split
from gan.alignment import COMPARED_SIDE
from gan.copies import CLEAR, Calibration, CopyScorer, calibrate, stand_ins
from gan.errors import GanError
from gan.features import FeatureExtractor, PixelExtractor, SpectrumExtractor
from gan.gallery import Gallery
from gan.network_card import recorded_archive
from gan.privacy import MIN_HELD_OUT_BUNDLES, MIN_HELD_OUT_IMAGES
from gan.reference import part_rows
from gan.snapshot import Snapshot

MAX_REAL_IMAGES = 20_000  # compared with; of more, an even choice
MAX_UNSEEN = 1_000  # held-out images that the rule for copies is calibrated on
MOST_STAND_INS = 200  # training images of each fifth of the subjects, where nobody was held out
BATCH = 64  # images decoded at a time
WAYS: tuple[FeatureExtractor, ...] = (PixelExtractor(), SpectrumExtractor())


@dataclass(frozen=True)
class RealImages:
    """Where the real images are, and which of them the generator learned from."""

    archive: Path
    split: Path | None
    fold: int | None
    is_own: bool  # the archive that the generator was trained on


@dataclass(frozen=True)
class NearReal:
    """One real image that a generated one is like."""

    row: int  # of the archive
    subject: str  # empty where unknown
    label: str  # empty where unlabeled
    is_mirrored: bool  # most alike when seen in a mirror
    correlation: float  # over small shifts; 1 = the same picture but for brightness and contrast
    score: float  # 0 = the same picture, 1 = as alike as that one is to the most similar other person's


@dataclass(frozen=True)
class Likeness:
    """What can be said of one generated image."""

    nearest: tuple[NearReal, ...]  # one a person, the most alike first
    threshold: float | None  # scores below it are flagged; None = too few people to tell

    @property
    def is_flagged(self) -> bool:
        """More alike than all but one in a thousand real images of other people are."""
        return self.threshold is not None and self.nearest[0].score < self.threshold

    @property
    def is_clear_copy(self) -> bool:
        """So far below the threshold that no second glance is needed."""
        return self.threshold is not None and self.nearest[0].score < CLEAR * self.threshold


@dataclass(frozen=True)
class Unseen:
    """Real images of people whom the generator never saw; they are never shown."""

    images: np.ndarray  # (M, 1, h, w) uint8, small
    features: tuple[np.ndarray, ...]  # each (M, D)
    groups: np.ndarray  # (M,) int64, one number a subject


class Comparison:
    """Real images that generated ones are held against; may be asked while `calibrate` is at work."""

    def __init__(
        self,
        reals: RealImages,
        archive: Archive,
        gallery: Gallery,
        rows: np.ndarray,
        unseen: Unseen | None,
        num_available: int,
    ) -> None:
        """Args: see `open_comparison`; `rows` (N,) of the archive are the gallery's images."""
        self.reals, self.num_available = reals, num_available
        self.calibration: Calibration | None = None
        self.is_calibrated = False  # if it is, and there is no calibration, there are too few people
        self.has_unseen = unseen is not None  # people whom the generator never saw, to calibrate by
        self._archive, self._rows, self._unseen = archive, rows, unseen
        self._subjects, self._labels = archive.subjects, archive.manifest["label"].to_numpy(dtype=str)
        self._gallery, self._scorer = gallery, CopyScorer(gallery)

    def calibrate(self, progress: Progress = no_progress) -> None:
        """Settle from which score on an image is flagged. Takes longest: every image is held against others.

        Where nobody was held out, the training people stand in for each other; with too few of them there is
        no rule.
        """
        unseen, done = self._unseen, 0
        total = 5 * MOST_STAND_INS if unseen is None else len(unseen.groups)

        def report(count: int) -> None:
            nonlocal done
            done = min(done + count, total)
            progress(done, total, "real images compared")

        if unseen is None:
            random = np.random.default_rng(derive_seed("likeness", self._archive.sha256))
            found = stand_ins(self._gallery, random, MOST_STAND_INS, report)
            self.calibration = None if found is None else calibrate(found.scores, found.groups)
        else:
            scores = []
            for start in range(0, len(unseen.groups), BATCH):
                part = slice(start, start + BATCH)
                features = [rows[part] for rows in unseen.features]
                pixels = unseen.images[part]
                scores.append(self._scorer.score(pixels.__getitem__, features, report).values)
            self.calibration = calibrate(np.concatenate(scores), unseen.groups)
        self._unseen, self.is_calibrated = None, True

    def __len__(self) -> int:
        """Real images that are compared with, without their mirrored copies."""
        return len(self._rows)

    @property
    def num_subjects(self) -> int:
        return len(np.unique(self._gallery.groups))

    def look(self, images: np.ndarray, num: int = 4) -> list[Likeness]:
        """Hold generated images (n, C, H, W) uint8 against the real ones.

        Args:
            num: real images to name for each, one a person.
        """
        places, scores, correlations = self._scorer.weigh(lambda wanted: images[wanted], _features(images))
        threshold = None if self.calibration is None else self.calibration.threshold
        return [
            Likeness(self._named(places[k], scores[k], correlations[k], num), threshold)
            for k in range(len(images))
        ]

    def pixels(self, near: NearReal) -> np.ndarray:
        """The real image (C, H, W) uint8 as it is in the archive, mirrored where it is most alike so.

        Raises:
            ExtractError: if it cannot be read.
        """
        pixels = self._archive.read_image(near.row)
        return np.ascontiguousarray(pixels[..., ::-1]) if near.is_mirrored else pixels

    def close(self) -> None:
        """Close the archive."""
        self._archive.close()

    def _named(
        self, places: np.ndarray, scores: np.ndarray, correlations: np.ndarray, num: int
    ) -> tuple[NearReal, ...]:
        """The most alike of the candidates (K,), one of each subject."""
        found: dict[int, NearReal] = {}
        for k in np.argsort(scores, kind="stable"):
            group = int(self._gallery.group_of(places[k]))
            if group in found:
                continue
            image = int(places[k]) % len(self)
            found[group] = NearReal(
                row=int(self._rows[image]),
                subject=str(self._subjects[self._rows[image]]),
                label=str(self._labels[self._rows[image]]),
                is_mirrored=bool(places[k] >= len(self)),
                correlation=float(correlations[k]),
                score=float(scores[k]),
            )
            if len(found) == num:
                break
        return tuple(found.values())


def find_reals(
    snapshot: Snapshot, data: Path | None = None, split: Path | None = None, fold: int = 0
) -> RealImages:
    """What to compare a generator's images with: what is given, else the archive that its run recorded.

    A generator's own archive needs no split: its header names everybody whom it saw.

    Raises:
        GanError: if nothing is given and no archive is recorded, or it is gone.
        ExtractError: if the archive cannot be read.
    """
    if data is None:
        data = recorded_archive(snapshot.path.parent)
        if data is None or data.suffix.lower() != ".zip" or not data.is_file():
            raise GanError(
                f"{snapshot.path.name}: expected the archive that it learned from where its run recorded it, "
                "got none there; name it with --archive to see the nearest real images"
            )
    with open_archive(data) as archive:
        if archive.sha256 == snapshot.archive_sha256:
            return RealImages(data, None, None, is_own=True)
    return RealImages(data, split, fold if split is not None else None, is_own=False)


def open_comparison(
    snapshot: Snapshot,
    reals: RealImages,
    *,
    max_images: int = MAX_REAL_IMAGES,
    progress: Progress = no_progress,
) -> Comparison:
    """Look at the real images once: those that the generator learned from, and others to calibrate by.

    Of its own archive those are the images of the people whom it saw; of another one the training part of the
    split if there is one, else all real images. The others (people whom it did not see; validation and test
    part) are never shown; where there are too few of them, the people compared with stand in.

    Raises:
        GanError: if the archive has images of another size, or another hash, than the generator's.
        SettingsError, ExtractError: if split and archive do not fit together.
    """
    archive = open_archive(reals.archive)
    try:
        return _compare(archive, snapshot, reals, max_images, progress)
    except BaseException:
        archive.close()
        raise


def _compare(
    archive: Archive, snapshot: Snapshot, reals: RealImages, max_images: int, progress: Progress
) -> Comparison:
    name = reals.archive.name
    if reals.is_own and archive.sha256 != snapshot.archive_sha256:
        raise GanError(
            f"{name}: expected the archive that the generator learned from ({snapshot.archive_sha256[:12]}), "
            f"got another ({archive.sha256[:12]}); give it with --archive"
        )
    if archive.image_shape != snapshot.image_shape:
        raise GanError(
            f"{name}: expected images of shape {snapshot.image_shape} (C, H, W) as the generator makes them, "
            f"got {archive.image_shape}; take the archive it was trained on"
        )
    split = None if reals.split is None else read_split(reals.split, archive)
    rows, others = _sides(archive, split, reals, snapshot)
    if len(rows) < 2:
        raise GanError(f"{name}: expected real images to compare with, got {len(rows)} that it learned from")
    compared = _even_choice(rows, max_images)
    random = np.random.default_rng(derive_seed("likeness", archive.sha256))
    others = np.sort(random.permutation(others)[:MAX_UNSEEN])
    subjects = archive.subjects
    if len(others) < MIN_HELD_OUT_IMAGES or len(np.unique(subjects[others])) < MIN_HELD_OUT_BUNDLES:
        others = others[:0]
    images, plain, mirrored = _read(archive, np.concatenate([compared, others]), progress)
    num = len(compared)
    both = tuple(np.concatenate([one[:num], other[:num]]) for one, other in zip(plain, mirrored, strict=True))
    gallery = Gallery(images, np.arange(num), _groups(subjects[compared]), both, mirror=True)
    unseen = None
    if len(others):
        unseen = Unseen(images[num:], tuple(way[num:] for way in plain), _groups(subjects[others]))
    return Comparison(reals, archive, gallery, compared, unseen, len(rows))


def _sides(
    archive: Archive, split: Split | None, reals: RealImages, snapshot: Snapshot
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that are compared with, and rows of people whom the generator never saw."""
    real = np.flatnonzero(archive.is_real)
    if reals.is_own and snapshot.subjects:
        is_seen = np.isin(archive.subjects[real], snapshot.subjects)
        return real[is_seen], real[~is_seen]
    if split is None:
        return real, real[:0]
    fold = reals.fold or 0
    others = np.concatenate([part_rows(split, archive, fold, part) for part in ("val", "test")])
    return part_rows(split, archive, fold, "train"), others


def _even_choice(rows: np.ndarray, most: int) -> np.ndarray:
    return rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64))]


def _groups(subjects: np.ndarray) -> np.ndarray:
    """One number a subject; an image for itself where subjects are unknown."""
    if (subjects == "").any():
        return np.arange(len(subjects), dtype=np.int64)
    return np.unique(subjects, return_inverse=True)[1].astype(np.int64)


def _read(
    archive: Archive, rows: np.ndarray, progress: Progress
) -> tuple[np.ndarray, tuple[np.ndarray, ...], tuple[np.ndarray, ...]]:
    """Small gray copies (N, 1, h, w) uint8, and each way's features of the images and of mirrored ones."""
    small: list[np.ndarray] = []
    plain: list[tuple[np.ndarray, ...]] = []
    mirrored: list[tuple[np.ndarray, ...]] = []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        pixels = np.stack([archive.read_image(int(row)) for row in part])
        small.append(_small(pixels))
        plain.append(_features(pixels))
        mirrored.append(_features(np.ascontiguousarray(pixels[..., ::-1])))
        progress(start + len(part), len(rows), "real images")

    def joined(parts: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
        return tuple(np.concatenate(way) for way in zip(*parts, strict=True))

    return np.concatenate(small), joined(plain), joined(mirrored)


def _features(images: np.ndarray) -> tuple[np.ndarray, ...]:
    """(N, D) by each way of seeing."""
    return tuple(way.features(images) for way in WAYS)


def _small(pixels: np.ndarray) -> np.ndarray:
    """(N, C, H, W) to (N, 1, h, w) uint8, as small as pictures are laid over each other."""
    gray = pixels.mean(axis=1, keepdims=True)
    factor = max(1, round(gray.shape[-1] / COMPARED_SIDE))
    n, _, height, width = gray.shape
    blocks = gray.reshape(n, 1, height // factor, factor, width // factor, factor)
    return np.rint(blocks.mean(axis=(3, 5))).astype(np.uint8)
