"""Phantom chest X-rays: a bright body with two dark ellipses as lungs, and the masks of these."""

from pathlib import Path

import numpy as np

from extract.archive import Archive, ArchiveWriter, ImageRecord, open_archive
from extract.png import encode_png


def ellipse(size: int, center: tuple[float, float], radii: tuple[float, float]) -> np.ndarray:
    """(size, size) bool; center and radii as shares of the side, rows first."""
    rows, columns = (np.mgrid[:size, :size] + 0.5) / size
    return ((rows - center[0]) / radii[0]) ** 2 + ((columns - center[1]) / radii[1]) ** 2 < 1


def phantom(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A picture, (size, size) uint8, and its mask, bool; place and size of the lungs vary with the seed."""
    rng = np.random.default_rng(seed)
    y, spread, height, width = rng.uniform([0.45, 0.19, 0.26, 0.11], [0.55, 0.23, 0.34, 0.14])
    lungs = ellipse(size, (y, 0.5 - spread), (height, width)) | ellipse(
        size, (y, 0.5 + spread), (0.95 * height, 0.9 * width)
    )
    body = ellipse(size, (0.55, 0.5), (0.6, 0.46))
    picture = 20 + 150 * body - 90 * lungs + rng.normal(0, 8, (size, size))
    return picture.clip(0, 255).astype(np.uint8), lungs


def write_png(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(np.ascontiguousarray(pixels.astype(np.uint8))))
    return path


def write_pairs(folder: Path, count: int, size: int = 32, mark: str = "") -> tuple[Path, Path]:
    """Folders of pictures and masks named p00 ... (masks with `mark` behind the name)."""
    for number in range(count):
        picture, mask = phantom(size, number)
        write_png(folder / "images" / f"p{number:02d}.png", picture)
        write_png(folder / "masks" / f"p{number:02d}{mark}.png", mask * 255)
    return folder / "images", folder / "masks"


def write_chest_archive(path: Path, num_subjects: int, size: int = 32, *, rgb: bool = False) -> Archive:
    """Two images a subject, classes a and b by subject."""
    with ArchiveWriter(path, overwrite=True, preparation={"kind": "phantom"}) as writer:
        for number in range(2 * num_subjects):
            picture, _ = phantom(size, 1000 + number)
            subject = number // 2
            record = ImageRecord(label="ab"[subject % 2], subject=f"s{subject:02d}", source=f"{number}.png")
            writer.add(np.stack([picture] * 3, axis=2) if rgb else picture, record)
    return open_archive(path)


def arrays(seeds: range, size: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Images and masks as `train_segmenter` takes them."""
    pairs = [phantom(size, seed) for seed in seeds]
    images = np.stack([picture for picture, _ in pairs])[:, None]
    return images, np.stack([mask.astype(np.uint8) * 255 for _, mask in pairs])[:, None]
