"""NRRD files whose bytes depend on voxels and place alone."""

from collections.abc import Mapping
from pathlib import Path

import nrrd
import numpy as np

from extract.atomic import replace_file

RAS_TO_LPS = np.array([-1.0, -1.0, 1.0])


def write_nrrd(
    path: Path, voxels: np.ndarray, affine: np.ndarray, notes: Mapping[str, str] | None = None
) -> None:
    """Write a gzipped NRRD whose header says, in NRRD's usual LPS, where the voxels are.

    Args:
        voxels: (I, J, K), in any axis order.
        affine: (4, 4) from a voxel's index to mm in RAS.
        notes: text by name, kept in the header as NRRD's `name:=text`.
    """
    header = {
        "space": "left-posterior-superior",
        "space directions": affine[:3, :3].T * RAS_TO_LPS,
        "space origin": affine[:3, 3] * RAS_TO_LPS,
        "kinds": ["domain"] * 3,
        "encoding": "gzip",
        **(notes or {}),
    }
    with replace_file(path) as temporary:
        nrrd.write(str(temporary), voxels, header, compression_level=3)
        head, data = temporary.read_bytes().split(b"\n\n", 1)
        lines = [
            line for line in head.split(b"\n") if not line.startswith(b"#")
        ]  # one of them tells the time
        temporary.write_bytes(b"\n".join(lines) + b"\n\n" + data)
