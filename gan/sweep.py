"""Truncation sweep: the same seeds at several psi, what it gains in quality and what it loses in variety.

Source: Karras et al. 2018, arXiv:1812.04948, Appendix B (truncation); Kynkaanniemi et al. 2019,
arXiv:1904.06991, Section 5.1 (precision and recall against psi); Naeem et al. 2020, arXiv:2002.09797 (density
and coverage).
"""

import csv
import io
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from extract.atomic import write_text
from extract.errors import SettingsError
from extract.json_values import json_value
from extract.progress import Progress, no_progress
from gan.class_shares import assign_classes
from gan.data import TrainingImages
from gan.errors import GanError
from gan.features import FeatureExtractor
from gan.images import prepare_outdir
from gan.quality import FeatureCache, measure_images, parse_metrics
from gan.sampling import Sampler, check_sampling, open_sampler
from gan.snapshot import Snapshot, read_snapshot
from gan.sweep_pictures import draw_measures, draw_samples

MEASURES = ("precision", "recall", "density", "coverage", "fid")
FILES = ("samples.png", "measures.png", "sweep.json", "sweep.csv")
MAX_NUM_PSI = 50


@dataclass(frozen=True)
class SweepConfig:
    """What is sampled, and how it is measured."""

    psi: tuple[float, ...] = (0.3, 0.5, 0.7, 0.85, 1.0)
    seeds: tuple[int, ...] = tuple(range(1000))
    class_name: str | None = None  # of a conditional generator; None = all, in the shares of the real images
    noise_mode: str = "const"
    columns: int = 10  # samples a psi in the picture
    batch_size: int = 32

    def __post_init__(self) -> None:
        if not 1 <= len(self.psi) <= MAX_NUM_PSI or len(set(self.psi)) < len(self.psi):
            raise SettingsError(
                f"--psi must be 1 to {MAX_NUM_PSI} different numbers such as 0.5,0.7,1, got "
                f"{','.join(f'{psi:g}' for psi in self.psi)}"
            )
        if self.columns < 1:
            raise SettingsError(f"--columns must be at least 1, got {self.columns}")
        for psi in self.psi:
            check_sampling(self.seeds, self.noise_mode, self.batch_size, psi)


@dataclass(frozen=True)
class SweepRow:
    """The measures of one psi, all with the sweep's extractor and counts."""

    psi: float
    precision: float  # share of generated images near a real one
    recall: float  # share of real images near a generated one
    density: float  # how many real images' neighbourhoods a generated one lies in; 1 = as real images do
    coverage: float  # share of real images that have a generated one in their neighbourhood
    fid: float


@dataclass(frozen=True)
class SweepSummary:
    """What a sweep found."""

    outdir: Path
    rows: tuple[SweepRow, ...]  # in the order of psi
    extractor: str
    num_real: int
    num_fake: int

    @property
    def best_coverage(self) -> SweepRow:
        return max(self.rows, key=lambda row: row.coverage)


def sweep_truncation(
    network: Path,
    outdir: Path,
    reals: TrainingImages,
    extractor: FeatureExtractor,
    config: SweepConfig | None = None,
    *,
    fold: int | None = None,
    device: str = "cpu",
    progress: Progress = no_progress,
    overwrite: bool = False,
) -> SweepSummary:
    """Sample the same seeds at each psi, measure them against real images, write pictures and numbers.

    Written are `samples.png` (a row a psi, a column a seed), `measures.png`, `sweep.json` and `sweep.csv`.

    Args:
        reals: the training part; opened with `cond=True` for a conditional generator.
        extractor: what images are compared by; figures of different extractors cannot be compared.
        fold: of the split that `reals` come from, for the record.

    Raises:
        SettingsError: for wrong settings, or real images that are not those of the generator's training part.
        GanError: if the snapshot cannot be used, or a file exists and may not be overwritten.
    """
    config = config or SweepConfig()
    snapshot = read_snapshot(network)
    check_reals(snapshot, reals)
    reals, classes = _reals_and_classes(snapshot, reals, config)
    num_real = min(len(reals.rows), len(config.seeds))
    sampler = open_sampler(
        network, class_name=config.class_name, device=device, several_classes=classes is not None
    )
    prepare_outdir(outdir, FILES, overwrite)

    metrics = parse_metrics(f"pr@{extractor.name},dc@{extractor.name},fid@{extractor.name}")
    cache: FeatureCache = {}
    rows, shown = [], []
    for number, psi in enumerate(sorted(config.psi)):
        fakes = SampledImages.sample(sampler, config, psi, classes)
        found = measure_images(
            reals, fakes, metrics, {extractor.name: extractor}, num=len(config.seeds), cache=cache,
        )  # fmt: skip
        values = [value for result in found for value in result.results.values()]
        rows.append(SweepRow(psi, *values))
        shown.append(fakes.images[: config.columns])
        progress(number + 1, len(config.psi), f"psi {psi:g}: coverage {rows[-1].coverage:.3f}")
        num_real, num_fake, weights = found[0].num_real, found[0].num_fake, found[0].weights_sha256

    summary = SweepSummary(outdir, tuple(rows), extractor.name, num_real, num_fake)
    what = f"{extractor.name} features, {num_real:,} real and {num_fake:,} generated images"
    draw_samples(outdir / "samples.png", [row.psi for row in rows], np.stack(shown))
    columns = {name: [getattr(row, name) for row in rows] for name in ("psi", *MEASURES)}
    draw_measures(outdir / "measures.png", columns, what)
    record = {
        "format": "synthlabel-sweep-1",
        "snapshot_sha256": snapshot.sha256,
        "extractor": extractor.name,
        "weights_sha256": weights,
        "archive_sha256": reals.archive_sha256,
        "split_sha256": reals.split_sha256,
        "fold": fold,
        "num_real": num_real,
        "num_fake": num_fake,
        "class": sampler.class_name,
        "noise_mode": config.noise_mode,
        "first_seed": config.seeds[0],
        "num_seeds": len(config.seeds),
        "rows": [vars(row) for row in rows],
    }
    write_text(outdir / "sweep.json", json.dumps(json_value(record), indent=1) + "\n")
    write_text(outdir / "sweep.csv", _csv(columns, record))
    return summary


def check_reals(snapshot: Snapshot, reals: TrainingImages) -> None:
    """Refuse to choose psi on images that the generator was kept from: those will judge what it makes.

    Raises:
        SettingsError: if the real images are of the snapshot's archive, but not of its split.
    """
    same_archive = snapshot.archive_sha256 == reals.archive_sha256
    if same_archive and snapshot.split_sha256 is not None:
        strangers = set(reals.subjects) - set(snapshot.subjects)
        if reals.split_sha256 != snapshot.split_sha256 or strangers:
            raise SettingsError(
                f"--split: the network was trained on the training part of fold {snapshot.fold} of the split "
                f"with SHA-256 {snapshot.split_sha256[:12]}; compare with that part alone (--split, --fold="
                f"{snapshot.fold}), or psi would be chosen on validation or test images"
            )
    if tuple(snapshot.image_shape) != tuple(reals.image_shape):
        raise SettingsError(
            f"--data: expected images of the network's shape {tuple(snapshot.image_shape)} (C, H, W), got "
            f"{tuple(reals.image_shape)}"
        )


@dataclass(frozen=True)
class SampledImages:
    """Generated images in memory, as `measure_images` wants them."""

    images: np.ndarray  # (N, C, H, W) uint8
    mirror: bool = False

    @classmethod
    def sample(
        cls, sampler: Sampler, config: SweepConfig, psi: float, classes: list[int] | None
    ) -> "SampledImages":
        batches = sampler.batches(config.seeds, psi, config.noise_mode, config.batch_size, classes)
        return cls(np.concatenate([images for _, images in batches]))

    @property
    def rows(self) -> np.ndarray:
        return np.arange(len(self.images))

    def __len__(self) -> int:
        return len(self.images)

    def pixels(self, items: np.ndarray) -> np.ndarray:
        return self.images[items]

    def one_hot(self, items: np.ndarray) -> np.ndarray:
        return np.zeros((len(items), 0), dtype=np.float32)


def _reals_and_classes(
    snapshot: Snapshot, reals: TrainingImages, config: SweepConfig
) -> tuple[TrainingImages, list[int] | None]:
    """The real images to compare with, without mirrored copies, and the class of each generated image."""
    reals = replace(reals, mirror=False)
    if not snapshot.classes:
        return reals, None
    names = list(snapshot.classes)
    labels = reals.labels[reals.rows]
    if list(reals.classes) != names:
        raise SettingsError(
            f"--data: expected the network's classes {', '.join(names)}, got "
            f"{', '.join(reals.classes) or 'none'}"
        )
    if config.class_name is None:
        shares = np.bincount(labels, minlength=len(names)) / len(labels)
        return reals, assign_classes(len(config.seeds), shares.tolist())
    if config.class_name not in names:
        raise SettingsError(f"--class must be one of {', '.join(names)}, got '{config.class_name}'")
    chosen = reals.rows[labels == names.index(config.class_name)]
    if not len(chosen):
        raise GanError(f"--class={config.class_name}: expected real images of the class in --data, got none")
    return replace(reals, rows=chosen), None


def _csv(columns: dict[str, list[float]], record: dict[str, Any]) -> str:
    """One line a psi; extractor and counts stand in each, so that none is compared with what it must not."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    same = ("extractor", "num_real", "num_fake", "class", "snapshot_sha256")
    writer.writerow([*columns, *same])
    for values in zip(*columns.values(), strict=True):
        writer.writerow([*(f"{value:.6g}" for value in values), *(record[name] for name in same)])
    return table.getvalue()


def parse_psi(text: str) -> tuple[float, ...]:
    """`0.5,0.7,1` to numbers.

    Raises:
        SettingsError: for anything else.
    """
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise SettingsError(f"--psi must be numbers such as 0.5,0.7,1, got '{text}'") from error
    if not all(map(math.isfinite, values)):
        raise SettingsError(f"--psi must be finite numbers, got '{text}'")
    return values
