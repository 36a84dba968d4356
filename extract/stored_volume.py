"""A volume as its file stores it: where its voxels are in the patient, and how to get their values.

Readers check everything that a header says before anything is allocated, so that a file of a kilobyte
cannot ask for a terabyte.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np

from extract.errors import ExtractError

MAX_VOXELS = 2**31  # 1290 cubed; whatever promises more is no volume that could be sliced in memory
PHANTOM_NOTE = "synthlabel_phantom"  # in a NRRD's header: the recipe of a procedural volume
GZIP_RATIO = 1032  # deflate cannot pack tighter than this, so a smaller file cannot keep the promise


@dataclass(frozen=True)
class StoredVolume:
    """The grid that a file describes; `load` reads the values.

    Attributes:
        name: file or folder, for messages.
        shape: voxels along each axis, as stored.
        affine: (4, 4) from a voxel's index to its position in mm (RAS).
        load: gives the (I, J, K) values, checked against the shape, in the type that they are stored in.
        tags: of DICOM: what the header says of patient and series, by keyword; of NRRD: `PHANTOM_NOTE` alone.
    """

    name: str
    shape: tuple[int, int, int]
    affine: np.ndarray
    load: Callable[[], np.ndarray]
    tags: tuple[tuple[str, str], ...] = ()

    def tag(self, keyword: str) -> str:
        """The text of a tag; empty where there is none."""
        return dict(self.tags).get(keyword, "")


def check_shape(name: str, shape: tuple[int, ...]) -> None:
    """Raise ExtractError unless the numbers of voxels are possible."""
    if any(count < 1 for count in shape):
        raise ExtractError(f"{name}: expected at least one voxel along each axis, got {shape}")
    if prod(shape) > MAX_VOXELS:
        raise ExtractError(
            f"{name}: expected at most {MAX_VOXELS:,} voxels, got a header that promises {prod(shape):,} "
            f"({' x '.join(map(str, shape))}); crop the volume or store it with larger voxels"
        )


def check_promise(name: str, kind: str, promised: int, stored: int, ratio: int = 1) -> None:
    """Raise ExtractError where a header promises more bytes than the file could hold.

    Args:
        kind: of file, such as NRRD.
        promised: bytes of the values.
        stored: bytes that the file has.
        ratio: how many bytes one stored byte can become at most.
    """
    if promised > stored * ratio:
        raise ExtractError(
            f"{name}: expected a whole {kind} file, got one that is damaged or cut short (its header "
            f"promises {promised:,} bytes of voxels, but only {stored:,} are stored); copy it anew"
        )


def check_affine(name: str, affine: np.ndarray) -> None:
    """Raise ExtractError unless the axes run along three different lines."""
    columns = affine[:3, :3]
    lengths = np.linalg.norm(columns, axis=0)
    if (
        not np.isfinite(affine).all()
        or not lengths.all()
        or abs(np.linalg.det(columns / np.where(lengths > 0, lengths, 1))) < 1e-3
    ):
        raise ExtractError(
            f"{name}: expected axes along three different lines, got directions {columns.T.tolist()}; repair "
            "the header, or convert the volume anew"
        )
