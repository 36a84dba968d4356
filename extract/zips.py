"""Zips from anywhere, opened and read with suspicion: nothing in one decides how much memory is used.

Entries are never unpacked by their names. Every reader here says beforehand how large an entry may be.
"""

import os
import stat
import struct
import zipfile
import zlib
from collections import Counter
from pathlib import Path, PurePosixPath

from extract.errors import ExtractError, name_some

MAX_NAME_CHARS = 512
LOCAL_HEADER = struct.Struct("<4s2xH18xHH")  # signature, flags, sizes of the name and of what is extra
UTF8_FLAG = 0x800
MAX_EXTRA_BYTES = 64  # read along; zip64 needs 20
# What reading an entry raises: damaged, cut, encrypted, or packed by a method that Python does not know.
ENTRY_ERRORS = (
    zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, OverflowError, struct.error,
)  # fmt: skip


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip for reading.

    Raises:
        ExtractError: if it is none, or its directory of entries is damaged.
        OSError: if the file is not there or may not be read.
    """
    with open(path, "rb"):  # so that what the system refuses is told apart from what the file says
        pass
    try:
        return zipfile.ZipFile(path)
    except ENTRY_ERRORS as error:
        raise ExtractError(
            f"{path}: expected a zip archive, got a file that is none or is cut short ({error}); copy it anew"
        ) from error


def check_entries(path: Path, opened: zipfile.ZipFile) -> None:
    """Refuse names that point outside, names that occur twice, and symbolic links.

    Raises:
        ExtractError: naming the entries at fault.
    """
    for name in opened.namelist():
        if len(name) > MAX_NAME_CHARS:
            raise ExtractError(
                f"{path}: expected names of at most {MAX_NAME_CHARS} characters in the archive, got one of "
                f"{len(name)} ({name:.40}...)"
            )
        if (
            name.startswith(("/", "\\"))
            or ":" in name
            or (".." in name and ".." in PurePosixPath(name.replace("\\", "/")).parts)
        ):
            raise ExtractError(
                f"{path}: expected names inside the archive, got {name!r}, which points outside it"
            )
    repeated = [name for name, count in Counter(opened.namelist()).items() if count > 1]
    if repeated:  # readers differ in which of the two they take
        raise ExtractError(f"{path}: expected each name once, got {name_some(repeated)} more than once")
    links = [info.filename for info in opened.infolist() if stat.S_ISLNK(info.external_attr >> 16)]
    if links:
        raise ExtractError(
            f"{path}: expected files in the archive, got symbolic links ({name_some(links)}); pack what they "
            "point to instead"
        )


def read_entry(path: Path, opened: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    """The bytes of an entry; no more than `max_bytes` are ever unpacked, whatever it declares.

    Raises:
        ExtractError: if it is damaged, encrypted or larger.
    """
    try:
        info = opened.getinfo(name)
        if info.file_size > max_bytes:  # reading gives no more than what is declared
            raise ExtractError(
                f"{path}: expected at most {max_bytes:,} bytes in {name}, got {info.file_size:,}; nothing of "
                "it was loaded"
            )
        if info.compress_size > path.stat().st_size:  # room is made for it before it is read
            raise zipfile.BadZipFile(f"a packed size of {info.compress_size:,} bytes")
        data = _read_stored(opened, info)
        return opened.read(info) if data is None else data
    except (KeyError, *ENTRY_ERRORS) as error:
        raise ExtractError(
            f"{path}: expected a sound entry {name}, got {error}; the file is damaged or encrypted: "
            "make or copy it anew"
        ) from error


def _read_stored(opened: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes | None:
    """The bytes of a sound entry that is stored as it is, in one call of the system and half the time.

    None where anything is otherwise than in archives of ours: zipfile then reads it, or says what is wrong.
    """
    is_plain = info.compress_type == zipfile.ZIP_STORED and info.flag_bits & ~UTF8_FLAG == 0
    if not is_plain or info.compress_size != info.file_size or opened.fp is None or not hasattr(os, "pread"):
        return None
    name = info.orig_filename.encode()
    most = LOCAL_HEADER.size + len(name) + MAX_EXTRA_BYTES + info.file_size
    found = os.pread(opened.fp.fileno(), most, info.header_offset)
    if len(found) < LOCAL_HEADER.size:
        return None
    signature, flags, name_size, extra_size = LOCAL_HEADER.unpack_from(found)
    start = LOCAL_HEADER.size + name_size + extra_size
    data = found[start : start + info.file_size]
    is_sound = (
        signature == b"PK\x03\x04"
        and flags == info.flag_bits
        and found[LOCAL_HEADER.size : LOCAL_HEADER.size + name_size] == name
        and len(data) == info.file_size
        and zlib.crc32(data) == info.CRC
    )
    return data if is_sound else None
