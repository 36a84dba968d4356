"""Train StyleGAN2-ADA on an archive: the loop and its ticks.

Source: Karras et al. 2020, "Training Generative Adversarial Networks with Limited Data", arXiv:2006.06676.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from signal import Signals
from typing import Any

import numpy as np
import torch

from extract.errors import SettingsError
from extract.progress import Progress, no_progress
from gan.checks import check_continuation
from gan.config import RESUME_AUTO, TrainConfig, continued_config
from gan.data import TrainingImages
from gan.distributed import Ranks, open_ranks, place_of_this_process
from gan.errors import LostProcess, PeerFailed, TrainingInterrupted
from gan.features import FeatureExtractor
from gan.interrupt import StopRequest, listen_for_stop
from gan.job import Job, run_iteration
from gan.launch import train_in_processes
from gan.log import Echo
from gan.measures import NO_EXTRACTORS, Measures, choose_measures
from gan.measuring import make_up_for_measures, measure_snapshot
from gan.preparation import (
    check_same_data,
    open_data_in_turn,
    prepare_job,
    run_description,
    share_weights,
    tune_device,
)
from gan.runfolder import create_run_dir, find_abandoned_start, find_run_to_resume, hold_run_dir
from gan.session import Session, open_session, save_fakes, save_snapshot, save_state
from gan.snapshot import read_snapshot
from gan.state import STATE_NAME, how_to_go_on, read_state_header, stored_config, stored_recipe
from gan.ticks import stop_if_diverged, tell_health, write_status

SAME_WISH_SEC = 3.0  # between signals that several senders pass on to the processes of one training


def train(
    config: TrainConfig,
    progress: Progress = no_progress,
    echo: Echo | None = None,
    extractors: Mapping[str, FeatureExtractor] = NO_EXTRACTORS,
) -> Path:
    """Train a generator, or go on with a training that was stopped, and return the final snapshot.

    With `config.gpus` above 1 so many processes are started, unless `torchrun` has: then this function is
    called in each of them, and does its part.

    Args:
        progress: told the images seen after each iteration.
        echo: shown each line of `log.txt` as it is written.
        extractors: by name, the networks that `config.metrics` look through.

    Raises:
        SettingsError: if the options contradict each other or the data.
        GanError: if a file to start from cannot be used, or the training diverges.
        PeerFailed: in a process of several, after another one has failed and told why.
        TrainingInterrupted: after SIGINT or SIGTERM, once the state is written.
    """
    place = place_of_this_process()
    if place.count == 1 and config.gpus > 1:
        return train_in_processes(config, progress, echo, extractors)
    if config.gpus not in (1, place.count):
        raise SettingsError(
            f"--gpus={config.gpus}: torchrun started {place.count} processes; leave --gpus out, or give the "
            f"number of all processes"
        )
    config = replace(config, gpus=place.count)
    with open_ranks(place, config.device) as ranks:
        return train_as_rank(config, ranks, progress, echo, extractors=extractors)


def train_as_rank(
    config: TrainConfig,
    ranks: Ranks,
    progress: Progress = no_progress,
    echo: Echo | None = None,
    on_run_dir: Callable[[Path], None] | None = None,
    extractors: Mapping[str, FeatureExtractor] = NO_EXTRACTORS,
) -> Path:
    """The part of one process in a training; raises what `train` raises.

    Args:
        on_run_dir: told the run folder as soon as it is known.
        extractors: used by the first process alone; the others need none.
    """
    run_dir: Path | None = None

    def note_run_dir(path: Path) -> None:
        nonlocal run_dir
        run_dir = path
        if on_run_dir is not None:
            on_run_dir(path)

    if not ranks.is_first:
        progress, echo = no_progress, None
    try:
        return _train_as_rank(config, ranks, progress, echo, note_run_dir, extractors)
    except LostProcess as lost:
        raise LostProcess(f"{lost}; {how_to_go_on(run_dir)}") from lost
    except OSError as error:  # a full disk for the most part: the state written last is whole
        if run_dir is not None and (run_dir / STATE_NAME).exists():
            error.add_note(f"free some space, then go on with: synthlabel gan train --resume {run_dir}")
        ranks.note_failure()
        raise
    except (PeerFailed, TrainingInterrupted):
        raise
    except Exception:
        ranks.note_failure()
        raise


def _train_as_rank(
    config: TrainConfig,
    ranks: Ranks,
    progress: Progress,
    echo: Echo | None,
    on_run_dir: Callable[[Path], None],
    extractors: Mapping[str, FeatureExtractor],
) -> Path:
    with ExitStack() as stack:
        run_dir, header = ranks.from_first(lambda: _find_run(config, stack))
        if header is not None and run_dir is not None:
            config = continued_config(stored_config(header), config, run_dir)
            on_run_dir(run_dir)
        data = open_data_in_turn(config, ranks, progress)
        if header is not None and run_dir is not None:
            check_same_data(header, data, config, run_dir)

        device = ranks.device
        with ranks.together():
            measures = choose_measures(config, data, device, extractors) if ranks.is_first else Measures()
        stack.enter_context(torch.random.fork_rng(devices=[device] if device.type == "cuda" else []))
        stop = stack.enter_context(listen_for_stop(SAME_WISH_SEC if ranks.count > 1 else 0.0))
        tune_device(device, config)
        with ranks.together():
            recipe = None if header is None else stored_recipe(header, config)
            job = prepare_job(config, data, device, recipe, ranks)
        share_weights(job)
        if run_dir is None:
            run_dir = ranks.from_first(lambda: _make_run_dir(config, data, stack))
            on_run_dir(run_dir)
        session = open_session(config, job, run_dir, header, measures, progress, echo)
        stack.callback(session.events.close)
        if header is not None:
            _measure_by_first(session, lambda: make_up_for_measures(session, stop))
            _stop_if_asked(session, stop)
        if job.is_done and header is not None:
            session.log(f"Nothing left to do: {job.kimg:.1f} of {job.recipe.total_kimg:g} kimg are done.")
            return ranks.from_first(lambda: read_snapshot(session.run_dir).path)
        if header is None:
            save_state(session)  # from here on the run can be gone on with, whatever ends it
        return _run(session, stop)


def _find_run(config: TrainConfig, stack: ExitStack) -> tuple[Path | None, dict[str, Any] | None]:
    """The run folder to go on with, held until `stack` ends, and its state's header; None = a new run."""
    run_dir = find_run_to_resume(config)
    if run_dir is None:
        return None, None
    stack.enter_context(hold_run_dir(run_dir))
    header = read_state_header(run_dir)
    check_continuation(header, config, run_dir)
    return run_dir, header


def _make_run_dir(config: TrainConfig, data: TrainingImages, stack: ExitStack) -> Path:
    """The folder of a new run, held until `stack` ends."""
    outdir, description = Path(config.outdir), run_description(config, data)
    abandoned = find_abandoned_start(outdir, description) if config.resume == RESUME_AUTO else None
    run_dir = abandoned or create_run_dir(outdir, description)
    stack.enter_context(hold_run_dir(run_dir))
    return run_dir


def _run(session: Session, stop: StopRequest) -> Path:
    """Iterations and ticks until the end, a signal or divergence."""
    job, recipe = session.job, session.job.recipe
    total = int(np.ceil(recipe.total_kimg * 1000))
    tick_started, maintenance_sec = time.monotonic(), 0.0
    snapshot: Path | None = None  # written last, known to the first process alone
    while True:
        _stop_if_asked(session, stop)
        run_iteration(job)
        session.progress(min(job.images_seen, total), total, f"p {job.ada.p:.3f}")
        tick_due = (
            job.is_done
            or job.tick == 0
            or job.images_seen >= job.tick_start_images + session.config.tick_kimg * 1000
        )
        if tick_due:
            tick_ended = time.monotonic()
            gather_statistics(job)
            snapshot_due = job.is_done or job.tick % recipe.snap == 0
            with job.ranks.together():
                if job.ranks.is_first:
                    statistics = write_status(session, tick_ended - tick_started, maintenance_sec)
                    stop_if_diverged(session, statistics)
                    tell_health(session, statistics)
            if snapshot_due:
                job.ranks.check_equal(job.networks)
                with job.ranks.together():  # the others wait here for as long as the first needs
                    if job.ranks.is_first:
                        save_fakes(session, f"fakes{job.images_seen // 1000:06d}.png")
                        snapshot = save_snapshot(session)
            job.tick += 1
            job.tick_start_images = job.images_seen
            state_is_old = time.monotonic() - session.state_written > session.config.save_every_sec
            if job.ranks.largest(int(snapshot_due or state_is_old)):
                save_state(session)
            measured = not snapshot_due or _measure_by_first(session, lambda: measure_snapshot(session, stop))
            tick_started = time.monotonic()
            maintenance_sec = tick_started - tick_ended
            session.pace.observe_between(maintenance_sec, snapshot_due)
            if job.is_done and measured:
                session.log()
                session.log("Exiting...")
                return _path_of_first(job, snapshot)


def _measure_by_first(session: Session, measure: Callable[[], bool]) -> bool:
    """Let the first process measure while the others wait; whether all is measured, in all of them."""
    is_cut_short = False
    with session.job.ranks.together():
        if session.job.ranks.is_first:
            is_cut_short = not measure()
    return session.job.ranks.largest(int(is_cut_short)) == 0


def _path_of_first(job: Job, path: Path | None) -> Path:
    """The path that the first process knows, in all of them."""
    known = job.ranks.from_first(lambda: path)
    assert known is not None
    return known


def _stop_if_asked(session: Session, stop: StopRequest) -> None:
    """Write the state and leave, in all processes after the same iteration, where one was sent a signal."""
    number = session.job.ranks.largest(0 if stop.signal is None else stop.signal.value)
    if number == 0:
        return
    with session.job.ranks.together():
        stop_if_diverged(session)
    with session.job.ranks.together():  # a process that left sooner would have the writing one ended
        save_state(session)
    interrupted = TrainingInterrupted(Signals(number).name, number, session.run_dir, session.job.kimg)
    session.log(f"Stopped: {interrupted}")
    raise interrupted


def gather_statistics(job: Job) -> None:
    """Add what all processes have collected since the last tick to the first one's statistics."""
    taken = job.ranks.gather({} if job.ranks.is_first else job.statistics.take())
    for values in taken or ():
        job.statistics.add(values)
