"""The privacy audit: generated images held against those learned from and those never seen."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extract.errors import SettingsError
from extract.progress import Progress, no_progress
from extract.seeds import derive_seed
from gan.audit_inputs import (
    Generated,
    RealSides,
    read_generated,
    reals_of_network,
    reals_of_split,
    sample,
)
from gan.copies import Calibration, CopyScorer, Scores, calibrate, calibrate_within
from gan.errors import GanError
from gan.features import (
    FeatureExtractor,
    PixelExtractor,
    SpectrumExtractor,
    TaughtOnSubjects,
    extract_features,
)
from gan.gallery import Gallery, nearest, nearest_by_bundle
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
from gan.reference import refuse_taught

READ_BATCH = 64
NUM_NEIGHBORS = 1


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
        seeds: of the images, with `network`; a conditional one makes the classes as often as they are in
            the training part.
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
        reals = reals_of_network(network, data, split, fold, progress)
        generated = sample(network, seeds, reals, truncation_psi, noise_mode, batch_size, device, progress)
    else:
        assert fakes is not None
        if data is None:
            raise SettingsError(
                "--fakes: expected the archive that the generator learned from, got no --data"
            )
        reals = reals_of_split(data, split, fold, progress)
        generated = read_generated(fakes, progress)
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
                "copies were told by real images of each fifth of the training subjects held against the "
                "others, for want of enough held-out images"
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
        "more finely than other people; run the audit without --extractor as well"
    ]


class _Steps:
    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def add(self, count: int) -> None:
        self._done = min(self._done + count, self._total)
        self._progress(self._done, self._total, "images compared")
