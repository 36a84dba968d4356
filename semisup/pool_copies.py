"""Which images of a pool are copies of what its generator saw: measured once a pool, and kept beside it.

The measure is that of `gan audit` (gan/copies.py), which finds copies that are shifted by a few pixels,
mirrored, or of another brightness: a plain correlation of pixels misses two thirds of the chest X-rays that
are moved by one pixel, since it must let pass people who are more alike than that. The limits come from the
generator's own training images alone: a fifth of the subjects at a time stands for people who were never
seen. The validation images only tell how often the limits are wrong.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from classifier.data import ImageTable
from extract.atomic import replace_file
from extract.progress import Progress, no_progress
from extract.seeds import derive_seed
from semisup.errors import StudyError

if TYPE_CHECKING:
    from gan.copies import StandIns

COPIES_FILE = "copies.parquet"
METADATA_KEY = b"synthlabel_copies"  # in the file's metadata: the limits, and what they rest on
MOST_STAND_INS = 200  # images of each fifth of the subjects that the limits are drawn from
MOST_JUDGED = 1000  # validation images that tell how often the limits are wrong
READ_BATCH = 64
# Of the limits that real images of other people set, towards the same picture: such images are few, the next
# one may be more alike, and true copies lie far beyond (scores to 0.5 where people begin at 0.75).
MARGIN = 0.9
# No pair of pictures below this correlation is called a duplicate, however little people are alike otherwise.
LEAST_CORRELATION = 0.9
UNCALIBRATED_CORRELATION = 0.99  # the limit where there are too few subjects to compare


@dataclass(frozen=True)
class CopyLimits:
    """From where on an image is a copy, and what that rests on."""

    threshold: float | None  # copy score below which it is memorised; None = too few subjects to tell
    min_correlation: float  # at which it is a near duplicate
    num_images: int  # real ones that stood for people never seen; 0 = too few subjects
    num_subjects: int
    num_judged: int  # validation images
    judged_memorised: float | None  # share of them that would be called so; None = without a threshold
    judged_duplicate: float | None


@dataclass(frozen=True)
class PoolCopies:
    """How much like a training image each of the N images of a pool is."""

    files: np.ndarray  # (N,) str, of the pool
    image_sha256: np.ndarray  # (N,) str
    scores: np.ndarray  # (N,) float: 0 = the same picture, 1 = as alike as two people
    correlations: np.ndarray  # (N,) float, over small shifts
    nearest: np.ndarray  # (N,) str, training image of that score, a name in the study's archive
    limits: CopyLimits
    archive_sha256: str  # of the pool

    @property
    def is_memorised(self) -> np.ndarray:
        """(N,) bool."""
        threshold = self.limits.threshold
        return np.zeros(len(self.scores), dtype=bool) if threshold is None else self.scores < threshold

    @property
    def is_duplicate(self) -> np.ndarray:
        """(N,) bool."""
        return self.correlations >= self.limits.min_correlation


@dataclass(frozen=True)
class SeenImages:
    """The M real training images that a generator saw: what its own images are compared with."""

    images: ImageTable
    rows: np.ndarray  # (M,) int64, of the archive
    files: np.ndarray  # (M,) str
    sha256: np.ndarray  # (M,) str
    subjects: np.ndarray  # (M,) str


def measure_copies(
    pool: np.ndarray,
    files: np.ndarray,
    image_sha256: np.ndarray,
    seen: SeenImages,
    all_images: np.ndarray,
    judged: np.ndarray,
    archive_sha256: str,
    progress: Progress = no_progress,
) -> PoolCopies:
    """Hold the images of a pool against those that its generator saw.

    Args:
        pool: (N, C, H, W) uint8; `files` and `image_sha256` (N,) its names and hashes.
        seen: at least one image.
        all_images: (A, C, H, W) uint8, the archive that `seen` belongs to.
        judged: rows of it, validation images; they have no part in the limits.
        archive_sha256: of the pool.
    """
    from gan.copies import CopyScorer, stand_ins
    from gan.gallery import Gallery

    random = np.random.default_rng(derive_seed("copies of a pool", archive_sha256))
    judged = np.sort(random.permutation(judged)[:MOST_JUDGED])
    total = len(pool) + len(judged) + 5 * MOST_STAND_INS
    done = 0

    def report(count: int) -> None:
        nonlocal done
        done = min(done + count, total)
        progress(done, total, "looking for copies of training images")

    groups = np.unique(seen.subjects, return_inverse=True)[1].astype(np.int64)
    bare = Gallery(all_images, seen.rows, groups, (), mirror=True)
    gallery = Gallery(all_images, seen.rows, groups, _look(bare.pixels, 2 * len(seen.rows)), mirror=True)
    limits = _limits(stand_ins(gallery, random, MOST_STAND_INS, report))
    scorer = CopyScorer(gallery)

    def score(images: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        def read(places: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(images[rows[places]])

        found = scorer.score(read, _look(read, len(rows)), report)
        return found.values, found.correlations, found.places % len(seen.rows)

    if len(judged):
        scores, correlations, _ = score(all_images, judged)
        limits = CopyLimits(
            **{
                **asdict(limits),
                "num_judged": len(judged),
                "judged_memorised": None
                if limits.threshold is None
                else float((scores < limits.threshold).mean()),
                "judged_duplicate": float((correlations >= limits.min_correlation).mean()),
            }
        )
    scores, correlations, places = score(pool, np.arange(len(pool)))
    return PoolCopies(files, image_sha256, scores, correlations, seen.files[places], limits, archive_sha256)


def _look(read: Callable[[np.ndarray], np.ndarray], count: int) -> tuple[np.ndarray, ...]:
    """By what the most alike training images are looked up, each (count, D)."""
    from gan.features import PixelExtractor, SpectrumExtractor, extract_features

    def contrast(images: np.ndarray) -> np.ndarray:
        # Plain intensities would look among equally bright pictures, and miss a copy that was brightened.
        rows = PixelExtractor().features(images)
        rows = rows - rows.mean(axis=1, keepdims=True)
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)

    return tuple(
        extract_features(way, count, read, READ_BATCH) for way in (contrast, SpectrumExtractor().features)
    )


def _limits(unseen: "StandIns | None") -> CopyLimits:
    """Limits a little beyond those that one in a thousand real images of other people oversteps."""
    from gan.copies import QUANTILE, calibrate

    if unseen is None:
        return CopyLimits(None, UNCALIBRATED_CORRELATION, 0, 0, 0, None, None)
    calibration = calibrate(unseen.scores, unseen.groups)
    kept = unseen.correlations[~unseen.is_lookalike]
    highest = float(np.quantile(kept, 1 - QUANTILE, method="higher"))
    return CopyLimits(
        MARGIN * calibration.threshold,
        min(max(1 - MARGIN * (1 - highest), LEAST_CORRELATION), 1.0),
        calibration.num_images,
        calibration.num_groups,
        0,
        None,
        None,
    )


def write_copies(copies: PoolCopies, path: Path) -> None:
    """Write one row an image of the pool, whole or not at all."""
    table = pa.Table.from_pandas(
        pd.DataFrame(
            {
                "file": copies.files,
                "sha256": copies.image_sha256,
                "copy_score": copies.scores,
                "correlation": copies.correlations,
                "copy_of": copies.nearest,
                "is_memorised": copies.is_memorised,
                "is_near_duplicate": copies.is_duplicate,
            }
        ),
        preserve_index=False,
    )
    described = {"archive_sha256": copies.archive_sha256, **asdict(copies.limits)}
    metadata = {**(table.schema.metadata or {}), METADATA_KEY: json.dumps(described).encode()}
    with replace_file(path) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary)


def read_copies(path: Path, archive_sha256: str) -> PoolCopies | None:
    """Read them back; None where they were never measured, or for another archive of images.

    Raises:
        StudyError: if the file is damaged.
    """
    if not path.exists():
        return None
    try:
        table = pq.read_table(path)
        described = json.loads((table.schema.metadata or {})[METADATA_KEY])
        if described.pop("archive_sha256") != archive_sha256:
            return None
        columns = table.to_pandas()
        return PoolCopies(
            columns["file"].to_numpy(str),
            columns["sha256"].to_numpy(str),
            columns["copy_score"].to_numpy(np.float64),
            columns["correlation"].to_numpy(np.float64),
            columns["copy_of"].to_numpy(str),
            CopyLimits(**described),
            archive_sha256,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(
            f"{path}: expected the table of copies of a pool, got a file that cannot be read "
            f"({' '.join(str(error).split())}); remove it, and it is measured again"
        ) from error
