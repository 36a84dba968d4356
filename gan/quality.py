"""How good a generator is: measures of its images against real ones, each with the extractor it rests on."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from extract.errors import SettingsError
from extract.progress import Progress, no_progress
from extract.seeds import derive_seed
from gan.errors import GanError
from gan.features import ClassProbabilities, FeatureExtractor, PathDistance, checked_rows, extract_features
from gan.images import to_pixels
from gan.log import format_time
from gan.metric_names import DEFAULT_NUM, Metric, needed_extractors, parse_metrics
from gan.metrics import (
    density_coverage,
    frechet_distance,
    inception_score,
    kernel_distance,
    precision_recall,
)
from gan.path_length import path_length
from vendor.stylegan2_ada import Generator

__all__ = [
    "DEFAULT_NUM",
    "Metric",
    "MetricResult",
    "RealImages",
    "is_better",
    "measure_generator",
    "measure_images",
    "needed_extractors",
    "parse_metrics",
]

FeatureCache = dict[tuple[object, ...], np.ndarray]  # of the real images, kept to measure again
READ_BATCH = 64  # real images at a time
KID_SUBSET = 1000


class RealImages(Protocol):
    """What is compared with: `gan.data.TrainingImages` is one."""

    @property
    def rows(self) -> np.ndarray: ...

    @property
    def mirror(self) -> bool: ...

    def __len__(self) -> int:
        """How many there are; twice the rows where mirrored copies are shown, which come second."""
        ...

    def pixels(self, items: np.ndarray) -> np.ndarray:
        """(n, C, H, W) uint8."""
        ...

    def one_hot(self, items: np.ndarray) -> np.ndarray:
        """(n, c_dim) float32."""
        ...


@dataclass(frozen=True)
class MetricResult:
    """One measure of one generator, with all that has to be equal before it is compared with another."""

    metric: Metric
    results: dict[str, float]  # by result name
    num_real: int
    num_fake: int
    seconds: float
    weights_sha256: str  # of the extractor

    @property
    def value(self) -> float:
        """The figure that decides between two snapshots."""
        return self.results[self.metric.result_names[0]]

    def line(self, snapshot: str | None = None, num_gpus: int = 1) -> dict[str, Any]:
        """The official object of `metric-<name>.jsonl`, then what is ours.

        Args:
            snapshot: file name of the snapshot, relative to the run folder.
        """
        return {
            "results": dict(self.results),
            "metric": self.metric.text,
            "total_time": self.seconds,
            "total_time_str": format_time(self.seconds),
            "num_gpus": num_gpus,
            "snapshot_pkl": snapshot,
            "timestamp": time.time(),
            "extractor": self.metric.extractor,
            "weights_sha256": self.weights_sha256,
            "num_real": self.num_real,
            "num_fake": self.num_fake,
        }


def is_better(new: MetricResult, old: MetricResult) -> bool:
    """Whether the first of two figures of the same measure is the better one.

    Raises:
        GanError: if they are not the same measure: another name, extractor, other weights or counts.
    """
    for what, mine, other in (
        ("measure", new.metric.text, old.metric.text),
        ("extractor's weights", new.weights_sha256[:12], old.weights_sha256[:12]),
        ("number of real images", new.num_real, old.num_real),
        ("number of generated images", new.num_fake, old.num_fake),
    ):
        if mine != other:
            raise GanError(
                f"{new.metric.text} and {old.metric.text} cannot be compared: the {what} differs ({mine}, "
                f"{other}); measure both alike, with the same extractor and counts"
            )
    return new.value < old.value if new.metric.lower_is_better else new.value > old.value


@torch.no_grad()
def measure_generator(
    G: Generator,
    reals: RealImages,
    metrics: Sequence[Metric],
    extractors: Mapping[str, FeatureExtractor],
    *,
    num: int = DEFAULT_NUM,
    seed: int = 0,
    batch_size: int = 32,
    truncation_psi: float = 1.0,
    device: str | torch.device = "cpu",
    cache: FeatureCache | None = None,
    progress: Progress = no_progress,
) -> list[MetricResult]:
    """Measure a generator in evaluation mode; random states elsewhere (a training's) stay as they are.

    Fakes are as the official measures make them: labels of random real images, random noise, whole grey
    levels. All measures look at the same fakes, each at as many as it wants.

    Args:
        reals: compared with, and where labels are drawn from.
        extractors: by name, one for each of `needed_extractors(metrics)`.
        num: images a side, at most, of the measures that take equally many.
        cache: features of `reals` from an earlier call with the same `reals`; filled here.

    Raises:
        SettingsError: if an extractor is missing or cannot do what a measure needs, or there are too few
            images.
    """
    device = torch.device(device)
    fakes = _GeneratedImages(G, reals, seed, truncation_psi, device)
    counts = [_counts(metric, len(reals.rows), len(reals), num) for metric in metrics]
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(derive_seed("noise of fakes", seed))
        return _measure(metrics, counts, extractors, reals, fakes, seed, batch_size, cache, progress)


def measure_images(
    reals: RealImages,
    fakes: RealImages,
    metrics: Sequence[Metric],
    extractors: Mapping[str, FeatureExtractor],
    *,
    num: int = DEFAULT_NUM,
    seed: int = 0,
    batch_size: int = 32,
    cache: FeatureCache | None = None,
    progress: Progress = no_progress,
) -> list[MetricResult]:
    """Measure one set of images against another, for instance two archives.

    Raises:
        SettingsError: as `measure_generator`, and for a path length or a measure with more fakes than exist.
    """
    counts = []
    for metric in metrics:
        if metric.kind == "ppl":
            raise SettingsError(
                f"--metrics={metric.text}: a path length needs a generator (--network), not images"
            )
        if metric.num_fakes is not None and metric.num_fakes > len(fakes.rows):
            raise SettingsError(
                f"--metrics={metric.text}: expected {metric.num_fakes:,} generated images, got "
                f"{len(fakes.rows):,}; take a measure with equal counts, for instance "
                f"{metric.kind}@{metric.extractor}"
            )
        n_real, n_fake = _counts(metric, len(reals.rows), len(reals), min(num, len(fakes.rows)))
        counts.append((n_real, n_fake))
    sampled = _StoredImages(fakes, seed)
    return _measure(metrics, counts, extractors, reals, sampled, seed, batch_size, cache, progress)


def _counts(metric: Metric, num_rows: int, num_with_mirrored: int, num: int) -> tuple[int, int]:
    """How many reals and how many fakes a measure takes."""
    if metric.num_fakes is None:
        equal = min(num_rows, num)
        return (0 if metric.kind == "ppl" else equal), equal
    available = num_with_mirrored if metric.has_mirrored else num_rows
    n_real = available if metric.max_reals is None else min(available, metric.max_reals)
    return (0 if metric.kind in ("is", "ppl") else n_real), metric.num_fakes


class _Fakes(Protocol):
    def batches(self, num: int, batch_size: int) -> Iterator[np.ndarray]: ...


class _GeneratedImages:
    """Fakes of a generator, the first n always the same ones."""

    def __init__(
        self, G: Generator, reals: RealImages, seed: int, truncation_psi: float, device: torch.device
    ) -> None:
        self.G, self.device, self.seed = G, device, seed
        self._reals, self._psi = reals, truncation_psi
        self._label_random = np.random.RandomState(derive_seed("labels of fakes", seed))

    def labels(self, num: int) -> torch.Tensor:
        if self.G.c_dim == 0:
            return torch.zeros([num, 0], device=self.device)
        items = self._label_random.randint(len(self._reals), size=num)
        return torch.from_numpy(self._reals.one_hot(items)).to(self.device)

    def batches(self, num: int, batch_size: int) -> Iterator[np.ndarray]:
        random = torch.Generator().manual_seed(derive_seed("latents of fakes", self.seed))
        for start in range(0, num, batch_size):
            count = min(batch_size, num - start)
            z = torch.randn([count, self.G.z_dim], generator=random).to(self.device)
            images = self.G(z, self.labels(count), truncation_psi=self._psi, noise_mode="random")
            yield to_pixels(images.float().cpu().numpy())


class _StoredImages:
    def __init__(self, images: RealImages, seed: int) -> None:
        self._images, self._seed = images, seed

    def batches(self, num: int, batch_size: int) -> Iterator[np.ndarray]:
        items = _choose(len(self._images.rows), num, self._seed)
        for start in range(0, num, batch_size):
            yield self._images.pixels(items[start : start + batch_size])


def _choose(available: int, num: int, seed: int) -> np.ndarray:
    """`num` different places of those available; all of them in order where all are wanted."""
    if num == available:
        return np.arange(available)
    return np.random.RandomState(derive_seed("images measured", seed)).permutation(available)[:num]


def _measure(
    metrics: Sequence[Metric],
    counts: Sequence[tuple[int, int]],
    extractors: Mapping[str, FeatureExtractor],
    reals: RealImages,
    fakes: _Fakes,
    seed: int,
    batch_size: int,
    cache: FeatureCache | None,
    progress: Progress,
) -> list[MetricResult]:
    cache = {} if cache is None else cache
    _check(metrics, counts, extractors)
    steps = _Steps(metrics, counts, progress)
    fake_rows, seconds = _fake_features(metrics, counts, extractors, fakes, batch_size, steps)
    found = []
    values: tuple[float, ...]
    for metric, (n_real, n_fake) in zip(metrics, counts, strict=True):
        extractor = extractors[metric.extractor]
        started = time.monotonic()
        if metric.kind == "ppl":
            values = _path_length(metric, n_fake, extractor, fakes, seed, batch_size, steps)
        elif metric.kind == "is":
            score = inception_score(fake_rows[metric.extractor, "probs"][:n_fake])
            values = (score.mean, score.std)
        else:
            real = _real_features(extractor, reals, n_real, metric.has_mirrored, seed, cache, steps)
            fake = fake_rows[metric.extractor, "features"][:n_fake]
            # Subsets of at most half the images, so that they differ and the standard error can be told.
            values = _compare(metric.kind, real, fake, seed, has_error=metric.has_equal_counts)
        results = dict(zip(metric.result_names, values, strict=False))  # the official KID has no error
        spent = time.monotonic() - started + seconds.get(metric.extractor, 0.0)
        found.append(MetricResult(metric, results, n_real, n_fake, spent, extractor.weights_sha256))
    return found


def _compare(kind: str, real: np.ndarray, fake: np.ndarray, seed: int, has_error: bool) -> tuple[float, ...]:
    match kind:
        case "fid":
            return (frechet_distance(real, fake),)
        case "kid":
            size = min(KID_SUBSET, len(real) // 2) if has_error else KID_SUBSET
            random = np.random.RandomState(seed)
            distance = kernel_distance(real, fake, max_subset_size=size, random=random)
            return distance.mean, distance.standard_error
        case "pr":
            manifold = precision_recall(real, fake)
            return manifold.precision, manifold.recall
        case _:
            spread = density_coverage(real, fake)
            return spread.density, spread.coverage


def _check(
    metrics: Sequence[Metric], counts: Sequence[tuple[int, int]], extractors: Mapping[str, FeatureExtractor]
) -> None:
    for metric, (n_real, n_fake) in zip(metrics, counts, strict=True):
        if metric.extractor not in extractors:
            raise SettingsError(
                f"--metrics={metric.text}: expected the extractor '{metric.extractor}', got none of that "
                f"name; give it with --extractor {metric.extractor}=PATH"
            )
        extractor = extractors[metric.extractor]
        if metric.kind == "is" and not isinstance(extractor, ClassProbabilities):
            raise SettingsError(
                f"--metrics={metric.text}: expected an extractor that classifies (inception), got "
                f"'{metric.extractor}', which gives features alone"
            )
        if metric.kind == "ppl" and not isinstance(extractor, PathDistance):
            raise SettingsError(
                f"--metrics={metric.text}: expected an extractor that tells distances of images, got "
                f"'{metric.extractor}'; take vgg16, task or pixels"
            )
        fewest = {"kid": 4, "pr": 4, "dc": 6, "is": 10, "ppl": 1}.get(metric.kind, 2)
        judged = n_fake if metric.kind in ("is", "ppl") else min(n_real, n_fake)
        if judged < fewest:
            raise SettingsError(
                f"--metrics={metric.text}: expected at least {fewest} images on each side, got {judged}; "
                "take more images (--num)"
            )


def _fake_features(
    metrics: Sequence[Metric],
    counts: Sequence[tuple[int, int]],
    extractors: Mapping[str, FeatureExtractor],
    fakes: _Fakes,
    batch_size: int,
    steps: "_Steps",
) -> tuple[dict[tuple[str, str], np.ndarray], dict[str, float]]:
    """Features (and class probabilities) of the fakes by extractor, in one pass; seconds spent."""
    wanted: dict[tuple[str, str], int] = {}
    for metric, (_, n_fake) in zip(metrics, counts, strict=True):
        if metric.kind != "ppl":
            key = (metric.extractor, "probs" if metric.kind == "is" else "features")
            wanted[key] = max(wanted.get(key, 0), n_fake)
    rows: dict[tuple[str, str], np.ndarray] = {}
    seconds = dict.fromkeys(needed_extractors(metrics), 0.0)
    done = 0
    started = time.monotonic()
    for images in fakes.batches(max(wanted.values(), default=0), batch_size):
        sampling = time.monotonic() - started
        for name in {name for name, _ in wanted}:
            seconds[name] += sampling
        for (name, what), num in wanted.items():
            take = images[: num - done]
            if done >= num:
                continue
            began = time.monotonic()
            part = checked_rows(_look(extractors[name], what)(take), len(take))
            if (name, what) not in rows:
                rows[name, what] = np.empty((num, part.shape[1]), dtype=np.float32)
            rows[name, what][done : done + len(take)] = part
            seconds[name] += time.monotonic() - began
        done += len(images)
        steps.add(len(images), "generated images measured")
        started = time.monotonic()
    return rows, seconds


def _look(extractor: FeatureExtractor, what: str) -> Callable[[np.ndarray], np.ndarray]:
    if what == "features":
        return extractor.features
    assert isinstance(extractor, ClassProbabilities)
    return extractor.class_probs


def _real_features(
    extractor: FeatureExtractor,
    reals: RealImages,
    num: int,
    has_mirrored: bool,
    seed: int,
    cache: FeatureCache,
    steps: "_Steps",
) -> np.ndarray:
    available = len(reals) if has_mirrored else len(reals.rows)
    key = (extractor.name, extractor.weights_sha256, num, available, seed)
    if key not in cache:
        items = _choose(available, num, seed)
        cache[key] = extract_features(
            extractor.features,
            num,
            lambda places: reals.pixels(items[places]),
            READ_BATCH,
            lambda count: steps.add(count, "real images measured"),
        )
    return cache[key]


def _path_length(
    metric: Metric,
    num_pairs: int,
    extractor: FeatureExtractor,
    fakes: _Fakes,
    seed: int,
    batch_size: int,
    steps: "_Steps",
) -> tuple[float]:
    assert isinstance(fakes, _GeneratedImages) and isinstance(extractor, PathDistance) and metric.path
    value = path_length(
        fakes.G,
        fakes.labels,
        extractor,
        metric.path,
        num_pairs,
        seed=derive_seed("path length", seed),
        batch_size=batch_size,
        device=fakes.device,
        report=lambda count: steps.add(2 * count, "images on paths measured"),
    )
    return (value,)


class _Steps:
    """Images measured so far, for the progress bar."""

    def __init__(
        self, metrics: Sequence[Metric], counts: Sequence[tuple[int, int]], progress: Progress
    ) -> None:
        self._progress, self._done = progress, 0
        compared = [pair for metric, pair in zip(metrics, counts, strict=True) if metric.kind != "ppl"]
        paths = [pair for metric, pair in zip(metrics, counts, strict=True) if metric.kind == "ppl"]
        names = {(metric.extractor, pair[0]) for metric, pair in zip(metrics, counts, strict=True)}
        self._total = max((fake for _, fake in compared), default=0) + sum(n for _, n in names)
        self._total += sum(2 * fake for _, fake in paths)

    def add(self, count: int, message: str) -> None:
        self._done = min(self._done + count, self._total)
        self._progress(self._done, self._total, message)
