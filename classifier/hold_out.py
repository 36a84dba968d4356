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
    held, shows, owner = draw_people(
        labels, owners, share, np.random.default_rng(derive_seed("hold out", seed))
    )
    occurs = shows.any(axis=0)  # (C,)
    for missing in np.flatnonzero(occurs & ~shows[~held].any(axis=0)):
        held[np.flatnonzero(held & shows[:, missing])[0]] = False
    if not held.any():
        raise ClassifierError(
            f"expected at least two people (groups) of one class, to hold one out for validation, got "
            f"{len(shows)} people in all with {int(occurs.sum())} classes; give more of them, or a "
            "validation part of your own"
        )
    return held[owner]


def draw_people(
    labels: np.ndarray, owners: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw a share of the people of each stratum: of those two or more at least one, and never all.

    Returns:
        (P,) bool, who was drawn; (P, C) bool, the classes that each person shows; (N,) int, the number of the
        person of each example. People are in the order of their names.
    """
    people, owner = np.unique(owners, return_inverse=True)
    shows = np.zeros((len(people), int(labels.max()) + 1), dtype=bool)
    shows[owner, labels] = True
    rarest = np.where(shows, shows.sum(axis=0), len(people) + 1).argmin(axis=1)  # (P,)
    drawn = np.zeros(len(people), dtype=bool)
    for stratum in np.unique(rarest):
        members = rng.permutation(np.flatnonzero(rarest == stratum))
        drawn[members[: min(max(1, round(share * len(members))), len(members) - 1)]] = True
    return drawn, shows, owner
