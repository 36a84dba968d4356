"""NRRD files: the header through pynrrd, the values by ourselves, never more of them than it promises.

pynrrd inflates whatever a file holds before it counts, and it knows neither hex nor several data files.
"""

import bz2
import gzip
import io
import re
import stat
import warnings
from math import prod
from pathlib import Path
from typing import IO, Any

import nrrd
import numpy as np

from extract.errors import ExtractError, SettingsError
from extract.nrrd_space import nrrd_affine, spatial_axes
from extract.payload import HEADER_ERRORS, READ_ERRORS, allocate, fill_exactly, skip_bytes
from extract.stored_volume import GZIP_RATIO, PHANTOM_NOTE, StoredVolume, check_promise, check_shape

MAX_HEADER_BYTES = 1 << 20
TYPES = {
    "i1": ("signed char", "int8", "int8_t"),
    "u1": ("uchar", "unsigned char", "uint8", "uint8_t"),
    "i2": ("short", "short int", "signed short", "signed short int", "int16", "int16_t"),
    "u2": ("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"),
    "i4": ("int", "signed int", "int32", "int32_t"),
    "u4": ("uint", "unsigned int", "uint32", "uint32_t"),
    "i8": ("longlong", "long long", "long long int", "signed long long", "signed long long int", "int64",
           "int64_t"),
    "u8": ("ulonglong", "unsigned long long", "unsigned long long int", "uint64", "uint64_t"),
    "f4": ("float",),
    "f8": ("double",),
}  # fmt: skip
CODE_OF = {name: code for code, names in TYPES.items() for name in names}
ENCODINGS = {
    "raw": "raw", "gzip": "gzip", "gz": "gzip", "bzip2": "bzip2", "bz2": "bzip2", "hex": "hex",
    "ascii": "ascii", "text": "ascii", "txt": "ascii",
}  # fmt: skip


def open_nrrd(path: Path, orientation: str | None = None) -> StoredVolume:
    """Read a NRRD's header, attached or detached; its values are read by `load`.

    Args:
        path: .nrrd or .nhdr.
        orientation: where the array axes run to, such as "LAS", for a header that does not say.

    Raises:
        ExtractError: if the header is damaged, promises what the file cannot hold, or describes no 3-D volume
            in an anatomical space.
    """
    path = Path(path)
    header, files, start = _read_header(path)
    try:
        kept = spatial_axes(path, header)
        sizes = tuple(int(size) for size in header["sizes"])
        shape = (sizes[kept[0]], sizes[kept[1]], sizes[kept[2]])
        check_shape(f"{path}", sizes)
        affine = nrrd_affine(path, header, kept, orientation)
    except SettingsError:  # of the orientation: no fault of the file
        raise
    except HEADER_ERRORS as error:
        raise _damaged(path, error) from error
    dtype, encoding = _dtype(path, header), ENCODINGS.get(str(header["encoding"]).lower())
    if encoding is None:
        raise ExtractError(
            f"{path}: expected an encoding of {', '.join(sorted(set(ENCODINGS.values())))}, got "
            f"{header['encoding']!r}; write the volume anew, for instance with gzip"
        )
    _check_files(path, files, prod(sizes) * dtype.itemsize, dtype, encoding)

    def load() -> np.ndarray:
        flat = allocate(f"{path}", prod(sizes), dtype)
        each = flat.size // len(files)
        for number, file in enumerate(files):
            part = flat[number * each : (number + 1) * each]
            _read_values(path, file, start, part, header, encoding)
        voxels = flat.reshape(sizes[::-1]).T.reshape(shape, order="F")
        return voxels if dtype.isnative else voxels.astype(dtype.newbyteorder("="))

    tags = ((PHANTOM_NOTE, str(header[PHANTOM_NOTE])),) if PHANTOM_NOTE in header else ()
    return StoredVolume(f"{path}", shape, affine, load, tags)


def _damaged(path: Path, error: object) -> ExtractError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ExtractError(
        f"{path}: expected a whole NRRD file, got one that is damaged or cut short ({reason}); copy it anew"
    )


def _read_header(path: Path) -> tuple[dict[str, Any], list[Path], int]:
    """The fields, the files that hold the values, and where they start if that is in the file itself."""
    try:
        with open(path, "rb") as handle:
            head = handle.read(MAX_HEADER_BYTES)
    except FileNotFoundError as error:
        raise ExtractError(f"{path}: expected a file, got nothing there") from error
    except OSError as error:
        raise _damaged(path, error) from error
    if not head.startswith(b"NRRD"):
        raise _damaged(path, "it does not begin with NRRD")
    end = re.search(rb"\n\r?\n", head)
    lines = head[: end.end() if end else len(head)].splitlines()
    listed: list[str] = []
    for number, line in enumerate(lines):
        if re.match(rb"data ?file:\s*LIST", line):  # the names follow, one a line, to the file's end
            listed = [name.decode("utf-8", "replace").strip() for name in head.splitlines()[number + 1 :]]
            listed = [name for name in listed if name]
            lines = [*lines[:number], b"data file: LIST"]
            break
    if end is None and len(head) == MAX_HEADER_BYTES and not listed:
        raise _damaged(path, f"no end of the header within {MAX_HEADER_BYTES:,} bytes")
    try:
        header = dict(nrrd.read_header([line + b"\n" for line in lines]))
        for field in ("dimension", "type", "encoding", "sizes"):
            if field not in header:
                raise ValueError(f"the header lacks the field {field}")
        if header["dimension"] != len(header["sizes"]):
            raise ValueError(f"dimension {header['dimension']}, but {len(header['sizes'])} sizes")
    except Exception as error:  # on damaged headers pynrrd raises almost anything, StopIteration included
        raise _damaged(path, error) from error
    named = header.get("data file", header.get("datafile"))
    if named is None:
        if end is None:
            raise _damaged(path, "no blank line between the header and the voxels")
        return header, [path], end.end()
    return header, [path.parent / name for name in listed or _expand(path, str(named))], 0


def _expand(path: Path, named: str) -> list[str]:
    """File names from `slice%03d.raw 1 20 1`, or the one name that it is."""
    pattern = re.fullmatch(r"(\S*%0?\d*d\S*)\s+(-?\d+)\s+(-?\d+)\s+(-?\d+)(\s+\d+)?", named)
    if pattern is None:
        return [named]
    name, first, last, step = pattern[1], int(pattern[2]), int(pattern[3]), int(pattern[4])
    numbers = range(first, last + (1 if step > 0 else -1), step) if step else range(0)
    if not 0 < len(numbers) <= 100_000:
        raise _damaged(path, f"data file {named!r} names no files")
    return [re.sub(r"%(0?)(\d*)d", lambda m, k=k: f"{k:{m[1]}{m[2]}d}", name) for k in numbers]


def _check_files(path: Path, files: list[Path], promised: int, dtype: np.dtype, encoding: str) -> None:
    stored = 0
    for file in files:
        try:
            status = file.stat()
        except OSError as error:
            raise ExtractError(
                f"{file}: expected a file for the voxels of {path}, got nothing there ({error.strerror})"
            ) from error
        if not stat.S_ISREG(status.st_mode):  # a pipe would hang, a device never end
            raise ExtractError(f"{file}: expected a file for the voxels of {path}, got no ordinary file")
        stored += status.st_size
    if (promised // dtype.itemsize) % len(files):
        raise _damaged(path, f"{promised // dtype.itemsize} voxels do not divide among {len(files)} files")
    match encoding:
        case "raw":
            check_promise(f"{path}", "NRRD", promised, stored)
        case "gzip":
            check_promise(f"{path}", "NRRD", promised, stored, GZIP_RATIO)
        case "hex":
            check_promise(f"{path}", "NRRD", 2 * promised, stored)
        case "ascii":  # a digit and a gap each
            check_promise(f"{path}", "NRRD", 2 * promised // dtype.itemsize - 1, stored)


def _read_values(
    path: Path, file: Path, start: int, part: np.ndarray, header: dict[str, Any], encoding: str
) -> None:
    """Fill (N,) values from one file; an error unless it holds exactly as many."""
    line_skip = int(header.get("line skip", header.get("lineskip", 0)))
    byte_skip = int(header.get("byte skip", header.get("byteskip", 0)))
    try:
        if line_skip < 0 or byte_skip < -1:
            raise ValueError(f"line skip {line_skip}, byte skip {byte_skip}")
        with open(file, "rb") as handle:
            handle.seek(start)
            for _ in range(line_skip):
                if not handle.readline(MAX_HEADER_BYTES):
                    raise EOFError(f"expected {line_skip} lines to skip")
            if encoding == "raw" and byte_skip == -1:
                handle.seek(-part.nbytes, io.SEEK_END)
                byte_skip = 0
            if encoding in ("ascii", "hex"):
                handle.seek(max(byte_skip, 0), io.SEEK_CUR)
                (_fill_from_text if encoding == "ascii" else _fill_from_hex)(part, handle.read())
                return
            with _inflated(handle, encoding) as stream:
                if byte_skip == -1:
                    raise ValueError(f"byte skip -1 with the encoding {encoding}")
                skip_bytes(stream, byte_skip)
                fill_exactly(part, stream)
    except READ_ERRORS as error:
        raise _damaged(path, error) from error


def _inflated(handle: IO[bytes], encoding: str) -> IO[bytes]:
    match encoding:
        case "gzip":
            return gzip.GzipFile(fileobj=handle)  # type: ignore[return-value]
        case "bzip2":
            return bz2.BZ2File(handle)
    return handle


def _fill_from_text(part: np.ndarray, text: bytes) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of words that are no numbers, numpy only warns
        try:
            values = np.fromstring(text, np.float64, sep=" ")
        except Warning as error:
            raise ValueError("expected numbers as text, got something else among them") from error
    if values.size != part.size:
        raise EOFError(f"expected {part.size:,} numbers as text, got {values.size:,}")
    if part.dtype.kind in "iu":
        limits = np.iinfo(part.dtype)
        if not ((values >= limits.min) & (values <= limits.max)).all():
            raise ValueError(
                f"expected numbers that fit {part.dtype}, got {values.min():g}..{values.max():g}"
            )
    part[:] = values


def _fill_from_hex(part: np.ndarray, text: bytes) -> None:
    data = bytes.fromhex(text.decode("ascii"))
    if len(data) != part.nbytes:
        raise EOFError(f"expected {part.nbytes:,} bytes in hex, got {len(data):,}")
    part[:] = np.frombuffer(data, part.dtype)


def _dtype(path: Path, header: dict[str, Any]) -> np.dtype:
    code = CODE_OF.get(str(header["type"]).lower())
    if code is None:
        raise _damaged(path, f"expected a type such as short or float, got {header['type']!r}")
    order = {"little": "<", "big": ">"}.get(str(header.get("endian", "")).lower())
    if order is None:
        text = ENCODINGS.get(str(header["encoding"]).lower()) == "ascii"
        if code[1] != "1" and not text:
            raise _damaged(path, f"expected endian little or big, got {header.get('endian', 'nothing')!r}")
        order = "="
    return np.dtype(order + code)
