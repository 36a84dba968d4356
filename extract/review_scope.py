"""What a review may decide on: the training images of one fold of one split of one archive.

Validation and test images stay as they are. A person who has seen what a model says of them, and takes out
the ones that it gets wrong, measures nothing any more.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from extract.archive import Archive
from extract.errors import ExtractError
from extract.fold import Split

SPLIT_SUFFIX = ".split.json"


@dataclass(frozen=True)
class TrainingImage:
    """An image that may be decided on, as the archive has it."""

    row: int  # of the archive
    sha256: str  # of its bytes
    label: str  # empty = unlabeled


@dataclass(frozen=True)
class ReviewScope:
    """The archive, split and fold of a review, and its images by their name in the archive."""

    archive_name: str
    archive_sha256: str
    split_sha256: str
    fold: int
    classes: tuple[str, ...]
    images: Mapping[str, TrainingImage]

    def image(self, name: str) -> TrainingImage:
        """The image of that name.

        Raises:
            ExtractError: if it is not in the training part.
        """
        if name not in self.images:
            raise ExtractError(
                f"{name}: expected an image of the training part of fold {self.fold} of {self.archive_name}, "
                "got another one; validation and test images are not reviewed"
            )
        return self.images[name]


def review_scope(archive: Archive, split: Split, fold: int) -> ReviewScope:
    """The training images of a fold.

    Args:
        split: as `read_split` gives it for this archive.

    Raises:
        SettingsError: if the split has no such fold.
    """
    rows = split.rows(archive, fold, "train").tolist()
    hashes = archive.manifest["sha256"].tolist()
    labels = archive.manifest["label"].tolist()
    images = {archive.names[row]: TrainingImage(row, hashes[row], labels[row]) for row in rows}
    return ReviewScope(archive.path.name, archive.sha256, split.sha256, fold, archive.classes, images)


def find_split(archive: Path) -> Path:
    """The only split beside an archive, by its name: `chest.zip` goes with `chest.split.json`.

    Raises:
        ExtractError: if there is none, or several begin with the archive's name.
    """
    named = f"{archive.stem}{SPLIT_SUFFIX}"
    beside = sorted(path.name for path in archive.parent.iterdir() if path.name.endswith(SPLIT_SUFFIX))
    found = [name for name in beside if name == named or name.startswith(f"{archive.stem}.")]
    if len(found) == 1:
        return archive.with_name(found[0])
    raise ExtractError(
        f"{archive.name}: expected one split beside it ({named}), got "
        f"{'none' if not found else ' and '.join(found)}; name it with --split SPLIT.json"
    )
