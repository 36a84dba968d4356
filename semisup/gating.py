"""The gates of a run: its synthetic images held against the real ones that their generator saw.

What gates look at is fixed for the whole run: files, the copies measured with the pool, and the features of
the supervised model of round 0. So a gate does not move with the teacher, and every round of an arm chooses
among the same images.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from classifier.data import ImageTable
from semisup.gates import (
    MEMORISED,
    NUM_NEIGHBOURS,
    OFF_MANIFOLD,
    Gate,
    Gated,
    combine,
    memorised,
    near_duplicates,
    not_measured,
    off_manifold,
    same_picture,
    spread,
)
from semisup.pool_copies import PoolCopies, SeenImages

TOO_FEW_SUBJECTS = "the generator saw too few subjects to tell copies from people who look alike"


@dataclass(frozen=True)
class GateBasis:
    """What the gates of a run compare its synthetic images with."""

    seen: SeenImages
    copies: PoolCopies | None  # None where no gate asks for them


@dataclass(frozen=True)
class Synthetic:
    """The synthetic images of a pool."""

    images: ImageTable  # n of them
    rows: np.ndarray  # (n,) their places in the pool
    sha256: np.ndarray  # (n,) str
    num_images: int  # of the whole pool


def ask_gates(
    names: Sequence[str],
    synthetic: Synthetic,
    basis: GateBasis,
    val: ImageTable,
    features: Callable[[ImageTable], np.ndarray],
) -> Gated:
    """Ask the gates one after the other; real images of the pool pass them all.

    Args:
        names: settings of `pseudo.gates`, at least one.
        val: real validation images. They tell how often a gate is wrong, and have no part in its limit.
        features: of a model that is the same for the whole run, (N, D); asked where a gate needs them.
    """
    num = len(synthetic.rows)
    seen, copies = basis.seen, basis.copies
    row_of = {str(name): row for row, name in enumerate(seen.files)}

    def nearest(found: PoolCopies) -> np.ndarray:
        return np.array([row_of[str(name)] for name in found.nearest], dtype=np.int64)

    def ask(name: str) -> Gate:
        if name == "same_picture":
            return same_picture(synthetic.sha256.tolist(), seen.sha256.tolist())
        if name == "off_manifold":
            return _off_manifold(synthetic.images, seen.images, val, features)
        assert copies is not None
        limits = copies.limits
        if name == "near_duplicate":
            gate = near_duplicates(copies.correlations, nearest(copies), limits.min_correlation)
            return replace(gate, real_share=limits.judged_duplicate)
        assert name == "memorised"
        if limits.threshold is None:
            return not_measured(MEMORISED, num, TOO_FEW_SUBJECTS)
        gate = memorised(copies.scores, nearest(copies), limits.threshold)
        return replace(gate, real_share=limits.judged_memorised)

    gates = [spread(ask(name), synthetic.rows, synthetic.num_images) for name in names]
    return combine(gates, seen.files)


def _off_manifold(
    images: ImageTable, seen: ImageTable, val: ImageTable, features: Callable[[ImageTable], np.ndarray]
) -> Gate:
    if len(seen) <= NUM_NEIGHBOURS:
        why = f"the generator saw {len(seen)} images, and {NUM_NEIGHBOURS + 1} are needed"
        return not_measured(OFF_MANIFOLD, len(images), why)
    known = features(seen)
    gate = off_manifold(features(images), known)
    return replace(gate, real_share=float(off_manifold(features(val), known).is_out.mean()))
