"""The endless order in which training images are shown, and the choice of a subset."""

from typing import Any

import numpy as np


class EndlessSampler:
    """Walks round and round a shuffled order that keeps changing a little behind the walker.

    After each step the entry just shown changes places with one among the half of the data shown before it,
    so that no two rounds are alike and yet an image never comes again at once.

    Args:
        size: number of images, at least 1.
        seed: of the shuffle and of the changes; the order is the official one for the same seed.
        rank, num_ranks: this process takes the positions congruent to `rank`, all walk the same order.
        shuffle: False = 0, 1, 2, ... for ever.
        window: how far back an entry may be sent, as a share of `size`.
    """

    def __init__(
        self,
        size: int,
        seed: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
        shuffle: bool = True,
        window: float = 0.5,
    ) -> None:
        if size < 1 or not 0 <= rank < num_ranks or not 0 <= window <= 1:
            raise ValueError(
                f"expected size >= 1, 0 <= rank < num_ranks, window in [0, 1]; got {size}, {rank} of "
                f"{num_ranks}, {window}"
            )
        self.rank, self.num_ranks, self.shuffle = rank, num_ranks, shuffle
        self.position = 0
        self.random = np.random.RandomState(seed)
        self.order = np.arange(size)
        if shuffle:
            self.random.shuffle(self.order)
        self.reach = int(np.rint(size * window)) if shuffle else 0

    def take(self, count: int) -> np.ndarray:
        """The next `count` indices of this rank, (count,) int64.

        All ranks walk equally far, so that after each call their order and position are the same.
        """
        taken: list[int] = []
        for _ in range(count * self.num_ranks):
            here = self.position % len(self.order)
            if self.position % self.num_ranks == self.rank:
                taken.append(int(self.order[here]))
            if self.reach >= 2:
                there = (here - self.random.randint(self.reach)) % len(self.order)
                self.order[here], self.order[there] = self.order[there], self.order[here]
            self.position += 1
        return np.array(taken, dtype=np.int64)

    def state(self) -> dict[str, Any]:
        """Order, position and generator: a sampler restored from it goes on with the same indices."""
        return {"order": self.order.copy(), "position": self.position, "random": self.random.get_state()}

    def restore(self, state: dict[str, Any]) -> None:
        self.order = np.asarray(state["order"], dtype=np.int64).copy()
        self.position = int(state["position"])
        self.random.set_state(state["random"])


def choose_subset(size: int, limit: int, seed: int) -> np.ndarray:
    """Indices of `limit` images out of `size`, sorted; all of them where limit >= size."""
    indices = np.arange(size)
    if limit < size:
        np.random.RandomState(seed).shuffle(indices)
        indices = np.sort(indices[:limit])
    return indices
