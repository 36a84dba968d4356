"""One process's work on a run folder: the log it opens or continues, its grids, snapshots and states."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from extract.progress import Progress
from extract.seeds import derive_seed
from gan.config import TrainConfig
from gan.images import choose_grid_items, official_grid_size, save_grid, to_pixels
from gan.job import Job
from gan.log import Echo, RunLog, module_table
from gan.preparation import describe_part
from gan.runfolder import write_options
from gan.snapshot import write_snapshot
from gan.state import restore_state, write_state

SMALL_GRID = (8, 8)  # columns and rows; the official grids of up to 1024 images take minutes on a CPU
GRID_BATCH = 16


@dataclass
class Session:
    """One process's work on a training: where it writes, and since when."""

    config: TrainConfig
    job: Job
    run_dir: Path
    log: RunLog
    progress: Progress
    columns: int
    rows: int
    grid_z: torch.Tensor
    grid_c: torch.Tensor
    num_stats_lines: int = 0
    started: float = field(default_factory=time.monotonic)
    images_at_start: int = 0
    state_written: float = field(default_factory=time.monotonic)

    @property
    def elapsed_sec(self) -> float:
        """Of the training, earlier sessions included."""
        return self.job.elapsed_sec + time.monotonic() - self.started

    def seconds_left(self) -> float | None:
        done = self.job.images_seen - self.images_at_start
        left = max(self.job.recipe.total_kimg * 1000 - self.job.images_seen, 0)
        return (time.monotonic() - self.started) * left / done if done else None


def open_session(
    config: TrainConfig,
    job: Job,
    run_dir: Path,
    header: dict[str, Any] | None,
    progress: Progress,
    echo: Echo | None,
) -> Session:
    """Begin the log of a run or go on with it; everything before the first iteration."""
    data, recipe = job.data, job.recipe
    log = RunLog(run_dir / "log.txt", echo)
    if header is None:
        write_options(run_dir, config, job)
    log("Loading training set...")
    log(f"Num images:  {len(data)}")
    log(f"Image shape: {list(data.image_shape)}")
    log(f"Label shape: {[data.c_dim]}")
    log(f"Training part: {describe_part(config, data)}")
    if data.num_synthetic_left_out:
        log(f"Left out: {data.num_synthetic_left_out} synthetic images of the archive.")
    log()
    log("Constructing networks...")
    for name, module in (("Generator", job.players.G), ("Discriminator", job.players.D)):
        log(module_table(name, module))
        log()
    for line in job.start_notes:
        log(line)
    log("Setting up augmentation...")
    log(
        f"Distributing across {config.gpus} GPUs..." if job.device.type == "cuda" else "Running on the CPU..."
    )
    log("Setting up training phases...")

    columns, rows = config.grid or _default_grid(job, config)
    items = choose_grid_items(data, columns, rows)
    generator = torch.Generator().manual_seed(derive_seed("sample grid", config.seed))
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
    )
    if header is None:
        log("Exporting sample images...")
        save_grid(run_dir / "reals.png", data.pixels(items), columns, rows)
        save_fakes(session, "fakes_init.png")
        (run_dir / "stats.jsonl").write_text("", encoding="utf-8")
        log("Initializing logs...")
        log(f"Training for {recipe.total_kimg:g} kimg...")
    else:
        restore_state(run_dir, header, job)
        session.num_stats_lines = _cut_stats(run_dir / "stats.jsonl", int(header["num_stats_lines"]))
        session.images_at_start = job.images_seen
        log(f"Resuming at {job.kimg:.1f} kimg, training up to {recipe.total_kimg:g} kimg...")
    log()
    return session


def _default_grid(job: Job, config: TrainConfig) -> tuple[int, int]:
    if job.device.type == "cpu" or config.cfg == "small":
        return SMALL_GRID
    _, height, width = job.data.image_shape
    return official_grid_size(width, height)


def _cut_stats(path: Path, num_lines: int) -> int:
    """Drop the lines of ticks after the state was written: they will be trained, and written, again."""
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    path.write_text("".join(lines[:num_lines]), encoding="utf-8")
    return min(num_lines, len(lines))


@torch.no_grad()
def save_fakes(session: Session, name: str) -> None:
    job = session.job
    parts = []
    for z, c in zip(session.grid_z.split(GRID_BATCH), session.grid_c.split(GRID_BATCH), strict=True):
        images = job.G_ema(z.to(job.device), c.to(job.device), noise_mode="const")
        parts.append(to_pixels(images.float().cpu().numpy()))
    save_grid(session.run_dir / name, np.concatenate(parts), session.columns, session.rows)


def save_snapshot(session: Session) -> Path:
    job, config, data = session.job, session.config, session.job.data
    path = session.run_dir / f"network-snapshot-{job.images_seen // 1000:06d}.safetensors"
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
    write_state(session.run_dir, session.job, session.config, session.num_stats_lines, session.elapsed_sec)
    session.state_written = time.monotonic()
