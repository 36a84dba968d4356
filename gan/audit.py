"""The privacy audit: generated images held against those learned from and those never seen."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extract.archive import Archive, open_archive
from extract.cache import open_images
from extract.errors import SettingsError
from extract.png import encode_png
from extract.progress import Progress, no_progress
from extract.seeds import derive_seed
from extract.split import read_split
from gan.copies import Calibration, CopyScorer, Scores, calibrate, calibrate_within
from gan.errors import GanError
from gan.evaluation import find_reference, part_rows, refuse_taught
from gan.features import (
    FeatureExtractor,
    PixelExtractor,
    SpectrumExtractor,
    TaughtOnSubjects,
    extract_features,
)
from gan.gallery import Gallery, nearest, nearest_by_bundle
from gan.generate import check_sampling, open_sampler
from gan.privacy import (
    MIN_HELD_OUT_BUNDLES,
    MIN_HELD_OUT_IMAGES,
    CopyCount,
    Leaning,
    Verdict,
    bundle_subjects,
    count_copies,
    judge,
    leaning,
)
from gan.snapshot import read_snapshot, refuse_overlap

READ_BATCH = 64
NUM_NEIGHBORS = 1


@dataclass(frozen=True)
class Generated:
    """The images under audit."""

    images: np.ndarray  # (n, C, H, W) uint8
    files: list[str]
    sha256: list[str]  # of the PNG bytes: what manifests and ledgers know an image by
    seeds: list[str]  # empty where unknown
    source: Path  # snapshot or archive
    snapshot_sha256: str  # empty where unknown


@dataclass(frozen=True)
class RealSides:
    """The real images on both sides of the question."""

    archive_path: Path
    archive_sha256: str
    images: np.ndarray  # (M, C, H, W) uint8, all of the archive
    files: list[str]  # of all
    subjects: np.ndarray  # (M,) str
    train: np.ndarray  # rows that the generator learned from
    held_out: np.ndarray  # rows that it never saw; may be empty
    split_sha256: str | None
    fold: int | None


@dataclass(frozen=True)
class Neighbors:
    """For each image looked up: the nearest real image by the extractor."""

    places: np.ndarray  # (n,) in the gallery
    distances: np.ndarray  # (n,)


@dataclass(frozen=True)
class Audit:
    """All that was found; `gan.audit_report` writes it down."""

    generated: Generated
    reals: RealSides
    extractor: str
    weights_sha256: str
    train: Gallery
    held_out: Gallery | None
    to_train: Neighbors
    to_held_out: Neighbors | None
    authentic: np.ndarray  # (n,) bool
    authentic_held_out: float | None  # share of the held-out images that would pass as authentic
    scores: Scores
    calibration: Calibration | None
    copies: CopyCount | None
    leaning: Leaning | None
    verdict: Verdict
    notes: list[str]

    @property
    def flagged(self) -> np.ndarray:
        """(n,) bool."""
        if self.calibration is None:
            return np.zeros(len(self.scores.values), dtype=bool)
        return self.scores.values < self.calibration.threshold


def audit(
    extractor: FeatureExtractor,
    *,
    network: Path | None = None,
    seeds: Sequence[int] = (),
    fakes: Path | None = None,
    data: Path | None = None,
    split: Path | None = None,
    fold: int | None = None,
    mirror: bool = True,
    truncation_psi: float = 1.0,
    noise_mode: str = "const",
    batch_size: int = 32,
    device: str = "cpu",
    seed: int = 0,
    progress: Progress = no_progress,
) -> Audit:
    """Audit the images that `gan generate` would make of these seeds, or those of an archive.

    Args:
        extractor: nearest neighbours are found by its features, and by plain intensities as well.
        network: a snapshot or run folder; archive, split and fold are then looked up beside it.
        seeds: of the images, with `network`.
        fakes: an archive of generated images instead; `data` (and, for held-out images, `split` and `fold`)
            must then be those of the generator.
        mirror: a mirrored copy is a copy.
        seed: of the draws behind intervals.

    Raises:
        SettingsError, GanError, ExtractError: if the parts do not fit together.
    """
    if (network is None) == (fakes is None):
        raise SettingsError(
            "expected either --network with --seeds or --fakes ARCHIVE.zip, got both or neither"
        )
    notes: list[str] = []
    if network is not None:
        reals = _reals_of_network(network, data, split, fold, progress)
        generated = _sample(network, seeds, truncation_psi, noise_mode, batch_size, device, progress)
    else:
        assert fakes is not None
        if data is None:
            raise SettingsError(
                "--fakes: expected the archive that the generator learned from, got no --data"
            )
        reals = _reals_of_split(data, split, fold, progress)
        generated = _read_archive(fakes, progress)
        notes.append(
            "that the generator learned from this archive"
            + ("" if split is None else " and fold")
            + " was taken from the command line; with --network it is read from the snapshot"
        )
    if generated.images.shape[1:] != reals.images.shape[1:]:
        raise GanError(
            f"{generated.source}: expected images of shape {reals.images.shape[1:]} (C, H, W) as in "
            f"{reals.archive_path}, got {generated.images.shape[1:]}; take the archive it was trained on"
        )
    notes += _check_extractor(extractor, reals)
    return _audit(generated, reals, extractor, mirror, seed, notes, progress)


def _audit(
    generated: Generated,
    reals: RealSides,
    extractor: FeatureExtractor,
    mirror: bool,
    seed: int,
    notes: list[str],
    progress: Progress,
) -> Audit:
    pixels, spectrum = PixelExtractor(), SpectrumExtractor()
    ways: tuple[FeatureExtractor, ...] = (extractor, pixels, spectrum)
    if extractor.name == pixels.name:
        ways = (extractor, spectrum)
    num = len(generated.files)
    num_real = (len(reals.train) + len(reals.held_out)) * (1 + mirror)
    steps = _Steps(progress, (num + num_real) * len(ways) + num + len(reals.held_out))

    def read(places: np.ndarray) -> np.ndarray:
        return generated.images[places]

    def look(read_images: Callable[[np.ndarray], np.ndarray], count: int) -> tuple[np.ndarray, ...]:
        return tuple(
            extract_features(way.features, count, read_images, READ_BATCH, steps.add) for way in ways
        )

    train = _gallery(reals, reals.train, mirror, look)
    held_out = _gallery(reals, reals.held_out, mirror, look) if len(reals.held_out) else None
    seen = look(read, num)

    to_train = _neighbors(train, seen)
    own_radius = _own_radius(train, to_train.places)
    scorer = CopyScorer(train)
    scores = scorer.score(read, seen, steps.add)
    random = np.random.default_rng(derive_seed("privacy audit", seed))
    calibration, copies, lean, to_held_out, baseline = None, None, None, None, None
    why_not = "the generator saw every image of the archive; train it with --split and --fold"
    if held_out is not None:
        to_held_out = _neighbors(held_out, seen)
        unseen = [rows[: len(held_out)] for rows in held_out.features]
        theirs = _neighbors(train, unseen)
        baseline = float((theirs.distances > _own_radius(train, theirs.places)).mean())
        num_subjects = len(np.unique(held_out.groups))
        why_not = (
            f"too few held-out images ({len(held_out)} of {num_subjects} subjects; at least "
            f"{MIN_HELD_OUT_IMAGES} of {MIN_HELD_OUT_BUNDLES} subjects are needed)"
        )
        if len(held_out) >= MIN_HELD_OUT_IMAGES and num_subjects >= MIN_HELD_OUT_BUNDLES:
            real_scores = scorer.score(held_out.pixels, unseen, steps.add)
            calibration = calibrate(real_scores.values, held_out.groups)
            notes += _lookalike_note(calibration, real_scores, reals, train)
            lean = _leaning(train, held_out, seen[0], random)
            if lean is None:
                why_not = f"too few training subjects ({len(np.unique(train.groups))})"
    if calibration is None:
        calibration = calibrate_within(train, random)
        if calibration is None:
            why_not += "; and too few training subjects to tell copies by"
        else:
            notes.append(
                "copies were told by real images of one half of the training subjects held against the other "
                "half, for want of enough held-out images"
            )
    if calibration is not None:
        copies = count_copies(scores.values, calibration)
    return Audit(
        generated=generated,
        reals=reals,
        extractor=extractor.name,
        weights_sha256=extractor.weights_sha256,
        train=train,
        held_out=held_out,
        to_train=to_train,
        to_held_out=to_held_out,
        authentic=to_train.distances > own_radius,
        authentic_held_out=baseline,
        scores=scores,
        calibration=calibration,
        copies=copies,
        leaning=lean,
        verdict=judge(copies, lean, why_not),
        notes=notes,
    )


def _gallery(
    reals: RealSides,
    rows: np.ndarray,
    mirror: bool,
    look: Callable[[Callable[[np.ndarray], np.ndarray], int], tuple[np.ndarray, ...]],
) -> Gallery:
    names = reals.subjects[rows]
    groups = np.unique(names, return_inverse=True)[1].astype(np.int64)
    if (names == "").any():  # an official archive: every image for itself
        groups = np.arange(len(rows), dtype=np.int64)
    bare = Gallery(reals.images, rows, groups, (), mirror)
    return Gallery(reals.images, rows, groups, look(bare.pixels, len(rows) * (1 + mirror)), mirror)


def _neighbors(gallery: Gallery, queries: Sequence[np.ndarray]) -> Neighbors:
    first_way = Gallery(gallery.images, gallery.rows, gallery.groups, gallery.features[:1], gallery.mirror)
    places, distances = nearest(first_way, queries[:1], NUM_NEIGHBORS)
    return Neighbors(places[:, 0], distances)


def _own_radius(gallery: Gallery, places: np.ndarray) -> np.ndarray:
    """Distance of the training images at `places` to the nearest image of another subject.

    Source: the radius of authenticity, Alaa et al. 2022, arXiv:2102.08921, Section 3; another subject rather
    than another image, because neighbouring slices of one person are nearly the same picture.
    """
    first_way = Gallery(gallery.images, gallery.rows, gallery.groups, gallery.features[:1], gallery.mirror)
    asked, of_place = np.unique(places, return_inverse=True)
    _, distances = nearest(first_way, [gallery.features[0][asked]], NUM_NEIGHBORS, gallery.group_of(asked))
    return distances[of_place]


def _leaning(
    train: Gallery, held_out: Gallery, seen: np.ndarray, random: np.random.Generator
) -> Leaning | None:
    of_train, of_held_out, size = bundle_subjects(train.groups, held_out.groups, random)
    num_train, num_held_out = int(of_train.max()) + 1, int(of_held_out.max()) + 1
    if min(num_train, num_held_out) < MIN_HELD_OUT_BUNDLES:
        return None
    return leaning(
        nearest_by_bundle(train, seen, of_train, num_train),
        nearest_by_bundle(held_out, seen, of_held_out, num_held_out),
        size,
        random,
    )


def _lookalike_note(calibration: Calibration, scores: Scores, reals: RealSides, train: Gallery) -> list[str]:
    if len(calibration.lookalikes) == 0:
        return []
    worst = int(calibration.lookalikes[scores.values[calibration.lookalikes].argmin()])
    twin = int(train.rows[scores.places[worst] % len(train)])
    return [
        f"{len(calibration.lookalikes)} held-out images look like copies of training images, as "
        f"{reals.files[reals.held_out[worst]]} (subject {reals.subjects[reals.held_out[worst]]}) like "
        f"{reals.files[twin]} (subject {reals.subjects[twin]}): one person under two names? They were left "
        "out of the calibration"
    ]


def _reals_of_network(
    network: Path, data: Path | None, split: Path | None, fold: int | None, progress: Progress
) -> RealSides:
    snapshot = read_snapshot(network)
    reference = find_reference(snapshot, data, None, split, fold, None)
    reals = _reals_of_split(reference.data, reference.split, reference.fold, progress)
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
    return reals


def _reals_of_split(data: Path, split: Path | None, fold: int | None, progress: Progress) -> RealSides:
    with open_archive(data) as archive:
        folds = None if split is None else read_split(split, archive)
        if folds is None and fold is not None:
            raise SettingsError(f"--fold={fold}: expected the split it belongs to, got none; give --split")
        if folds is None:
            train = np.flatnonzero((archive.manifest["origin"] != "synthetic").to_numpy())
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
            files=archive.manifest["file"].tolist(),
            subjects=archive.subjects,
            train=train,
            held_out=held_out,
            split_sha256=None if folds is None else folds.sha256,
            fold=None if folds is None else fold or 0,
        )


def _check_extractor(extractor: FeatureExtractor, reals: RealSides) -> list[str]:
    """A task network must not have learned from the held-out side: it would see that side more sharply."""
    if not isinstance(extractor, TaughtOnSubjects) or len(reals.held_out) == 0:
        return []
    held_out = {str(name) for name in reals.subjects[reals.held_out]}
    # Subjects that only chose its checkpoint are let pass: its features were not fitted to them.
    others = sorted(held_out - set(extractor.val_subjects))
    refuse_taught({extractor.name: extractor}, others, reals.archive_sha256, "the held-out images")
    return [
        f"the features of '{extractor.name}' were learned on the training part, which they may tell apart "
        "more finely than other people; run the audit with --extractor pixels as well"
    ]


def _sample(
    network: Path,
    seeds: Sequence[int],
    truncation_psi: float,
    noise_mode: str,
    batch_size: int,
    device: str,
    progress: Progress,
) -> Generated:
    snapshot = read_snapshot(network)
    if snapshot.classes:
        raise SettingsError(
            f"--network={snapshot.path}: expected an unconditional generator, got one with classes; make "
            "an archive with gan generate --class and audit it with --fakes"
        )
    check_sampling(seeds, noise_mode, batch_size, truncation_psi)
    sampler = open_sampler(network, device=device)
    images = np.empty((len(seeds), *snapshot.image_shape), dtype=np.uint8)
    done = 0
    for part, pixels in sampler.batches(seeds, truncation_psi, noise_mode, batch_size):
        images[done : done + len(part)] = pixels
        done += len(part)
        progress(done, len(seeds), "images sampled")
    hashes = [hashlib.sha256(encode_png(_as_stored(image))).hexdigest() for image in images]
    files = [f"seed{seed:04d}.png" for seed in seeds]
    return Generated(images, files, hashes, [str(seed) for seed in seeds], snapshot.path, snapshot.sha256)


def _as_stored(image: np.ndarray) -> np.ndarray:
    return image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))


def _read_archive(fakes: Path, progress: Progress) -> Generated:
    with open_archive(fakes) as archive:
        manifest = archive.manifest
        snapshots = set(manifest["snapshot_sha256"])
        return Generated(
            images=open_images(archive, progress),
            files=manifest["file"].tolist(),
            sha256=_hashes(archive),
            seeds=manifest["seed"].tolist(),
            source=fakes,
            snapshot_sha256=snapshots.pop() if len(snapshots) == 1 else "",
        )


def _hashes(archive: Archive) -> list[str]:
    return [str(value) for value in archive.manifest["sha256"]]


class _Steps:
    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def add(self, count: int) -> None:
        self._done = min(self._done + count, self._total)
        self._progress(self._done, self._total, "images compared")
