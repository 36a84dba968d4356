"""Pictures and the masks that experts drew on them: found by name, checked, and split by subject."""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from classifier.errors import ClassifierError
from classifier.segment_frame import Frame
from extract.building import Unreadable, list_files, refuse_unreadable
from extract.errors import ExtractError, name_some
from extract.file_hash import file_sha256
from extract.parallel import map_ordered, num_workers
from extract.picture_file import DICOM_SUFFIXES, PICTURE_SUFFIXES, read_picture
from extract.progress import Progress, no_progress
from extract.seeds import derive_seed
from extract.subjects import compile_pattern, match_subject

# What is added to a picture's name for its mask (or its image): scan7.png with scan7_mask.png.
MASK_MARK = re.compile(r"[._ -](masks?|seg|segmentation|labels?|gt)$", re.IGNORECASE)
IMAGE_MARK = re.compile(r"[._ -](images?|img|raw)$", re.IGNORECASE)
MAX_BETWEEN = 0.03  # share of a mask's pixels that may be neither dark nor bright (JPEG's edges)
CHUNK_SIZE = 8
PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class MaskPair:
    """A picture, its masks (several are united: left and right lung), and whose it is."""

    name: str  # path of the image below its folder
    image: Path
    masks: tuple[Path, ...]
    subject: str


@dataclass(frozen=True)
class PairSet:
    """All pairs that can be used, and what cannot."""

    pairs: tuple[MaskPair, ...]
    images: np.ndarray  # (N, 1, size, size) uint8, as the network's square
    masks: np.ndarray  # (N, 1, size, size) uint8, 255 = lung, between at the edges
    hashes: tuple[tuple[str, str], ...]  # SHA-256 of the image's file and of its masks' files
    unreadable: tuple[Unreadable, ...] = ()  # left out

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def subjects(self) -> np.ndarray:
        """(N,) str."""
        return np.array([pair.subject for pair in self.pairs], dtype=str)

    @property
    def sha256(self) -> str:
        """One hash over names and contents of all pairs."""
        text = "\n".join(
            "\t".join((pair.name, *hashes)) for pair, hashes in zip(self.pairs, self.hashes, strict=True)
        )
        return hashlib.sha256(text.encode()).hexdigest()


def find_pairs(
    images: Path, masks: Sequence[Path], subject_pattern: str | None = None
) -> tuple[list[MaskPair], list[Unreadable]]:
    """Pair pictures with masks of the same name, whatever suffix; `NAME_mask.png` belongs to `NAME.jpg`, too.

    Args:
        images: folder of pictures, at any depth.
        masks: folders of masks with the same paths below them; the masks of one picture are united.
        subject_pattern: finds the subject in the image's path; None = each picture is of another person.

    Returns:
        The pairs in the order of their names, and the files that have no partner.

    Raises:
        ExtractError: if a folder has no pictures, two pictures claim one mask, or the pattern does not match.
        SettingsError: if the pattern is no regular expression.
    """
    pattern = None if subject_pattern is None else compile_pattern(subject_pattern)
    suffixes = (*PICTURE_SUFFIXES, *DICOM_SUFFIXES)
    names, _ = list_files(images, suffixes, "pictures")
    by_key = _by_key(images, names, IMAGE_MARK)
    found: dict[str, list[Path]] = defaultdict(list)
    alone: list[Unreadable] = []
    for folder in masks:
        files, _ = list_files(folder, PICTURE_SUFFIXES, "masks")
        for key, file in _by_key(folder, files, MASK_MARK).items():
            if key in by_key:
                found[key].append(folder / file)
            else:
                alone.append(Unreadable(str(folder / file), "no picture of that name"))
    pairs: list[MaskPair] = []
    for key, name in by_key.items():
        if len(found[key]) < len(masks):
            missing = [str(folder) for folder in masks if not any(folder in p.parents for p in found[key])]
            alone.append(Unreadable(str(images / name), f"no mask of that name in {' and '.join(missing)}"))
            continue
        subject = str(PurePosixPath(name).with_suffix(""))
        if pattern is not None:
            subject = match_subject(pattern, name)
        pairs.append(MaskPair(name, images / name, tuple(found[key]), subject))
    return sorted(pairs, key=lambda pair: pair.name), alone


def read_pairs(
    images: Path,
    masks: Sequence[Path],
    size: int,
    *,
    subject_pattern: str | None = None,
    skip_unreadable: bool = False,
    progress: Progress = no_progress,
) -> PairSet:
    """Find, read and check all pairs, and bring them to the network's square of `size` pixels.

    Raises:
        ExtractError: if pairs cannot be used (each is named) and `skip_unreadable` is not set, or none can.
    """
    found, unreadable = find_pairs(images, masks, subject_pattern)
    pairs, pictures, squares, hashes = [], [], [], []
    load = partial(_load, size=size)
    results = map_ordered(load, found, num_workers(None, len(found) // 100), CHUNK_SIZE)
    for number, (pair, result) in enumerate(zip(found, results, strict=True)):
        if isinstance(result, Unreadable):
            unreadable.append(result)
        else:
            picture, square, own = result
            pairs.append(pair)
            pictures.append(picture)
            squares.append(square)
            hashes.append(own)
        progress(number + 1, len(found), "reading pairs")
    refuse_unreadable(unreadable, len(pairs) + len(unreadable), "pictures and masks", skip_unreadable)
    if not pairs:
        raise ExtractError(f"{images}: expected pictures with masks of the same names, got none")
    return PairSet(
        tuple(pairs),
        np.stack(pictures)[:, None],
        np.stack(squares)[:, None],
        tuple(hashes),
        tuple(unreadable),
    )


def read_pair(pair: MaskPair) -> tuple[np.ndarray, np.ndarray]:
    """The picture, (H, W) uint8, and its mask, (H, W) bool, as large as they are.

    Raises:
        ExtractError: if one cannot be read, their sizes differ, or the mask is none.
    """
    picture = read_picture(pair.image, rgb=False)
    mask = np.zeros(picture.shape, bool)
    for path in pair.masks:
        part = read_mask(path)
        if part.shape != picture.shape:
            raise ExtractError(
                f"{path}: expected a mask of {picture.shape[1]}x{picture.shape[0]} pixels as "
                f"{pair.image.name}, got {part.shape[1]}x{part.shape[0]}; export both at one size"
            )
        mask |= part
    if not mask.any() or mask.all():
        raise ExtractError(
            f"{pair.masks[0]}: expected a mask with pixels inside and outside, got one that is "
            f"{'all inside' if mask.any() else 'empty'}; draw it, or leave the pair out"
        )
    return picture, mask


def read_mask(path: Path) -> np.ndarray:
    """A picture of two gray levels as (H, W) bool; the brighter one is inside.

    Raises:
        ExtractError: if it cannot be read, or has levels between: a photograph, or several labels.
    """
    levels = read_picture(path, rgb=False)
    low, high = int(levels.min()), int(levels.max())
    if low == high:
        return levels > 0
    relative = (levels.astype(np.float32) - low) / (high - low)
    between = float(((relative > 0.2) & (relative < 0.8)).mean())
    if between > MAX_BETWEEN:
        raise ExtractError(
            f"{path}: expected a mask of two gray levels, got {between:.0%} of its pixels between them; "
            "is it a picture, or a map of several labels? Write the lungs as white on black"
        )
    return relative >= 0.5


def split_pairs(pairs: PairSet, val_share: float, test_share: float, seed: int) -> dict[str, np.ndarray]:
    """Draw the parts by subject: ascending rows of train, val and test.

    Subjects that share an identical picture are drawn together. Each part has at least one subject.

    Raises:
        ClassifierError: if there are fewer than three subjects.
    """
    groups = _linked(pairs)
    names = sorted(set(groups))
    if len(names) < 3:
        raise ClassifierError(
            f"expected pairs of at least 3 subjects for training, validation and test, got {len(names)} "
            f"({name_some(names)}); check --subject-pattern, or add pairs"
        )
    order = np.random.default_rng(derive_seed(seed, "segment split")).permutation(len(names))
    num_test = min(max(1, round(test_share * len(names))), len(names) - 2)
    num_val = min(max(1, round(val_share * len(names))), len(names) - 1 - num_test)
    place = np.empty(len(names), dtype=int)
    place[order] = np.arange(len(names))
    rank = place[np.searchsorted(names, groups)]  # (N,)
    return {
        "test": np.flatnonzero(rank < num_test),
        "val": np.flatnonzero((rank >= num_test) & (rank < num_test + num_val)),
        "train": np.flatnonzero(rank >= num_test + num_val),
    }


def _linked(pairs: PairSet) -> list[str]:
    """For each pair the name of its group: the first of the subjects that identical pictures join."""
    leader: dict[str, str] = {}

    def find(subject: str) -> str:
        while leader.setdefault(subject, subject) != subject:
            subject = leader[subject]
        return subject

    owner: dict[bytes, str] = {}
    for pair, picture in zip(pairs.pairs, pairs.images, strict=True):
        content = hashlib.sha256(picture.tobytes()).digest()
        a, b = find(owner.setdefault(content, pair.subject)), find(pair.subject)
        leader[max(a, b)] = min(a, b)
    return [find(pair.subject) for pair in pairs.pairs]


def _by_key(folder: Path, files: Sequence[str], mark: re.Pattern[str]) -> dict[str, str]:
    """Files by their path without suffix and mark, in small letters."""
    found: dict[str, str] = {}
    for file in files:
        key = mark.sub("", str(PurePosixPath(file).with_suffix(""))).lower()
        if key in found:
            raise ExtractError(
                f"{folder}: expected one file of each name, got {found[key]} and {file}; rename or remove one"
            )
        found[key] = file
    return found


def _load(pair: MaskPair, size: int) -> tuple[np.ndarray, np.ndarray, tuple[str, str]] | Unreadable:
    try:
        picture, mask = read_pair(pair)
        hashes = (file_sha256(pair.image), "+".join(file_sha256(path) for path in pair.masks))
    except (ExtractError, OSError) as error:
        return Unreadable(str(pair.image), str(error))
    frame = Frame(picture.shape[0], picture.shape[1], size)
    return frame.put(picture), frame.put(mask.astype(np.uint8) * 255, is_mask=True), hashes
