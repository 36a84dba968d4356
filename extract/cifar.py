"""CIFAR-10 as distributed for Python: `cifar-10-python.tar.gz`, read without unpacking or unpickling it."""

import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from extract.errors import ExtractError
from extract.pickled_arrays import NUMPY_ARRAYS
from extract.restricted_pickle import read_pickle
from extract.sources import Source, SourceImage

NUM_CLASSES, SIDE = 10, 32
BATCH_NAME = re.compile(r"(?:.*/)?data_batch_(\d+)")
META_NAME = re.compile(r"(?:.*/)?batches\.meta")
MAX_MEMBER_BYTES, MAX_TOTAL_BYTES, MAX_NUM_MEMBERS = 2**26, 2**29, 1000
TAR_ERRORS = (tarfile.TarError, EOFError, OSError, zlib.error)


def open_cifar(path: Path) -> Source:
    """The 50,000 training images of CIFAR-10 with their classes.

    Raises:
        ExtractError: if the file is damaged or is something else.
    """
    batches, names = _read_members(path)
    count = sum(len(labels) for _, labels in batches)

    def read() -> Iterator[SourceImage]:
        number = 0
        for pixels, labels in batches:
            for image, label in zip(pixels, labels, strict=True):
                yield SourceImage(f"image {number}", np.ascontiguousarray(image.transpose(1, 2, 0)), label)
                number += 1

    return Source(path, count, read, num_classes=NUM_CLASSES, class_names=names)


def _read_members(path: Path) -> tuple[list[tuple[np.ndarray, list[int]]], tuple[str, ...] | None]:
    """Images (n, 3, 32, 32) uint8 and labels of each training batch in order, and the classes' names."""
    batches: dict[int, tuple[np.ndarray, list[int]]] = {}
    names: tuple[str, ...] | None = None
    total = 0
    try:
        with tarfile.open(path, "r:gz") as opened:
            for count, member in enumerate(opened):
                total += member.size
                if count >= MAX_NUM_MEMBERS or total > MAX_TOTAL_BYTES:
                    raise ExtractError(
                        f"{path}: expected at most {MAX_TOTAL_BYTES:,} bytes in {MAX_NUM_MEMBERS} files, got "
                        "more; this is not CIFAR-10"
                    )
                batch, meta = BATCH_NAME.fullmatch(member.name), META_NAME.fullmatch(member.name)
                if not member.isfile() or not (batch or meta):
                    continue
                content = _read_member(path, opened, member)
                if batch:
                    batches[int(batch[1])] = _images(f"{path}: {member.name}", content)
                else:
                    names = _class_names(content)
    except TAR_ERRORS as error:
        raise ExtractError(
            f"{path}: expected a whole tar.gz, got one that is damaged ({error}); get it anew"
        ) from error
    if not batches:
        raise ExtractError(f"{path}: expected the files data_batch_1, ... of CIFAR-10, got none")
    return [batches[number] for number in sorted(batches)], names


def _read_member(path: Path, opened: tarfile.TarFile, member: tarfile.TarInfo) -> dict[str, Any]:
    where = f"{path}: {member.name}"
    if member.size > MAX_MEMBER_BYTES:
        raise ExtractError(f"{where}: expected at most {MAX_MEMBER_BYTES:,} bytes, got {member.size:,}")
    handle = opened.extractfile(member)
    assert handle is not None  # a plain file
    content = read_pickle(handle.read(member.size), NUMPY_ARRAYS, what=where)
    if not isinstance(content, dict):
        raise ExtractError(f"{where}: expected named arrays, got {type(content).__name__}")
    return {_text(key): value for key, value in content.items()}


def _images(where: str, content: dict[str, Any]) -> tuple[np.ndarray, list[int]]:
    data, labels = content.get("data"), content.get("labels")
    row = 3 * SIDE * SIDE
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.ndim != 2 or data.shape[1] != row:
        raise ExtractError(f"{where}: expected 'data' of shape (n, {row}) uint8, got something else")
    if (
        not isinstance(labels, list)
        or len(labels) != len(data)
        or any(type(label) is not int or not 0 <= label < NUM_CLASSES for label in labels)
    ):
        raise ExtractError(f"{where}: expected 'labels', {len(data)} numbers from 0 to {NUM_CLASSES - 1}")
    return data.reshape(-1, 3, SIDE, SIDE), labels


def _class_names(content: dict[str, Any]) -> tuple[str, ...] | None:
    """Names in the order of their numbers, where that is the order of the alphabet, as archives want it."""
    listed = content.get("label_names")
    if not isinstance(listed, list):
        return None
    names = tuple(_text(name) for name in listed)
    return names if len(set(names)) == NUM_CLASSES and list(names) == sorted(names) else None


def _text(value: object) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)
