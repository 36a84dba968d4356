"""Real images that others are looked up in: nearest neighbours, mirrored copies included."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gan.metrics import squared_distances

BLOCK = 256  # images looked up at a time


@dataclass(frozen=True)
class Gallery:
    """Images with their features; place N + i of a mirrored gallery is image i seen in a mirror."""

    images: np.ndarray  # (M, C, H, W) uint8, on disk
    rows: np.ndarray  # (N,) the images that belong to it
    groups: np.ndarray  # (N,) int64, one number a subject; one an image where subjects are unknown
    features: tuple[np.ndarray, ...]  # each (N or 2 N, D), a way of seeing them
    mirror: bool

    def __len__(self) -> int:
        return len(self.rows)

    def pixels(self, places: np.ndarray) -> np.ndarray:
        """(n, C, H, W) uint8, mirrored where the place says so."""
        batch = np.ascontiguousarray(self.images[self.rows[places % len(self.rows)]])
        mirrored = places >= len(self.rows)
        if mirrored.any():
            batch[mirrored] = batch[mirrored][..., ::-1]
        return batch

    def group_of(self, places: np.ndarray) -> np.ndarray:
        return self.groups[places % len(self.rows)]

    def subset(self, keep: np.ndarray) -> "Gallery":
        """The images at `keep` (N,) bool."""
        twice = np.concatenate([keep, keep]) if self.mirror else keep
        features = tuple(rows[twice] for rows in self.features)
        return Gallery(self.images, self.rows[keep], self.groups[keep], features, self.mirror)


def nearest(
    gallery: Gallery, queries: Sequence[np.ndarray], num: int, groups: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The `num` nearest places by each way of seeing, most alike first.

    Args:
        queries: the features (n, D) of the images looked up, in the order of `gallery.features`.
        groups: (n,) subjects of the queries, whose own images do not count; None = all count.

    Returns:
        Places (n, num * ways) int64, the first `num` by the first way; distances (n,) to the first place.
        A place may be of an own image only where there are too few others; its distance is then infinite.
    """
    all_places, first = [], np.empty(len(queries[0]))
    for way, (rows, known) in enumerate(zip(queries, gallery.features, strict=True)):
        num_taken = min(num, len(known))
        places = np.empty((len(rows), num_taken), dtype=np.int64)
        for start in range(0, len(rows), BLOCK):
            block = slice(start, start + BLOCK)
            squared = squared_distances(rows[block], known)
            if groups is not None:
                own = groups[block, None] == gallery.group_of(np.arange(len(known)))[None]
                squared[own] = np.inf
            found = np.argpartition(squared, num_taken - 1, axis=1)[:, :num_taken]
            values = np.take_along_axis(squared, found, axis=1)
            order = np.argsort(values, axis=1, kind="stable")
            places[block] = np.take_along_axis(found, order, axis=1)
            if way == 0:
                first[block] = np.sqrt(np.take_along_axis(values, order, axis=1)[:, 0])
        all_places.append(places)
    return np.concatenate(all_places, axis=1), first


def nearest_by_bundle(gallery: Gallery, queries: np.ndarray, bundles: np.ndarray, num: int) -> np.ndarray:
    """Distances (n, num) to the nearest image of each bundle of subjects, by the first way of seeing.

    Args:
        bundles: (N,) the bundle of each image in 0 ... num - 1; -1 = in none.
    """
    distances = np.full((len(queries), num), np.inf, dtype=np.float32)
    known = gallery.features[0]
    of_place = bundles[np.arange(len(known)) % len(gallery)]
    members = [np.flatnonzero(of_place == bundle) for bundle in range(num)]
    for start in range(0, len(queries), BLOCK):
        block = slice(start, start + BLOCK)
        squared = squared_distances(queries[block], known)
        for bundle, places in enumerate(members):
            distances[block, bundle] = np.sqrt(squared[:, places].min(axis=1))
    return distances
