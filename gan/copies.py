"""Which images are copies of training images: a rule calibrated on real images of other people."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from gan.alignment import best_correlation
from gan.gallery import Gallery, nearest

NUM_CANDIDATES = 8  # training images that each picture is laid over, by each way of seeing
FLOOR = 1e-4  # of 1 - correlation: two pictures that differ by rounding alone
QUANTILE = 0.001  # share of unseen people's real images that may look like copies
CLEAR = 0.5  # times the threshold: below it no second glance is needed
LOOKALIKE = 1 / 3  # of the median score: a held-out image below it is a training image in disguise
PAIRS_AT_ONCE = 512
NUM_FIFTHS, MOST_PER_FIFTH = 5, 1000  # parts of the training subjects, and images of a part


@dataclass(frozen=True)
class Scores:
    """How much like a copy each image is: 1 = as near as another person's image, 0 = the same picture."""

    values: np.ndarray  # (n,)
    places: np.ndarray  # (n,) the training image it is most like, a place of the gallery
    correlations: np.ndarray  # (n,) with that image, over small shifts


@dataclass(frozen=True)
class Calibration:
    """What real images of people whom the generator never saw score."""

    threshold: float  # below it an image is flagged
    num_images: int
    num_groups: int  # subjects
    median: float
    lowest: float
    false_alarms: float  # share flagged when each subject is judged by the threshold of the others
    lookalikes: np.ndarray  # places of held-out images left out: the same person or picture on both sides


class CopyScorer:
    """Scores pictures against a gallery; what a training image is like itself is worked out once.

    The score of a picture against a training image is sqrt((1 - r) / (1 - r')): r is their correlation over
    small shifts, r' that of the training image with the most similar image of another subject. The smallest
    score over the candidates counts. Dark or plain images are alike between people, so a fixed limit of r
    would flag those and miss copies of the others.
    """

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery
        self._unlikeness = np.full(len(gallery), np.nan)  # (N,) 1 - r' of each, where needed so far

    def score(
        self,
        pixels: Callable[[np.ndarray], np.ndarray],
        features: Sequence[np.ndarray],
        report: Callable[[int], None] = lambda count: None,
    ) -> Scores:
        """Score n pictures.

        Args:
            pixels: places (m,) in 0 ... n - 1 to images (m, C, H, W) uint8.
            features: each (n, D), in the order of the gallery's.
            report: told how many pictures are done.
        """
        candidates, ratios, correlations = self.weigh(pixels, features, report)
        best = ratios.argmin(axis=1)
        rows = np.arange(len(best))
        return Scores(ratios[rows, best], candidates[rows, best], correlations[rows, best])

    def weigh(
        self,
        pixels: Callable[[np.ndarray], np.ndarray],
        features: Sequence[np.ndarray],
        report: Callable[[int], None] = lambda count: None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Place, score and correlation of each candidate of n pictures, (n, K) each; a place may come twice.

        Args:
            pixels, features, report: as in `score`.
        """
        candidates, _ = nearest(self.gallery, features, NUM_CANDIDATES)  # (n, K)
        self._work_out(np.unique(candidates % len(self.gallery)))
        correlations = _correlations(pixels, self.gallery, candidates, report)
        own = self._unlikeness[candidates % len(self.gallery)]
        return candidates, np.sqrt((1 - correlations + FLOOR) / (own + FLOOR)), correlations

    def _work_out(self, images: np.ndarray) -> None:
        images = images[np.isnan(self._unlikeness[images])]
        if len(images) == 0:
            return
        gallery = self.gallery
        groups = gallery.groups[images]
        features = [rows[images] for rows in gallery.features]
        candidates, _ = nearest(gallery, features, NUM_CANDIDATES, groups)
        correlations = _correlations(
            lambda places: gallery.pixels(images[places]), gallery, candidates, lambda count: None
        )
        correlations[gallery.group_of(candidates) == groups[:, None]] = 0  # nobody else to be like
        self._unlikeness[images] = 1 - correlations.max(axis=1)


def _correlations(
    pixels: Callable[[np.ndarray], np.ndarray],
    gallery: Gallery,
    candidates: np.ndarray,
    report: Callable[[int], None],
) -> np.ndarray:
    num, num_candidates = candidates.shape
    found = np.empty((num, num_candidates))
    step = max(1, PAIRS_AT_ONCE // num_candidates)
    for start in range(0, num, step):
        places = np.arange(start, min(start + step, num))
        first = np.repeat(pixels(places), num_candidates, axis=0)
        second = gallery.pixels(candidates[places].ravel())
        found[places] = best_correlation(first, second).reshape(len(places), num_candidates)
        report(len(places))
    return found


def calibrate(scores: np.ndarray, groups: np.ndarray) -> Calibration:
    """The threshold that all but one in a thousand of these real images stay above.

    Args:
        scores: (n,) of real images of subjects whom the gallery does not hold.
        groups: (n,) their subjects.
    """
    median = float(np.median(scores))
    is_lookalike = scores < LOOKALIKE * median
    kept, kept_groups = scores[~is_lookalike], groups[~is_lookalike]
    alarms = 0
    for group in np.unique(kept_groups):
        others = kept[kept_groups != group]
        if len(others):
            alarms += int((kept[kept_groups == group] < np.quantile(others, QUANTILE)).sum())
    return Calibration(
        threshold=float(np.quantile(kept, QUANTILE)),
        num_images=len(kept),
        num_groups=len(np.unique(kept_groups)),
        median=median,
        lowest=float(kept.min()),
        false_alarms=alarms / len(kept),
        lookalikes=np.flatnonzero(is_lookalike),
    )


@dataclass(frozen=True)
class StandIns:
    """Training images of people who were held back in turn, held against those of the others."""

    scores: np.ndarray  # (n,)
    correlations: np.ndarray  # (n,)
    groups: np.ndarray  # (n,) their subjects

    @property
    def is_lookalike(self) -> np.ndarray:
        """(n,) bool: the same person or picture under two names."""
        return self.scores < LOOKALIKE * np.median(self.scores)


def calibrate_within(gallery: Gallery, random: np.random.Generator) -> Calibration | None:
    """Calibrate without held-out images: each fifth of the training subjects stands for people never seen.

    None where there are too few subjects to do so.
    """
    unseen = stand_ins(gallery, random)
    return None if unseen is None else calibrate(unseen.scores, unseen.groups)


def stand_ins(
    gallery: Gallery,
    random: np.random.Generator,
    most_per_fifth: int = MOST_PER_FIFTH,
    report: Callable[[int], None] = lambda count: None,
) -> StandIns | None:
    """Score training images as if their subjects had not been seen, a fifth of the subjects at a time.

    Args:
        most_per_fifth: images of a fifth, drawn at random where there are more.
        report: told how many are done.

    Returns:
        None where there are too few subjects to do so.
    """
    subjects = random.permutation(np.unique(gallery.groups))
    if len(subjects) < 2 * NUM_FIFTHS:
        return None
    scores, correlations, groups = [], [], []
    for fifth in range(NUM_FIFTHS):
        unseen = np.isin(gallery.groups, subjects[fifth::NUM_FIFTHS])
        asked = np.flatnonzero(unseen)
        asked = np.sort(random.choice(asked, min(len(asked), most_per_fifth), replace=False))
        held_back = gallery.subset(np.isin(np.arange(len(gallery)), asked))
        features = [rows[: len(held_back)] for rows in held_back.features]
        found = CopyScorer(gallery.subset(~unseen)).score(held_back.pixels, features, report)
        scores.append(found.values)
        correlations.append(found.correlations)
        groups.append(gallery.groups[asked])
    return StandIns(np.concatenate(scores), np.concatenate(correlations), np.concatenate(groups))
