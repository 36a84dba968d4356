"""One process's work on a run folder: the log it opens or continues, its grids, snapshots and states."""

import json
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from extract.atomic import write_text
from extract.progress import Progress
from extract.seeds import derive_seed
from gan.checks import list_warnings
from gan.config import TrainConfig
from gan.event_log import EventLog
from gan.health import HealthWatch, all_finite, fake_variety
from gan.images import choose_grid_items, official_grid_size, save_grid, save_png, tile, to_pixels
from gan.job import Job
from gan.layer_table import layer_tables
from gan.log import Echo, RunLog
from gan.measures import Measures
from gan.pace import Pace, pace_of
from gan.preparation import describe_part, overview
from gan.runfolder import OPTIONS_NAME, write_options
from gan.snapshot import write_snapshot
from gan.state import restore_state, write_state

SMALL_GRID = (8, 8)  # columns and rows; the official grids of up to 1024 images take minutes on a CPU
GRID_BATCH = 16
SHOWN_PX = 2048  # of a grid on TensorBoard, whose files would grow by the whole screens of the official grids
VARIETY_IMAGES = 32  # of the grid that are looked at each tick


@dataclass
class Session:
    """One process's work on a training: where it writes, and since when.

    Of several processes the first alone writes and reports; the others have a session whose log is silent.
    """

    config: TrainConfig
    job: Job
    run_dir: Path
    log: RunLog
    progress: Progress
    columns: int
    rows: int
    grid_z: torch.Tensor
    grid_c: torch.Tensor
    grid_reals: np.ndarray  # (columns * rows, C, H, W) uint8
    events: EventLog
    health: HealthWatch
    measures: Measures
    pace: Pace = field(default_factory=Pace)
    num_stats_lines: int = 0
    started: float = field(default_factory=time.monotonic)
    state_written: float = field(default_factory=time.monotonic)

    @property
    def elapsed_sec(self) -> float:
        """Of the training, earlier sessions included."""
        return self.job.elapsed_sec + time.monotonic() - self.started


def open_session(
    config: TrainConfig,
    job: Job,
    run_dir: Path,
    header: dict[str, Any] | None,
    measures: Measures,
    progress: Progress,
    echo: Echo | None,
) -> Session:
    """Begin the log of a run or go on with it; everything before the first iteration."""
    data, recipe, is_first = job.data, job.recipe, job.ranks.is_first
    started_before = is_first and header is None and (run_dir / "log.txt").exists()
    log = RunLog(run_dir / "log.txt" if is_first else None, echo)
    if is_first:
        remove_unfinished_files(run_dir)
    if started_before:
        log("An earlier start in this folder was ended before its first state was written; starting again.")
    if header is None and is_first:
        write_options(run_dir, config, job)
        if echo is not None:
            options = (run_dir / OPTIONS_NAME).read_text(encoding="utf-8")
            echo("\n".join(["", "Training options:", options, *overview(config, data, job, run_dir), ""]))
    log("Loading training set...")
    log(f"Num images:  {len(data)}")
    log(f"Image shape: {list(data.image_shape)}")
    log(f"Label shape: {[data.c_dim]}")
    log(f"Training part: {describe_part(config, data)}")
    if data.num_synthetic_left_out:
        log(f"Left out: {data.num_synthetic_left_out} synthetic images of the archive.")
    log()
    log("Constructing networks...")
    for table in layer_tables(job):
        log(table)
        log()
    for line in job.start_notes:
        log(line)
    log("Setting up augmentation...")
    log(_describe_ranks(job))
    log("Setting up training phases...")

    columns, rows = grid_size(job, config)
    items = choose_grid_items(data, columns, rows)
    generator = torch.Generator().manual_seed(derive_seed("sample grid", config.seed))
    reals = data.pixels(items)
    if header is None and is_first:
        log("Exporting sample images...")
        save_grid(run_dir / "reals.png", reals, columns, rows)
    log("Initializing logs...")
    resumed_at = None if header is None else int(header["images_seen"]) / 1000
    session = Session(
        config=config,
        job=job,
        run_dir=run_dir,
        log=log,
        progress=progress,
        columns=columns,
        rows=rows,
        grid_z=torch.randn([columns * rows, recipe.latent_dim], generator=generator),
        grid_c=torch.from_numpy(data.one_hot(items)),
        grid_reals=reals,
        events=EventLog(run_dir if is_first else None, log, resumed_at),
        health=HealthWatch(recipe.ada_target),
        measures=measures,
    )
    if header is not None:
        restore_state(run_dir, header, job)
        log(f"Resuming at {job.kimg:.1f} kimg, training up to {recipe.total_kimg:g} kimg...")
        log_what_differs(session, header)
    if is_first and header is not None:
        lines = cut_lines(run_dir / "stats.jsonl", int(header["num_stats_lines"]))
        session.num_stats_lines = len(lines)
        statistics = [json.loads(line) for line in lines]
        for tick in statistics:
            session.health.observe(tick)  # what was said before is not said again
        session.pace = pace_of(statistics, recipe.snap)
    elif is_first:
        _show_grid(session, "Images/reals", reals)
        save_fakes(session, "fakes_init.png")
        write_text(run_dir / "stats.jsonl", "")
        for warning in list_warnings(config, recipe, data, job.device):
            log(f"Warning: {warning}.")
        if measures.note:
            log(measures.note)
        log(f"Training for {recipe.total_kimg:g} kimg...")
    log()
    return session


def _describe_ranks(job: Job) -> str:
    if job.device.type == "cuda":
        return f"Distributing across {job.ranks.count} GPUs..."
    if job.ranks.count > 1:
        return f"Distributing across {job.ranks.count} processes on the CPU..."
    return "Running on the CPU..."


def log_what_differs(session: Session, header: dict[str, Any]) -> None:
    """Say what keeps a continuation from being bit for bit the run that was never stopped."""
    then_ranks, now_ranks = header.get("num_ranks", 1), session.job.ranks.count
    if then_ranks != now_ranks:
        session.log(
            f"The state was written by {then_ranks} processes, now there are {now_ranks}: weights, averages, "
            f"optimisers, counters and p go on, latents and noise are drawn anew; the result is as good, but "
            f"not bit for bit that of a run that was never stopped."
        )
    then_threads, now_threads = header.get("num_threads"), torch.get_num_threads()
    if then_threads is not None and then_threads != now_threads and session.job.device.type == "cpu":
        session.log(
            f"The state was written with {then_threads} threads, now there are {now_threads}: the result may "
            f"differ in the last bits from that of a run that was never stopped (OMP_NUM_THREADS="
            f"{then_threads} gives the same)."
        )


def grid_size(job: Job, config: TrainConfig) -> tuple[int, int]:
    """Columns and rows of the grids of this training."""
    if config.grid is not None:
        return config.grid
    if job.device.type == "cpu" or config.cfg == "small":
        return SMALL_GRID
    _, height, width = job.data.image_shape
    return official_grid_size(width, height)


def cut_lines(path: Path, num_lines: int) -> list[str]:
    """Drop the lines of ticks after the state was written: they will be trained, and written, again."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    write_text(path, "".join(lines[:num_lines]))
    return lines[:num_lines]


def save_fakes(session: Session, name: str) -> None:
    pixels = _grid_fakes(session, len(session.grid_z))
    save_png(session.run_dir / name, tile(pixels, session.columns, session.rows))
    _show_grid(session, "Images/fakes", pixels)


def remove_unfinished_files(run_dir: Path) -> None:
    """Delete what a killed process was about to write; finished files have other names."""
    for path in run_dir.glob(".*.part"):
        path.unlink(missing_ok=True)


@torch.no_grad()
def _grid_fakes(session: Session, count: int) -> np.ndarray:
    """The first images of the grid of generated ones, (count, C, H, W) uint8."""
    job = session.job
    parts = []
    z_parts, c_parts = session.grid_z[:count].split(GRID_BATCH), session.grid_c[:count].split(GRID_BATCH)
    for z, c in zip(z_parts, c_parts, strict=True):
        images = job.G_ema(z.to(job.device), c.to(job.device), noise_mode="const")
        parts.append(to_pixels(images.float().cpu().numpy()))
    return np.concatenate(parts)


def _show_grid(session: Session, name: str, pixels: np.ndarray) -> None:
    """The grid on TensorBoard, as much of it as a screen shows."""
    _, channels, height, width = pixels.shape
    columns, rows = min(session.columns, SHOWN_PX // width), min(session.rows, SHOWN_PX // height)
    shown = pixels.reshape(session.rows, session.columns, channels, height, width)[:rows, :columns]
    picture = tile(shown.reshape(rows * columns, channels, height, width), columns, rows)
    session.events.add_picture(name, picture, session.job.kimg, session.elapsed_sec)


def measure_variety(session: Session) -> float:
    """How different the images of the grid are from one another, as a share of the reals' difference."""
    if not all_finite(session.job.G_ema):
        return math.nan
    count = min(VARIETY_IMAGES, len(session.grid_z))
    return fake_variety(_grid_fakes(session, count), session.grid_reals)


def snapshot_path(session: Session) -> Path:
    """Where a snapshot of the training as it is now lies, or will."""
    return session.run_dir / f"network-snapshot-{session.job.images_seen // 1000:06d}.safetensors"


def save_snapshot(session: Session) -> Path:
    job, config, data = session.job, session.config, session.job.data
    path = snapshot_path(session)
    modules = {
        "G_ema": job.G_ema,
        "G": job.players.G,
        "D": job.players.D,
        "augment_pipe": job.players.augment,
    }
    header = {
        "config": job.settings,
        "kimg": job.kimg,
        "classes": list(data.classes),
        "archive_sha256": data.archive_sha256,
        "split_sha256": data.split_sha256,
        "fold": config.fold if config.split is not None else None,
        "part": "train" if config.split is not None else "all",
        "subjects": sorted({*data.subjects, *job.earlier_subjects}),
        "earlier_archives": list(job.earlier_archives),
        "seed": config.seed,
        "image_shape": list(data.image_shape),
    }
    write_snapshot(path, modules, header)
    return path


def save_state(session: Session) -> None:
    """Write the resumable state; all processes take part."""
    write_state(session.run_dir, session.job, session.config, session.num_stats_lines, session.elapsed_sec)
    session.state_written = time.monotonic()
