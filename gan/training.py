"""Train StyleGAN2-ADA on an archive: the loop and its ticks.

Source: Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", arXiv:2006.06676.
"""

import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from extract.progress import Progress, no_progress
from gan.checks import check_continuation
from gan.config import TrainConfig, continued_config
from gan.errors import TrainingInterrupted
from gan.features import FeatureExtractor
from gan.interrupt import StopRequest, listen_for_stop
from gan.job import run_iteration
from gan.log import Echo
from gan.measures import NO_EXTRACTORS, choose_measures
from gan.measuring import make_up_for_measures, measure_snapshot
from gan.networks import choose_device
from gan.preparation import check_same_data, open_data, prepare_job, run_description, tune_device
from gan.runfolder import create_run_dir, find_run_to_resume
from gan.session import Session, open_session, save_fakes, save_snapshot, save_state
from gan.snapshot import read_snapshot
from gan.state import STATE_NAME, read_state_header, stored_config, stored_recipe
from gan.ticks import stop_if_diverged, tell_health, write_status


def train(
    config: TrainConfig,
    progress: Progress = no_progress,
    echo: Echo | None = None,
    extractors: Mapping[str, FeatureExtractor] = NO_EXTRACTORS,
) -> Path:
    """Train a generator, or go on with a training that was stopped, and return the final snapshot.

    Args:
        progress: told the images seen after each iteration.
        echo: shown each line of `log.txt` as it is written.
        extractors: by name, the networks that `config.metrics` look through.

    Raises:
        SettingsError: if the options contradict each other or the data.
        GanError: if a file to start from cannot be used, or the training diverges.
        TrainingInterrupted: after SIGINT or SIGTERM, once the state is written.
    """
    run_dir = find_run_to_resume(config)
    header = None
    if run_dir is not None:
        header = read_state_header(run_dir)
        check_continuation(header, config, run_dir)
        config = continued_config(stored_config(header), config, run_dir)
    device = choose_device(config.device)
    data = open_data(config, progress)
    if header is not None and run_dir is not None:
        check_same_data(header, data, config, run_dir)

    measures = choose_measures(config, data, device, extractors)
    with ExitStack() as stack:
        stack.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
        stop = stack.enter_context(listen_for_stop())
        tune_device(device, config)
        recipe = None if header is None else stored_recipe(header, config)
        job = prepare_job(config, data, device, recipe)
        if header is None:
            run_dir = create_run_dir(Path(config.outdir), run_description(config, data))
        assert run_dir is not None
        session = open_session(config, job, run_dir, header, measures, progress, echo)
        stack.callback(session.events.close)
        if header is not None:
            make_up_for_measures(session, stop)
        if header is not None and stop.signal is not None:  # the state on the disk is that of now
            raise TrainingInterrupted(stop.signal.name, stop.signal.value, run_dir, job.kimg)
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
            statistics = write_status(session, tick_ended - tick_started, maintenance_sec)
            stop_if_diverged(session, statistics)
            tell_health(session, statistics)
            snapshot_due = job.is_done or job.tick % recipe.snap == 0
            if snapshot_due:
                save_fakes(session, f"fakes{job.images_seen // 1000:06d}.png")
                snapshot = save_snapshot(session)
            job.tick += 1
            job.tick_start_images = job.images_seen
            if snapshot_due or time.monotonic() - session.state_written > session.config.save_every_sec:
                save_state(session)
            measured = not snapshot_due or measure_snapshot(session, snapshot, stop)
            tick_started = time.monotonic()
            maintenance_sec = tick_started - tick_ended
            session.pace.observe_between(maintenance_sec, snapshot_due)
            if job.is_done and measured:
                session.log()
                session.log("Exiting...")
                return snapshot
        if stop.signal is not None:
            stop_if_diverged(session)
            save_state(session)
            interrupted = TrainingInterrupted(stop.signal.name, stop.signal.value, session.run_dir, job.kimg)
            session.log(f"Stopped: {interrupted}")
            raise interrupted
