"""A validation part drawn from labeled examples: whole people, spread over the classes."""

from __future__ import annotations

import numpy as np

from classifier.errors import ClassifierError
from extract.seeds import derive_seed


def draw_hold_out(labels: np.ndarray, owners: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Choose the examples to hold out for validation, a person's all together.

    A person belongs to the stratum of the rarest class (held by the fewest people) among their examples.
    Every stratum gives the share of its people, at least one where it has two, and every class stays
    with somebody who is not held out.

    Args:
        labels: (N,) int classes, none unlabeled.
        owners: (N,) whom each example shows; all different where nobody has two.
        share: of the people, in (0, 1).

    Returns:
        (N,) bool, True where held out; the same for the same seed whatever the order of the examples.

    Raises:
        ClassifierError: if nothing can be held out without taking a class from the others.
    """
    people, owner = np.unique(owners, return_inverse=True)
    shows = np.zeros((len(people), int(labels.max()) + 1), dtype=bool)  # (P, C)
    shows[owner, labels] = True
    num_holders = shows.sum(axis=0)  # (C,)
    rarest = np.where(shows, num_holders, len(people) + 1).argmin(axis=1)  # (P,)
    rng = np.random.default_rng(derive_seed("hold out", seed))
    held = np.zeros(len(people), dtype=bool)
    for stratum in np.unique(rarest):
        members = rng.permutation(np.flatnonzero(rarest == stratum))
        held[members[: min(max(1, round(share * len(members))), len(members) - 1)]] = True
    for missing in np.flatnonzero((num_holders > 0) & ~shows[~held].any(axis=0)):
        held[np.flatnonzero(held & shows[:, missing])[0]] = False
    if not held.any():
        raise ClassifierError(
            f"expected at least two people (groups) of one class, to hold one out for validation, got "
            f"{len(people)} people in all with {int((num_holders > 0).sum())} classes; give more of them, or "
            "a validation part of your own"
        )
    return held[owner]
