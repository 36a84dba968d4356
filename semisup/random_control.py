"""The control of a confidence rule: as many images of each predicted class, but drawn blindly."""

import numpy as np

from semisup.select import Selection

NOT_DRAWN = "not drawn"


def select_at_random(probs: np.ndarray, like: Selection, seed: int) -> Selection:
    """Draw as many images of each predicted class as another selection has, whatever their confidence.

    What a rule gains over this control comes from its choice of images, not from their number or classes.

    Args:
        probs: (N, C) of the pool that `like` was selected from.
        like: a selection from it.
        seed: of the draw; the same seed draws the same images.

    Raises:
        ValueError: if `like` has more images of a class than the pool has predictions of it.
    """
    labels, confidence = probs.argmax(axis=1), probs.max(axis=1)  # (N,), (N,)
    num_classes = probs.shape[1]
    wanted = np.bincount(like.labels, minlength=num_classes)  # (C,)
    rng = np.random.default_rng(seed)
    drawn = []
    for label, num_images in enumerate(wanted):
        rows = np.flatnonzero(labels == label)
        if num_images > len(rows):
            raise ValueError(
                f"expected at least {num_images} predictions of class {label}, got {len(rows)}: "
                "the selection to match belongs to another pool"
            )
        drawn.append(rng.permutation(rows)[:num_images])
    chosen = np.sort(np.concatenate(drawn))
    chosen = chosen[np.argsort(-confidence[chosen], kind="stable")]  # (K,)
    return Selection(
        chosen, labels[chosen], confidence[chosen], np.zeros(num_classes), NOT_DRAWN, note=like.note
    )
