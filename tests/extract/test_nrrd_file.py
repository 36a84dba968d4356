"""NRRD in all its forms, against SimpleITK as an independent reader where it knows the form."""

import gzip
from pathlib import Path

import nrrd
import numpy as np
import pytest
import SimpleITK as sitk

from extract.errors import ExtractError
from extract.nrrd_file import open_nrrd
from extract.phantom import rotation
from extract.stored_volume import MAX_VOXELS
from extract.volume import read_volume
from tests.extract.making import write_nrrd

OBLIQUE = rotation(0.06, -0.04, 0.1)
TYPES = ("i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8")
NAME_OF = {"i1": "signed char", "u1": "uchar", "i2": "short", "u2": "ushort", "i4": "int", "u4": "uint",
           "i8": "longlong", "u8": "ulonglong", "f4": "float", "f8": "double"}  # fmt: skip


def small(code: str = "i2") -> np.ndarray:
    """Few enough values for any type; Fortran order, as NRRD stores them."""
    return np.asfortranarray((np.arange(60).reshape(3, 4, 5) * 2).astype(code))


def header_lines(
    code: str = "i2", encoding: str = "raw", sizes: str = "3 4 5", endian: str = "little", **extra
) -> str:
    fields = {
        "type": NAME_OF[code[-2:]], "dimension": str(len(sizes.split())), "sizes": sizes,
        "encoding": encoding, "endian": endian,
        "space": "left-posterior-superior", "space directions": "(1,0,0) (0,2,0) (0,0,3)",
        "space origin": "(1,2,3)", **{key.replace("_", " "): value for key, value in extra.items()},
    }  # fmt: skip
    return "NRRD0004\n" + "".join(f"{key}: {value}\n" for key, value in fields.items() if value is not None)


def same_as_sitk(path: Path) -> None:
    """Every voxel has the same value at the same place (mm) for both readers."""
    stored, other = open_nrrd(path), sitk.ReadImage(str(path))
    assert np.array_equal(stored.load(), sitk.GetArrayFromImage(other).T)
    corner = [0, *(n - 1 for n in stored.shape)]
    for index in ([0, 0, 0], corner[1:], [corner[1], 0, 0], [0, corner[2], 0]):
        position = stored.affine @ [*index, 1]
        assert np.array(other.TransformIndexToPhysicalPoint([int(k) for k in index])) * [-1, -1, 1] == (
            pytest.approx(position[:3], abs=1e-6)
        )


@pytest.mark.parametrize("encoding", ["raw", "gzip", "ascii"])
@pytest.mark.parametrize("code", TYPES)
def test_an_independent_reader_agrees_on_every_type(tmp_path, code, encoding):
    path = write_nrrd(tmp_path / "v.nrrd", small(code), "LPS", (1.0, 2.0, 3.0), OBLIQUE, encoding=encoding)
    same_as_sitk(path)
    assert open_nrrd(path).load().dtype == np.dtype(code)


@pytest.mark.parametrize("order", ["RAS", "LAS", "PSR", "AIL"])
@pytest.mark.parametrize("space", ["left-posterior-superior", "RAS", "LAS"])
def test_an_independent_reader_agrees_on_every_orientation(tmp_path, order, space):
    same_as_sitk(write_nrrd(tmp_path / "v.nrrd", small(), order, (1.0, 2.0, 3.0), OBLIQUE, space=space))


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("code", ["i2", "u4", "f4", "f8"])
def test_both_byte_orders_read(tmp_path, code, endian):
    data = small(code).astype({"little": "<", "big": ">"}[endian] + code).tobytes(order="F")
    path = tmp_path / "v.nrrd"
    path.write_bytes(header_lines(code, endian=endian).encode() + b"\n" + data)
    same_as_sitk(path)
    assert np.array_equal(open_nrrd(path).load(), small(code)) and open_nrrd(path).load().dtype.isnative


@pytest.mark.parametrize("encoding", ["bzip2", "bz2", "gz", "text", "txt"])
def test_the_encodings_that_few_readers_know_read_too(tmp_path, encoding):
    path = write_nrrd(tmp_path / "v.nrrd", small(), encoding=encoding)
    assert np.array_equal(read_volume(path).voxels, small())


def test_hex_reads(tmp_path):
    text = small().astype("<i2").tobytes(order="F").hex("\n", 20)
    (tmp_path / "v.nrrd").write_text(header_lines(encoding="hex") + "\n" + text)
    assert np.array_equal(open_nrrd(tmp_path / "v.nrrd").load(), small())


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_bytes_and_lines_are_skipped(tmp_path, encoding):
    data = small().astype("<i2").tobytes(order="F")
    payload = b"one line\nanother\n" + (
        gzip.compress(b"1234567" + data) if encoding == "gzip" else b"1234567" + data
    )
    (tmp_path / "v.raw").write_bytes(payload)
    head = header_lines(encoding=encoding, data_file="v.raw", line_skip="2", byte_skip="7")
    (tmp_path / "v.nhdr").write_text(head)
    assert np.array_equal(open_nrrd(tmp_path / "v.nhdr").load(), small())


def test_a_byte_skip_of_minus_one_counts_from_the_end(tmp_path):
    (tmp_path / "v.raw").write_bytes(b"a foreign header" + small().tobytes(order="F"))
    (tmp_path / "v.nhdr").write_text(header_lines(data_file="v.raw", byte_skip="-1"))
    same_as_sitk(tmp_path / "v.nhdr")


@pytest.mark.parametrize(
    ("line", "names"),
    [("s%02d.raw 1 5 1", ["s01.raw", "s02.raw", "s03.raw", "s04.raw", "s05.raw"]),
     ("s%d.raw 8 0 -2", ["s8.raw", "s6.raw", "s4.raw", "s2.raw", "s0.raw"])],
)  # fmt: skip
def test_one_file_a_slice_reads_by_pattern(tmp_path, line, names):
    for k, name in enumerate(names):
        (tmp_path / name).write_bytes(small()[:, :, k].tobytes(order="F"))
    (tmp_path / "v.nhdr").write_text(header_lines(data_file=line))
    assert np.array_equal(open_nrrd(tmp_path / "v.nhdr").load(), small())


def test_one_file_a_slice_reads_by_list(tmp_path):
    for k in range(5):
        (tmp_path / f"part{k}.gz").write_bytes(gzip.compress(small()[:, :, k].tobytes(order="F")))
    head = header_lines(encoding="gzip") + "data file: LIST\n" + "".join(f"part{k}.gz\n" for k in range(5))
    (tmp_path / "v.nhdr").write_text(head)
    assert np.array_equal(open_nrrd(tmp_path / "v.nhdr").load(), small())


@pytest.mark.parametrize("component", [0, 3])
def test_a_fourth_axis_of_one_component_does_no_harm(tmp_path, component):
    directions = ["(1,0,0)", "(0,2,0)", "(0,0,3)"]
    directions.insert(component, "none")
    sizes = ["3", "4", "5"]
    sizes.insert(component, "1")
    head = header_lines(sizes=" ".join(sizes), space_directions=" ".join(directions))
    (tmp_path / "v.nrrd").write_bytes(head.encode() + b"\n" + small().tobytes(order="F"))
    stored = open_nrrd(tmp_path / "v.nrrd")
    assert np.array_equal(stored.load(), small()) and np.diag(stored.affine) == pytest.approx([-1, -2, 3, 1])


def test_the_scanners_own_axes_are_refused_unless_the_flag_says_more(tmp_path):
    path = tmp_path / "v.nrrd"
    path.write_bytes(header_lines(space="scanner-xyz").encode() + b"\n" + small().tobytes(order="F"))
    with pytest.raises(
        ExtractError, match=r"scanner-xyz' \(the scanner's axes say nothing of the patient's\)"
    ):
        read_volume(path)
    assert read_volume(path, "RAS").spacing_mm == pytest.approx([1, 2, 3])


def test_a_header_that_promises_a_terabyte_is_refused_before_anything_is_allocated(tmp_path):
    for encoding in ("raw", "gzip", "bzip2", "ascii", "hex"):
        path = tmp_path / f"{encoding}.nrrd"
        path.write_bytes(
            header_lines(encoding=encoding, sizes="10000 10000 10000").encode() + b"\n" + b"0" * 99
        )
        with pytest.raises(
            ExtractError, match=rf"at most {MAX_VOXELS:,} voxels, .* promises 1,000,000,000,000"
        ):
            read_volume(path)


@pytest.mark.parametrize(
    ("encoding", "promised"),
    [("raw", "200,000,000"), ("gzip", "200,000,000"), ("ascii", "199,999,999"), ("hex", "400,000,000")],
)
def test_a_header_that_promises_more_than_the_file_can_hold_is_refused(tmp_path, encoding, promised):
    path = tmp_path / "v.nrrd"
    path.write_bytes(header_lines(encoding=encoding, sizes="1000 1000 100").encode() + b"\n" + b"0" * 999)
    with pytest.raises(ExtractError, match=rf"damaged or cut short \(its header promises {promised} bytes"):
        open_nrrd(path)


@pytest.mark.parametrize("encoding", ["gzip", "bzip2"])
def test_no_more_is_unpacked_than_the_header_promises(tmp_path, encoding):
    import bz2

    bomb = {"gzip": gzip.compress, "bzip2": bz2.compress}[encoding](bytes(30_000_000))
    path = tmp_path / "v.nrrd"
    path.write_bytes(header_lines(encoding=encoding).encode() + b"\n" + bomb)
    with pytest.raises(ExtractError, match="expected 120 bytes of voxels, got more"):
        read_volume(path)


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ({"sizes": "3 4 0"}, "expected at least one voxel along each axis"),
        ({"encoding": "zebra"}, "expected an encoding of ascii, bzip2, gzip, hex, raw, got 'zebra'"),
        ({"endian": "middle"}, "expected endian little or big, got 'middle'"),
        ({"endian": None}, "expected endian little or big, got 'nothing'"),
        ({"type": "block"}, "expected a type such as short or float, got 'block'"),
        ({"dimension": "2"}, "dimension 2, but 3 sizes"),
        ({"data_file": "s%d.raw 1 5 0"}, "names no files"),
        ({"data_file": "s%d.raw 1 999999999 1"}, "names no files"),
        ({"data_file": "/dev/zero"}, "got no ordinary file"),
        ({"byte_skip": "-7"}, "byte skip -7"),
        ({"line_skip": "-1"}, "line skip -1"),
        ({"space_directions": "(1,0,0) (0,1,0) (1,1,0)"}, "along three different lines"),
        ({"space_directions": "(nan,0,0) (0,1,0) (1,1,0)"}, "expected 3 spatial axes, got 2 of 3"),
        ({"space_units": '"m" "m" "m"'}, "expected space units of mm"),
    ],
)  # fmt: skip
def test_a_bad_header_is_refused_in_a_sentence(tmp_path, head, message):
    path = tmp_path / "v.nrrd"
    path.write_bytes(header_lines(**head).encode() + b"\n" + small().tobytes(order="F"))
    with pytest.raises(ExtractError, match=rf"^{path}|/dev/zero: expected") as caught:
        open_nrrd(path).load()
    assert message in str(caught.value)


def test_text_that_is_no_number_is_refused(tmp_path):
    for text, message in (
        ("1 2 horse", "damaged or cut short"),
        ("1 2 3", "expected 60 numbers"),
        ("7 " * 59 + "99999", "fit"),
    ):
        (tmp_path / "v.nrrd").write_text(header_lines(encoding="ascii") + "\n" + text + " " * 200)
        with pytest.raises(ExtractError, match=message):
            open_nrrd(tmp_path / "v.nrrd").load()


def test_a_flipped_bit_in_a_gzip_is_noticed(tmp_path):
    path = write_nrrd(tmp_path / "v.nrrd", np.random.default_rng(0).integers(0, 99, (9, 9, 9)).astype("u1"))
    data = bytearray(path.read_bytes())
    data[-200] ^= 16
    path.write_bytes(data)
    with pytest.raises(ExtractError, match="damaged or cut short"):
        read_volume(path)


def test_pynrrd_and_we_agree_on_a_file_of_its_own(tmp_path):
    nrrd.write(
        str(tmp_path / "v.nhdr"), small(), {"space": "RAS", "space directions": np.eye(3), "encoding": "bz2"}
    )
    assert np.array_equal(open_nrrd(tmp_path / "v.nhdr").load(), nrrd.read(str(tmp_path / "v.nhdr"))[0])
