"""Archives opened for reading, ours and the official tool's: pictures one by one, never all at once."""

import os
import zipfile
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from extract.archive_lists import (
    image_names,
    number_labels,
    official_lists,
    read_dataset_json,
    read_manifest,
    read_preparation,
)
from extract.errors import ExtractError
from extract.file_hash import picture_hash, remembered_sha256
from extract.png import decode_image
from extract.zips import open_zip, read_entry

if TYPE_CHECKING:
    import pandas as pd

# What is read of an entry at most, whatever the zip says of it: no honest picture is larger.
MAX_FIRST_IMAGE_BYTES = 2**28
IMAGE_BYTES = 2**20  # beside four times the decoded picture's


class Archive:
    """An archive opened for reading; use `open_archive`.

    Attributes:
        path: the zip file.
        classes: sorted class names; the label k is `classes[k]`.
        labels: (N,) int64, -1 = unlabeled.
        subjects: (N,) str, empty for synthetic images and for official archives.
        names: the images' entries in the zip, in index order.
        is_real: (N,) bool, False = synthetic.
        image_shape: (C, H, W).
        preparation: settings that made the images; empty where unknown.
    """

    def __init__(self, path: Path, opened: zipfile.ZipFile) -> None:
        self.path = path
        self._zip = opened
        assert opened.fp is not None
        self._opened_as = os.fstat(opened.fp.fileno())
        self.names = image_names(path, opened)
        numbers = read_dataset_json(path, opened)
        described = read_preparation(path, opened)
        self.preparation: dict[str, Any] = described.settings
        manifest = read_manifest(path, opened, self.names)
        self._lacks_hashes = manifest is None
        if manifest is None:
            manifest, self.classes, self.labels = official_lists(path, self.names, numbers)
        else:
            self.classes, self.labels = number_labels(path, manifest, self.names, numbers, described.classes)
        self._manifest = manifest
        self.subjects = manifest["subject"].to_numpy(dtype=str)
        self.is_real = (manifest["origin"] == "real").to_numpy()
        self._max_image_bytes = MAX_FIRST_IMAGE_BYTES
        first = decode_image(self.read_png(0), f"{path}: {self.names[0]}")
        self.image_shape: tuple[int, int, int] = (first.shape[0], first.shape[1], first.shape[2])
        self._max_image_bytes = IMAGE_BYTES + 4 * first.nbytes

    @cached_property
    def sha256(self) -> str:
        """Hash of the zip file's bytes: what splits, snapshots and runs know the archive by.

        A large file is read for it once, see `extract.file_hash`.
        """
        return remembered_sha256(self.path, self._opened_as)

    @cached_property
    def manifest(self) -> "pd.DataFrame":
        """One row an image, text as written; of an archive without `manifest.csv`, every picture is read
        for the column `sha256` when this is first asked for."""
        if self._lacks_hashes:
            hashes = [picture_hash(self.read_png(index)) for index in range(len(self))]
            return self._manifest.assign(sha256=hashes)
        return self._manifest

    @property
    def stored_hashes(self) -> list[str] | None:
        """SHA-256 that the manifest gives of each picture's bytes; None where there is no manifest."""
        return None if self._lacks_hashes else self._manifest["sha256"].tolist()

    def __len__(self) -> int:
        return len(self.names)

    def row(self, index: int) -> dict[str, str]:
        """The manifest's row of an image, text as written."""
        return {str(column): str(cell) for column, cell in self.manifest.iloc[index].items()}

    def read_png(self, index: int) -> bytes:
        """The image's bytes as stored."""
        return read_entry(self.path, self._zip, self.names[index], self._max_image_bytes)

    def read_image(self, index: int) -> np.ndarray:
        """The image as (C, H, W) uint8."""
        return self.decode(self.read_png(index), index)

    def decode(self, data: bytes, index: int) -> np.ndarray:
        """The bytes that `read_png` gave for an image as (C, H, W) uint8, checked for its shape."""
        pixels = decode_image(data, f"{self.path}: {self.names[index]}")
        if pixels.shape != self.image_shape:
            raise ExtractError(
                f"{self.path}: expected every image to have shape {self.image_shape} (C, H, W) as the first, "
                f"got {pixels.shape} in {self.names[index]}"
            )
        return pixels

    def check_hash(self, data: bytes, index: int, sha256: str) -> None:
        """Raise ExtractError unless the bytes of an image are those that the manifest describes."""
        if picture_hash(data) != sha256:
            raise ExtractError(
                f"{self.path}: {self.names[index]} is not the picture that manifest.csv describes (its "
                "SHA-256 differs); make or copy the archive anew"
            )

    def close(self) -> None:
        """Close the zip file."""
        self._zip.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_archive(path: Path) -> Archive:
    """Open an archive, ours or the official tool's, and check that its parts agree.

    Raises:
        ExtractError: if it is no zip, is damaged, holds no images, or its lists contradict each other.
    """
    path = Path(path)
    if not path.is_file():
        raise ExtractError(
            f"{path}: expected an archive (.zip), got {'a folder' if path.is_dir() else 'nothing there'}"
        )
    opened = open_zip(path)
    try:
        return Archive(path, opened)
    except BaseException:
        opened.close()
        raise
