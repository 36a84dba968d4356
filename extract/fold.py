"""What a split says: the parts of each outer fold, and which images they hold."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extract.archive import Archive
from extract.errors import SettingsError
from extract.held_out import HeldOut

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Fold:
    """One outer fold; all tuples are sorted subjects."""

    test: tuple[str, ...]
    val: dict[float, tuple[str, ...]]  # by fraction, nested; never more images than labeled[f]
    train: tuple[str, ...]
    labeled: dict[float, tuple[str, ...]]  # by fraction, nested; labeled[1.0] == train


@dataclass(frozen=True)
class Split:
    """A split of one archive's subjects; made by `extract.split.make_split`, checked by `read_split`."""

    archive_sha256: str
    seed: int
    fractions: tuple[float, ...]  # ascending, the last is 1.0
    folds: tuple[Fold, ...]
    val_share: float = 0.15
    linked_subjects: tuple[tuple[str, ...], ...] = ()  # groups that share a picture
    links_alike: bool = False  # whether near duplicates link, too, not only identical pictures
    held_out: HeldOut | None = None  # what decided the test parts; None = drawn
    path: Path | None = None
    sha256: str = ""  # of the file's bytes

    def subjects(self, fold: int, part: str, fraction: float = 1.0) -> tuple[str, ...]:
        """The subjects of a part; `train` gives the labeled ones, `unlabeled` the other training subjects."""
        if not 0 <= fold < len(self.folds):
            raise SettingsError(f"fold must be 0 to {len(self.folds) - 1} for this split, got {fold}")
        if fraction not in self.fractions:
            raise SettingsError(
                f"fraction must be one of {list(self.fractions)} of this split, got {fraction}"
            )
        chosen = self.folds[fold]
        match part:
            case "test":
                return chosen.test
            case "val":
                return chosen.val[fraction]
            case "train":
                return chosen.labeled[fraction]
            case "unlabeled":
                return tuple(sorted(set(chosen.train) - set(chosen.labeled[fraction])))
        raise SettingsError(f"part must be one of {[*PARTS, 'unlabeled']}, got {part!r}")

    def rows(self, archive: Archive, fold: int, part: str, fraction: float = 1.0) -> np.ndarray:
        """Ascending indices of a part's real images; see `subjects` for what the parts mean.

        Validation depends on the fraction as well: at 20 % labels, it is drawn from 20 %, too.
        """
        wanted = np.isin(archive.subjects, np.array(self.subjects(fold, part, fraction), dtype=str))
        return np.flatnonzero(wanted & (archive.manifest["origin"] == "real").to_numpy())
