"""Interpolation videos: a walk through the latent space that ends where it began."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from extract.errors import SettingsError
from extract.progress import Progress, no_progress
from gan.class_shares import ALL_CLASSES
from gan.images import tile
from gan.metrics import slerp
from gan.sampling import Sampler, check_sampling, open_sampler
from gan.seeds import latents
from gan.snapshot import read_snapshot
from gan.video_file import MIN_CELL, check_video, write_video

SPACES = ("z", "w")
DEFAULT_FRAMES_PER_SEED = 60
MAX_NUM_FRAMES = 1_000_000
BATCH = 16
MIN_GRID_CELL = 128  # pixels a cell has at least, where there are several


@dataclass(frozen=True)
class VideoConfig:
    """What is shown, and how long."""

    seeds: tuple[int, ...]  # in this order, and back to the first
    frames_per_seed: int | None = None  # from one seed to the next; None = 60, or by `seconds`
    seconds: float | None = None  # of the whole video, instead of frames_per_seed
    fps: float = 30.0
    truncation_psi: float = 1.0
    space: str = "z"  # z: along the sphere of latents, at even speed; w: a smooth curve through the w
    class_name: str | None = None  # "all" = each seed as every class in turn
    grid: tuple[int, int] = (1, 1)  # columns and rows of walks shown side by side
    noise_mode: str = "const"

    def __post_init__(self) -> None:
        check_sampling(self.seeds, self.noise_mode, BATCH, self.truncation_psi)
        if self.space not in SPACES:
            raise SettingsError(f"--space must be one of {', '.join(SPACES)}, got '{self.space}'")
        if self.frames_per_seed is not None and self.seconds is not None:
            raise SettingsError("give --frames-per-seed or --seconds, not both")
        if self.frames_per_seed is not None and self.frames_per_seed < 1:
            raise SettingsError(f"--frames-per-seed must be at least 1, got {self.frames_per_seed}")
        if self.seconds is not None and not 0 < self.seconds < math.inf:
            raise SettingsError(f"--seconds must be above 0, got {self.seconds:g}")
        columns, rows = self.grid
        if columns < 1 or rows < 1:
            raise SettingsError(f"--grid must be columns x rows such as 3x2, got {columns}x{rows}")
        if len(self.seeds) % (columns * rows):
            raise SettingsError(
                f"--seeds must share out evenly over the {columns * rows} cells of --grid={columns}x{rows}, "
                f"got {len(self.seeds)} seeds"
            )


@dataclass(frozen=True)
class VideoSummary:
    """What a call made."""

    dest: Path
    num_frames: int
    seconds: float  # that it plays
    network: Path


def write_interpolation(
    network: Path,
    dest: Path,
    config: VideoConfig,
    *,
    device: str = "cpu",
    progress: Progress = no_progress,
    overwrite: bool = False,
) -> VideoSummary:
    """Walk from seed to seed and back to the first; write the images as a video (H.264, .mp4).

    Frame 0 shows the first seed just as `gan generate` samples it, up to the compression; the frame after the
    last one would be frame 0 again, so that the video can be looped. With a grid, each cell walks through its
    own seeds, in the order of reading.

    Raises:
        SettingsError: for settings that do not fit the network.
        GanError: if the snapshot cannot be used, videos cannot be written here, or dest exists and may not be
            overwritten.
    """
    check_video(dest, config.fps, overwrite)
    classes = read_snapshot(network).classes
    walks_classes = config.class_name == ALL_CLASSES and ALL_CLASSES not in classes and bool(classes)
    sampler = open_sampler(
        network,
        class_name=None if walks_classes else config.class_name,
        device=device,
        several_classes=walks_classes,
    )
    columns, rows = config.grid
    walk = _walk(sampler, config, len(classes) if walks_classes else 0)
    num_frames = _num_frames(config, walk.num_keys)
    factor = _enlargement(sampler.generator.img_resolution, columns * rows)

    def frames() -> Iterator[np.ndarray]:
        for start in range(0, num_frames, BATCH):
            times = np.arange(start, min(start + BATCH, num_frames)) / num_frames
            ws = walk.at(times * walk.num_keys)  # (T, cells, num_ws, w_dim)
            images = sampler.synthesize(ws.flatten(0, 1), config.noise_mode, BATCH)
            images = images.repeat(factor, axis=2).repeat(factor, axis=3)
            for cells in images.reshape(len(times), columns * rows, *images.shape[1:]):
                yield tile(cells, columns, rows)
            progress(start + len(times), num_frames, "frames")

    write_video(dest, frames(), config.fps)
    return VideoSummary(dest, num_frames, num_frames / config.fps, sampler.snapshot.path)


@dataclass(frozen=True)
class _Walk:
    """Closed walks of all cells through their keys, as a function of time."""

    num_keys: int
    at: Callable[[np.ndarray], Tensor]  # (T,) times, key k at time k -> (T, cells, num_ws, w_dim)


def _walk(sampler: Sampler, config: VideoConfig, num_classes: int) -> _Walk:
    """The walk through the seeds of each cell; with classes, each seed is shown as every class in turn."""
    columns, rows = config.grid
    turns = max(num_classes, 1)
    seeds = np.reshape(config.seeds, (columns * rows, -1)).repeat(turns, axis=1)  # (cells, keys)
    cells, num_keys = seeds.shape
    if num_keys < 2:
        raise SettingsError(
            "--seeds must name at least two seeds for each cell of the picture, to walk from one to the next"
        )
    classes = np.resize(np.arange(turns), seeds.shape) if num_classes else None
    if config.space == "w":
        numbers = None if classes is None else classes.ravel().tolist()
        ws = sampler.map_seeds(seeds.ravel().tolist(), config.truncation_psi, numbers)[
            :, 0
        ]  # (cells * keys, D)
        return _Walk(num_keys, partial(_along_spline, _closed_spline(ws, cells), sampler.generator.num_ws))
    keys = latents(seeds.ravel().tolist(), sampler.generator.z_dim).reshape(cells, num_keys, -1)
    return _Walk(num_keys, partial(_along_sphere, sampler, keys, classes, config.truncation_psi))


def _closed_spline(ws: Tensor, cells: int) -> CubicSpline:
    keys = ws.cpu().numpy().astype(np.float64).reshape(cells, -1, ws.shape[1]).transpose(1, 0, 2)
    closed = np.concatenate([keys, keys[:1]])  # (keys + 1, cells, D)
    return CubicSpline(np.arange(len(closed)), closed, bc_type="periodic")


def _along_spline(spline: CubicSpline, num_ws: int, times: np.ndarray) -> Tensor:
    points = torch.from_numpy(spline(times).astype(np.float32))  # (T, cells, D)
    return points[:, :, None].expand(-1, -1, num_ws, -1)


@torch.no_grad()
def _along_sphere(
    sampler: Sampler, keys: np.ndarray, classes: np.ndarray | None, truncation_psi: float, times: np.ndarray
) -> Tensor:
    """Great circles from key to key (cells, keys, z_dim); between two classes w goes straight."""
    cells, num_keys, z_dim = keys.shape
    before = np.floor(times).astype(int) % num_keys
    after = (before + 1) % num_keys
    share = np.mod(times, 1)[:, None, None]  # (T, 1, 1)
    here, there = keys[:, before].swapaxes(0, 1), keys[:, after].swapaxes(0, 1)  # (T, cells, z_dim)
    points = (slerp(here, there, share) * math.sqrt(z_dim)).astype(np.float32)
    z = torch.from_numpy(points).reshape(-1, z_dim).to(sampler.device)

    def mapped(moment: np.ndarray) -> Tensor:
        numbers = None if classes is None else classes[:, moment].T.ravel().tolist()
        ws = sampler.generator.mapping(z, sampler.labels(len(z), numbers), truncation_psi=truncation_psi)
        return ws.unflatten(0, (len(times), cells))

    ws = mapped(before)
    if classes is None:
        return ws
    return ws.lerp(mapped(after), torch.from_numpy(share[..., None].astype(np.float32)).to(sampler.device))


def _num_frames(config: VideoConfig, num_keys: int) -> int:
    if config.seconds is None:
        count = num_keys * (config.frames_per_seed or DEFAULT_FRAMES_PER_SEED)
    else:
        count = max(round(config.seconds * config.fps), 1)
    if count > MAX_NUM_FRAMES:
        raise SettingsError(
            f"a video must have at most {MAX_NUM_FRAMES:,} frames, got {count:,}: name fewer --seeds, or "
            "give --seconds"
        )
    return count


def _enlargement(resolution: int, num_cells: int) -> int:
    smallest = MIN_CELL if num_cells == 1 else MIN_GRID_CELL
    return max(1, -(-smallest // resolution))


def parse_grid(text: str) -> tuple[int, int]:
    """`3x2` to columns and rows.

    Raises:
        SettingsError: for anything else.
    """
    columns, cross, rows = text.lower().partition("x")
    if not (cross and columns.isdecimal() and rows.isdecimal()):
        raise SettingsError(f"--grid must be columns x rows such as 3x2, got '{text}'")
    return int(columns), int(rows)
