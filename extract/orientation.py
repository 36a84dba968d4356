"""Three letters for where the axes of an array run to, for files that do not say."""

from itertools import permutations

import numpy as np

from extract.errors import SettingsError

AXIS_OF_LETTER = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}


def check_orientation(orientation: str | None) -> None:
    """Raise SettingsError unless the text is three letters, one of R/L, one of A/P, one of S/I."""
    if orientation is None:
        return
    axes = {AXIS_OF_LETTER[letter][0] for letter in orientation.upper() if letter in AXIS_OF_LETTER}
    if len(orientation) != 3 or len(axes) != 3:
        raise SettingsError(
            f"--orientation must be three letters such as RAS, LAS or PSR (where each array axis runs to), "
            f"got {orientation!r}"
        )


def oriented_affine(orientation: str, spacings: np.ndarray) -> np.ndarray:
    """(4, 4) from an index to mm (RAS) for axes that run to the letters, the first voxel at the origin.

    Args:
        spacings: (3,) mm between neighbors along each axis.
    """
    check_orientation(orientation)
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    for column, letter in enumerate(orientation.upper()):
        axis, sign = AXIS_OF_LETTER[letter]
        affine[axis, column] = sign * spacings[column]
    return affine


def turn_to_ras(voxels: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Permute and flip the axes so that they run about to the right, to the front and upwards.

    Each array axis goes to the direction that it is nearest to, all three taken together. What obliqueness
    remains stays in the affine.

    Args:
        voxels: (I, J, K).
        affine: (4, 4) from an index to mm in RAS.

    Returns:
        The turned view of the voxels, and its affine.
    """
    cosines = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)  # (3 directions, 3 axes)
    order = max(permutations(range(3)), key=lambda axes: sum(abs(cosines[k, axes[k]]) for k in range(3)))
    matrix = affine[:, [*order, 3]].copy()
    turned = voxels.transpose(order)
    for axis in range(3):
        if matrix[axis, axis] < 0:
            matrix[:3, 3] += matrix[:3, axis] * (turned.shape[axis] - 1)
            matrix[:3, axis] *= -1
            turned = np.flip(turned, axis)
    return turned, matrix
