"""Values of a plane anywhere in a volume, trilinearly, straight from the voxels as they are stored."""

import numpy as np
from scipy import ndimage

UPRIGHT_WITHIN = 0.01  # voxels by which a pixel may be off if a plane counts as standing on an axis


def sample_plane(
    voxels: np.ndarray,
    middle: np.ndarray,
    right: np.ndarray,
    down: np.ndarray,
    ticks: np.ndarray,
    fill: float = 0.0,
) -> np.ndarray:
    """Sample a plane by the fastest way that fits it.

    Args:
        voxels: (R, A, S) of any real type.
        middle: (3,) voxel index at the image's center.
        right, down: (3,) steps of the voxel index for a mm to the image's right and down.
        ticks: (N,) mm of the pixels from the center, along both sides.
        fill: what lies outside the volume.

    Returns:
        (N, N) float32.
    """
    reach = float(np.ptp(ticks))
    for axis in (2, 1, 0):
        if _stands_on(axis, right, down, reach):
            return sample_upright(voxels, middle, right, down, ticks, fill, axis)
        if _stands_on(axis, down, right, reach):
            return sample_upright(voxels, middle, down, right, ticks, fill, axis).T
    return sample_oblique(voxels, middle, right, down, ticks, fill)


def sample_oblique(
    voxels: np.ndarray,
    middle: np.ndarray,
    right: np.ndarray,
    down: np.ndarray,
    ticks: np.ndarray,
    fill: float = 0.0,
) -> np.ndarray:
    """Sample any plane; see `sample_plane`."""
    rows = np.multiply.outer(down, ticks)[:, :, None]  # (3, H, 1)
    columns = np.multiply.outer(right, ticks)[:, None, :]  # (3, 1, W)
    grid = middle[:, None, None] + rows + columns  # (3, H, W)
    return ndimage.map_coordinates(
        voxels, grid, output=np.float32, order=1, mode="constant", cval=fill, prefilter=False
    )


def sample_upright(
    voxels: np.ndarray,
    middle: np.ndarray,
    right: np.ndarray,
    down: np.ndarray,
    ticks: np.ndarray,
    fill: float = 0.0,
    axis: int = 2,
) -> np.ndarray:
    """The same for a plane whose image-down runs along one voxel axis and image-right across it.

    Whole lines of voxels are weighted between their four neighbors, then read off along the line.

    Args:
        axis: of the voxels, along which image-down runs.
    """
    x, y = (k for k in range(3) if k != axis)
    lying = np.moveaxis(voxels, axis, 2)
    x0, x1, fx, in_x = _neighbors(middle[x] + right[x] * ticks, voxels.shape[x])
    y0, y1, fy, in_y = _neighbors(middle[y] + right[y] * ticks, voxels.shape[y])
    z0, z1, fz, in_z = _neighbors(middle[axis] + down[axis] * ticks, voxels.shape[axis])
    fx, fy, fz = fx[:, None], fy[:, None], fz[:, None]
    lines = _mix(_mix(lying[x0, y0], lying[x0, y1], fy), _mix(lying[x1, y0], lying[x1, y1], fy), fx)  # (W, S)
    lines[~(in_x & in_y)] = fill
    standing = np.ascontiguousarray(lines.T)  # (S, W): whole rows are copied faster than single values
    image = _mix(standing[z0], standing[z1], fz)  # (H, W)
    image[~in_z] = fill
    return image


def _mix(first: np.ndarray, second: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(1 - weight) * first + weight * second in float32; float32 arguments are used up."""
    first, second = first.astype(np.float32, copy=False), second.astype(np.float32, copy=False)
    first *= 1 - weight
    second *= weight
    first += second
    return first


def shrink(voxels: np.ndarray, affine: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average blocks of voxels; the affine follows to the blocks' centers.

    Args:
        factors: (3,) voxels a block along each axis; the last blocks are filled up with the edge.
    """
    if (factors == 1).all():
        return voxels, affine
    scale = np.diag([*np.asarray(factors, float), 1.0])
    scale[:3, 3] = (np.asarray(factors) - 1) / 2
    # One axis after another, the one that shrinks most first; sums of small integers stay small integers.
    small = voxels.dtype == np.uint8 and np.prod(factors) <= np.iinfo(np.uint16).max // np.iinfo(np.uint8).max
    blocks = voxels
    for axis in np.argsort(-np.asarray(factors), kind="stable"):
        if factors[axis] > 1:
            blocks = _add_neighbors(blocks, int(axis), int(factors[axis]), np.uint16 if small else np.float32)
    averages = blocks.astype(np.float32)
    averages /= np.float32(np.prod(factors))
    return averages, affine @ scale


def _add_neighbors(values: np.ndarray, axis: int, factor: int, dtype: type[np.generic]) -> np.ndarray:
    """Sums of `factor` neighbors along one axis; what is missing at the end repeats the last."""
    values = np.moveaxis(values, axis, 0)
    total = np.zeros((-(-len(values) // factor), *values.shape[1:]), dtype)
    for offset in range(factor):
        part = values[offset::factor]
        total[: len(part)] += part
        total[len(part) :] += values[-1]
    return np.ascontiguousarray(np.moveaxis(total, 0, axis))


def _stands_on(axis: int, across: np.ndarray, along: np.ndarray, reach: float) -> bool:
    """Whether one image direction runs along the voxel axis, and the other has nothing of it."""
    off = [abs(across[axis]), *(abs(along[k]) for k in range(3) if k != axis)]
    return bool(max(off) * reach < UPRIGHT_WITHIN)


def _neighbors(places: np.ndarray, num: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Lower and upper index, the upper one's weight, and whether the place lies within the axis."""
    lower = np.clip(np.floor(places), 0, num - 1).astype(np.intp)
    upper = np.minimum(lower + 1, num - 1)
    return lower, upper, (places - lower).astype(np.float32), (places >= 0) & (places <= num - 1)
