"""Train StyleGAN2-ADA on an archive: the loop, its ticks, and what it leaves in the run folder.

Source: Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", arXiv:2006.06676.
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from extract.errors import SettingsError
from extract.progress import Progress, no_progress
from extract.seeds import derive_seed
from gan.allocator import keep_freed_memory
from gan.config import Recipe, TrainConfig, continued_config, describe, make_recipe
from gan.data import TrainingImages, open_training_images
from gan.errors import GanError, TrainingInterrupted
from gan.images import choose_grid_items, official_grid_size, save_grid, to_pixels
from gan.interrupt import StopRequest, listen_for_stop
from gan.job import PHASE_NAMES, Job, build_job, run_iteration
from gan.log import (
    Echo,
    RunLog,
    module_table,
    resident_memory_gb,
    status_line,
    to_json_line,
)
from gan.networks import choose_device
from gan.runfolder import create_run_dir, find_run_to_resume, snapshot_to_start_from, write_options
from gan.snapshot import load_weights, read_snapshot, write_snapshot
from gan.state import STATE_NAME, read_state_header, restore_state, stored_config, stored_recipe, write_state

SMALL_GRID = (8, 8)  # columns and rows; the official grids of up to 1024 images take minutes on a CPU
GRID_BATCH = 16

LOSS_STATISTICS = (
    "Loss/scores/fake", "Loss/signs/fake", "Loss/G/loss", "Loss/pl_penalty", "Loss/G/reg", "Loss/scores/real",
    "Loss/signs/real", "Loss/D/loss", "Loss/r1_penalty", "Loss/D/reg",
)  # fmt: skip


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


def train(config: TrainConfig, progress: Progress = no_progress, echo: Echo | None = None) -> Path:
    """Train a generator, or go on with a training that was stopped, and return the final snapshot.

    Args:
        progress: told the images seen after each iteration.
        echo: shown each line of `log.txt` as it is written.

    Raises:
        SettingsError: if the options contradict each other or the data.
        GanError: if a file to start from cannot be used, or the training diverges.
        TrainingInterrupted: after SIGINT or SIGTERM, once the state is written.
    """
    run_dir = find_run_to_resume(config)
    header = None
    if run_dir is not None:
        header = read_state_header(run_dir)
        config = continued_config(stored_config(header), config, run_dir)
    device = choose_device(config.device)
    data = _open_data(config, progress)
    if header is not None and run_dir is not None:
        _check_same_data(header, data, config, run_dir)

    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
        stop = stack.enter_context(listen_for_stop())
        _tune(device, config)
        recipe = None if header is None else stored_recipe(header, config)
        job = _prepare_job(config, data, device, recipe)
        if header is None:
            run_dir = create_run_dir(Path(config.outdir), _description(config, data))
        assert run_dir is not None
        session = _open_session(config, job, run_dir, header, progress, echo)
        if job.is_done and header is not None:
            session.log(f"Nothing left to do: {job.kimg:.1f} of {job.recipe.total_kimg:g} kimg are done.")
            return read_snapshot(run_dir).path
        try:
            return _run(session, stop)
        except OSError as error:  # a full disk for the most part: the state written last is whole
            if (run_dir / STATE_NAME).exists():
                error.add_note(f"free some space, then go on with: synthlabel gan train --resume {run_dir}")
            raise


def _run(session: Session, stop: StopRequest) -> Path:
    """Iterations and ticks until the end, a signal or divergence."""
    job, recipe = session.job, session.job.recipe
    total = int(np.ceil(recipe.total_kimg * 1000))
    tick_started, maintenance_sec = time.monotonic(), 0.0
    while True:
        run_iteration(job)
        session.progress(min(job.images_seen, total), total, f"p {job.ada.p:.3f}")
        tick_due = (
            job.is_done
            or job.tick == 0
            or job.images_seen >= job.tick_start_images + session.config.tick_kimg * 1000
        )
        if tick_due:
            tick_ended = time.monotonic()
            statistics = _write_status(session, tick_ended - tick_started, maintenance_sec)
            _stop_if_diverged(session, statistics)
            snapshot_due = job.is_done or job.tick % recipe.snap == 0
            if snapshot_due:
                _save_fakes(session, f"fakes{job.images_seen // 1000:06d}.png")
                snapshot = _save_snapshot(session)
            job.tick += 1
            job.tick_start_images = job.images_seen
            if snapshot_due or time.monotonic() - session.state_written > session.config.save_every_sec:
                _save_state(session)
            tick_started = time.monotonic()
            maintenance_sec = tick_started - tick_ended
            if job.is_done:
                session.log()
                session.log("Exiting...")
                return snapshot
        if stop.signal is not None:
            _save_state(session)
            interrupted = TrainingInterrupted(stop.signal.name, stop.signal.value, session.run_dir, job.kimg)
            session.log(f"Stopped: {interrupted}")
            raise interrupted


def plan(config: TrainConfig, progress: Progress = no_progress) -> tuple[dict[str, Any], str]:
    """What `train` would do, without creating anything: the official options, and a summary in lines."""
    from gan.runfolder import training_options

    data = _open_data(config, progress)
    job = _prepare_job(config, data, choose_device(config.device))
    options = training_options(config, job, None)
    lines = [
        f"Output directory:   {Path(config.outdir) / ('?????-' + _description(config, data))}",
        f"Training data:      {config.data}",
        f"Training part:      {_describe_part(config, data)}",
        f"Training duration:  {job.recipe.total_kimg:g} kimg",
        f"Number of GPUs:     {config.gpus if job.device.type == 'cuda' else 0}",
        f"Number of images:   {len(data)}",
        f"Image resolution:   {job.recipe.resolution}",
        f"Conditional model:  {config.cond}",
        f"Dataset x-flips:    {config.mirror}",
        f"Parameters:         G {_num_parameters(job.players.G):,}, D {_num_parameters(job.players.D):,}",
    ]
    return options, "\n".join(lines)


def _num_parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def _open_data(config: TrainConfig, progress: Progress) -> TrainingImages:
    return open_training_images(
        Path(config.data),
        None if config.split is None else Path(config.split),
        config.fold,
        cond=config.cond,
        mirror=config.mirror,
        subset=config.subset,
        seed=config.seed,
        progress=progress,
    )


def _description(config: TrainConfig, data: TrainingImages) -> str:
    return describe(config, data.name, config.subset)


def _describe_part(config: TrainConfig, data: TrainingImages) -> str:
    subjects = f"{len(data.subjects)} subjects" if data.subjects else "subjects unknown"
    if config.split is None:
        return f"all real images ({len(data.rows)}), {subjects}; no split, so nothing is held out"
    return f"fold {config.fold} of {config.split}: {len(data.rows)} images, {subjects}"


def _check_same_data(
    header: dict[str, Any], data: TrainingImages, config: TrainConfig, run_dir: Path
) -> None:
    for name, flag, path in (
        ("archive_sha256", "--data", config.data),
        ("split_sha256", "--split", config.split),
    ):
        if header[name] != getattr(data, name):
            raise SettingsError(
                f"{flag}: the run in {run_dir} was trained with another file than {path} is now (SHA-256 "
                f"{str(header[name])[:12]}, not {str(getattr(data, name))[:12]}); give the same file, or "
                f"start a new run"
            )


def _tune(device: torch.device, config: TrainConfig) -> None:
    if device.type == "cpu":
        keep_freed_memory()
        return
    torch.backends.cudnn.benchmark = not config.nobench
    torch.backends.cuda.matmul.allow_tf32 = config.allow_tf32
    torch.backends.cudnn.allow_tf32 = config.allow_tf32


def _prepare_job(
    config: TrainConfig, data: TrainingImages, device: torch.device, recipe: Recipe | None = None
) -> Job:
    """A job at its first iteration, with fresh or a snapshot's weights; `recipe`: of a run gone on."""
    start = snapshot_to_start_from(config)
    channels, _, resolution = data.image_shape
    recipe = recipe or make_recipe(
        config,
        resolution,
        channels,
        data.c_dim,
        on_gpu=device.type == "cuda",
        from_snapshot=start is not None,
    )
    torch.manual_seed(config.seed)
    job = build_job(recipe, data, device, config.seed)
    if start is not None:
        _copy_weights(start, job)
    return job


def _copy_weights(path: Path, job: Job) -> None:
    """Take every weight of the same name from a snapshot; names that it lacks keep their fresh values."""
    start = read_snapshot(path)  # refuses what is no snapshot, in a sentence
    job.earlier_subjects = start.subjects
    archives = {start.archive_sha256, *start.earlier_archives} - {job.data.archive_sha256}
    job.earlier_archives = tuple(sorted(archives))
    weights = load_weights(path)
    for prefix, module in (("G", job.players.G), ("D", job.players.D), ("G_ema", job.G_ema)):
        for name, tensor in module.state_dict().items():
            source = weights.get(f"{prefix}.{name}")
            if source is None:
                continue
            if source.shape != tensor.shape:
                raise GanError(
                    f"--resume={path}: {prefix}.{name} has shape {tuple(source.shape)} there, this training "
                    f"needs {tuple(tensor.shape)}; choose the --cfg and an archive of the size it was "
                    f"trained with"
                )
            tensor.copy_(source)


def _open_session(
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
    log(f"Training part: {_describe_part(config, data)}")
    if data.num_synthetic_left_out:
        log(f"Left out: {data.num_synthetic_left_out} synthetic images of the archive.")
    log()
    log("Constructing networks...")
    for name, module in (("Generator", job.players.G), ("Discriminator", job.players.D)):
        log(module_table(name, module))
        log()
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
        _save_fakes(session, "fakes_init.png")
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
def _save_fakes(session: Session, name: str) -> None:
    job = session.job
    parts = []
    for z, c in zip(session.grid_z.split(GRID_BATCH), session.grid_c.split(GRID_BATCH), strict=True):
        images = job.G_ema(z.to(job.device), c.to(job.device), noise_mode="const")
        parts.append(to_pixels(images.float().cpu().numpy()))
    save_grid(session.run_dir / name, np.concatenate(parts), session.columns, session.rows)


def _save_snapshot(session: Session) -> Path:
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


def _save_state(session: Session) -> None:
    write_state(session.run_dir, session.job, session.config, session.num_stats_lines, session.elapsed_sec)
    session.state_written = time.monotonic()


def _write_status(session: Session, tick_sec: float, maintenance_sec: float) -> dict[str, Any]:
    """The line in the log and the object in `stats.jsonl`; returns the statistics of the tick."""
    job, elapsed = session.job, session.elapsed_sec
    kimg_of_tick = (job.images_seen - job.tick_start_images) / 1000
    on_gpu = job.device.type == "cuda"
    gpu_mem_gb = torch.cuda.max_memory_allocated(job.device) / 2**30 if on_gpu else 0.0
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(job.device)
    sec_per_kimg = tick_sec / kimg_of_tick
    cpu_mem_gb = resident_memory_gb()
    session.log(
        status_line(
            tick=job.tick,
            kimg=job.kimg,
            elapsed_sec=elapsed,
            tick_sec=tick_sec,
            sec_per_kimg=sec_per_kimg,
            maintenance_sec=maintenance_sec,
            cpu_mem_gb=cpu_mem_gb,
            gpu_mem_gb=gpu_mem_gb,
            augment_p=job.ada.p,
            left_sec=session.seconds_left(),
        )
    )
    report = job.statistics.report
    for name, value in (
        ("Progress/tick", job.tick), ("Progress/kimg", job.kimg), ("Timing/total_sec", elapsed),
        ("Timing/sec_per_tick", tick_sec), ("Timing/sec_per_kimg", sec_per_kimg),
        ("Timing/maintenance_sec", maintenance_sec), ("Resources/cpu_mem_gb", cpu_mem_gb),
        ("Resources/peak_gpu_mem_gb", gpu_mem_gb), ("Progress/augment", job.ada.p),
        ("Timing/total_hours", elapsed / 3600), ("Timing/total_days", elapsed / 86400),
    ):  # fmt: skip
        report(name, value)
    for name in PHASE_NAMES:
        if name in job.phase_ms:
            report(f"Timing/{name}", job.phase_ms[name])
    collected = job.statistics.end_tick()
    nothing = {"num": 0, "mean": None, "std": None}
    ordered = {name: collected.get(name, nothing) for name in LOSS_STATISTICS}
    ordered |= {name: value for name, value in collected.items() if name not in ordered}
    ordered |= {f"Timing/{name}": collected.get(f"Timing/{name}", nothing) for name in PHASE_NAMES}
    with open(session.run_dir / "stats.jsonl", "a", encoding="utf-8") as handle:
        handle.write(to_json_line({**ordered, "timestamp": time.time()}))
    session.num_stats_lines += 1
    return ordered


def _stop_if_diverged(session: Session, statistics: dict[str, Any]) -> None:
    """End a training whose losses are no longer numbers, before it overwrites a good state."""
    for name in ("Loss/G/loss", "Loss/D/loss"):
        value = statistics[name]
        if value["num"] and value["mean"] is None:
            raise GanError(
                f"{session.run_dir}: training diverged, {name} is no number at {session.job.kimg:.1f} kimg; "
                f"go on "
                f"from the last snapshot with another --seed, or start again with a larger --gamma"
            )
