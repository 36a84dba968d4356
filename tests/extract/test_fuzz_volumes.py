"""NRRD files with changed headers and voxels end with a volume or with a sentence."""

import nrrd
import numpy as np
import pytest
from hypothesis import strategies as st

from extract.volume import read_volume
from tests.extract.fuzzing import EXAMPLES, explore, mutations, refusals
from tests.extract.making import ramp_volume, write_nrrd

ENCODINGS = ("raw", "gzip", "bzip2", "ascii")


@EXAMPLES
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_volumes_with_changed_bytes(tmp_path, num_examples, encoding):
    sound = write_nrrd(tmp_path / "a.nrrd", ramp_volume(), order="LPS", encoding=encoding).read_bytes()
    path = tmp_path / "b.nrrd"

    def check(data: bytes) -> None:
        path.write_bytes(data)
        with refusals():
            volume = read_volume(path)
            assert (
                volume.voxels.ndim == 3 and np.isfinite(volume.voxels).all() and volume.spacing_mm.min() > 0
            )

    header = sound[: sound.index(b"\n\n") + 2]
    headers = mutations(header).map(lambda data: data + sound[len(header) :])
    explore(check, mutations(sound) | headers, num_examples)


FIELDS = {
    "type": ["uint8", "short", "double", "int", "block", "uchar", "complex", ""],
    "dimension": ["3", "1", "0", "4", "-1", "99", "x"],
    "space": ["left-posterior-superior", "RAS", "scanner-xyz", ""],
    "sizes": ["4 3 2", "1000000 1000000 1", "0 3 2", "-4 3 2", "4 3", "4 3 2 1", "1e9 1 1", "2 2 6",
              "99999999999 9 9"],
    "space directions": ["(1,0,0) (0,1,0) (0,0,1)", "none (1,0,0) (0,1,0)", "(nan,0,0) (0,1,0) (0,0,1)",
                         "(0,0,0) (0,1,0) (0,0,1)", "(1e300,0,0) (0,1e300,0) (0,0,1e300)", "(1,0) (0,1)",
                         "x"],
    "space origin": ["(0,0,0)", "(nan,1,1)", "(1,1)", "x", "(1e308,1,1)"],
    "spacings": ["1 1 1", "0 1 1", "nan 1 1", "-1 1 1", "1 1"],
    "kinds": ["domain domain domain", "list domain domain", "x"],
    "endian": ["little", "big", "middle"],
    "encoding": ["raw", "gzip", "ascii", "hex", "bzip2", "zip"],
    "data file": ["b.raw", "../b.raw", "/etc/hostname", "LIST", "b%d.raw 0 9999999 1", "/dev/zero", "."],
    "line skip": ["0", "-1", "99999999"],
    "byte skip": ["0", "-1", "-2", "99999999999"],
    "space units": ['"mm" "mm" "mm"', '"cm" "cm" "cm"', "x"],
}  # fmt: skip


@EXAMPLES
def test_headers_of_any_fields(tmp_path, num_examples):
    path = tmp_path / "b.nhdr"
    (tmp_path / "b.raw").write_bytes(bytes(range(24)))
    needed = ("type", "dimension", "sizes", "encoding", "space", "space directions")
    fields = st.fixed_dictionaries(
        {name: st.just(FIELDS[name][0]) | st.sampled_from(FIELDS[name]) for name in needed},
        optional={name: st.sampled_from(values) for name, values in FIELDS.items() if name not in needed},
    )

    def check(case: dict[str, str]) -> None:
        lines = ["NRRD0005", *(f"{name}: {value}" for name, value in case.items())]
        path.write_bytes("\n".join(lines).encode() + b"\n\n" + bytes(range(24)))
        with refusals():
            volume = read_volume(path)
            assert volume.voxels.ndim == 3 and np.isfinite(volume.affine).all()

    explore(check, fields, num_examples)


def test_the_fuzzed_headers_have_a_sound_one_among_them(tmp_path):
    (tmp_path / "b.raw").write_bytes(bytes(range(24)))
    lines = [f"{name}: {FIELDS[name][0]}" for name in FIELDS if name != "space units"]
    (tmp_path / "b.nhdr").write_text("\n".join(["NRRD0005", *lines]) + "\n\n")
    assert nrrd.read_header(str(tmp_path / "b.nhdr"))["dimension"] == 3
