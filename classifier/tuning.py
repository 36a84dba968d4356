"""Search settings on inner folds of a training part: resumable, parallel, pruned; validation and test wait.

The sampler is a tree-structured Parzen estimator (Bergstra et al. 2011, "Algorithms for Hyper-Parameter
Optimization"), the pruner the median rule of Golovin et al. 2017, both as Optuna has them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.backbone_heads import DENOISER_NETWORKS
from classifier.config import SMALL_RESNET, ClassifierConfig
from classifier.encoder_file import check_weights_for_fold, find_record
from classifier.errors import ClassifierError
from classifier.folder_lock import sole_user
from classifier.search_space import ALL, DECIDES, Range, SearchSpace, default_space, make_space
from classifier.state_file import changed_settings
from classifier.trial import (
    STORAGE,
    Order,
    open_inner_data,
    open_study,
    run_trial,
    settings_json,
    starts_pretrained,
)
from classifier.tune_config import TuneConfig
from classifier.tune_report import (
    INTERRUPTED,
    RESULTS,
    Session,
    Tuning,
    best_message,
    finished_trials,
    write_results,
)
from extract.archive import open_archive
from extract.errors import SettingsError
from extract.file_hash import file_sha256
from extract.preprocessing import PLAIN
from extract.progress import Progress, no_progress
from extract.split import read_split
from extract.worker_pool import num_cores, start_workers

if TYPE_CHECKING:
    import optuna


def tune_run(
    data: Path,
    split_path: Path,
    fold: int,
    fraction: float,
    config: ClassifierConfig,
    space: SearchSpace,
    tune: TuneConfig,
    outdir: Path,
    *,
    allow_other_archive: bool = False,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Tuning:
    """Search `space` for the settings that do best on inner folds of the labeled training part.

    The validation and the test part of the fold are not looked at: they judge what comes out. A tuning that
    was killed goes on with the same call: finished trials stay, those that were running are run again.

    Args:
        config: settings that the space does not decide; its `monitor` is what trials are compared by.
        allow_other_archive: take weights that were trained here on another archive, as `train_run` does.

    Raises:
        ClassifierError: if `outdir` holds a tuning of something else and `overwrite` is not set, another
            process is at it, no trial could be trained, or the data cannot be used.
        ExtractError, SettingsError: if archive, split, fold or a setting cannot be used.
    """
    _refuse_muddle(config, space)
    order = Order(data, split_path, fold, fraction, config, space, tune, outdir)
    made_with = _made_with(order, allow_other_archive)
    with sole_user(outdir):
        if overwrite:
            _clear(outdir)
        inner = open_inner_data(order, progress)
        study = open_study(order)
        _refuse_other(study, made_with, outdir)
        num_interrupted = _give_up_running(study)
        done = {trial.user_attrs["ordinal"] for trial in finished_trials(study)}
        to_do = [ordinal for ordinal in range(tune.trials) if ordinal not in done]
        session = Session(num_before=len(done), num_interrupted=num_interrupted)
        deadline = time.monotonic() + 60 * tune.timeout_minutes if tune.timeout_minutes else math.inf
        if tune.jobs == 1 or len(to_do) < 2:
            for ordinal in to_do:
                if time.monotonic() > deadline:
                    break
                num_done = len(finished_trials(study))
                run_trial(order, ordinal, inner, study, _counted(progress, num_done, tune.trials, study))
                write_results(study, order, inner, session)
        else:
            _run_parallel(order, to_do, deadline, study, progress)
        tuning = write_results(study, order, inner, session, is_end=True)
    if tuning.best is None:
        raise ClassifierError(
            f"{outdir}: expected a trial that was trained to its end, got none of {len(tuning.trials)}"
            f"{_last_failure(study)}"
        )
    return tuning


def complete_space(
    chosen: Mapping[str, Any],
    data: Path,
    config: ClassifierConfig,
    fixed: Collection[str],
    *,
    is_whole: bool,
    where: str,
) -> SearchSpace:
    """The choices that a user names, with the default ones for what is left open.

    Args:
        chosen: choices by name, unchecked.
        data: the archive, for the size of its images.
        fixed: names of the settings that the user gave a value, which are not searched. What else differs
            from the defaults (by a recipe, say) is searched only where `chosen` names it.
        is_whole: search nothing but `chosen`.
        where: file or flag, for errors.

    Raises:
        SettingsError: if a choice is not allowed, or a setting is both fixed and to be searched.
    """
    space = dict(make_space(chosen, where).dimensions) if chosen or is_whole else {}
    both = sorted(name for name in space if set(DECIDES[name]) & set(fixed))
    if both:
        raise SettingsError(
            f"{where}: {both[0]} is to be searched and is also given as an option; leave one of them out"
        )
    if is_whole:
        return make_space(space, where)
    with open_archive(data) as archive:
        side = min(archive.image_shape[1:])
    has_weights = config.weights is not None or config.pretrained
    if not has_weights:
        archs = (SMALL_RESNET, *DENOISER_NETWORKS)
    elif (record := find_record(config.weights)) is not None and record.is_encoder:
        archs = (*DENOISER_NETWORKS, SMALL_RESNET)
    else:  # weights that fit one network
        archs = (config.arch,)
    default = dict(default_space(side, has_weights, archs).dimensions)
    plain = ClassifierConfig()
    changed = {
        name for name in DECIDES if any(getattr(config, s) != getattr(plain, s) for s in DECIDES[name])
    }
    steps = config.preprocessing
    changed |= {name for name in ("size", "mask") if getattr(steps, name) != getattr(PLAIN, name)}
    open_names = [name for name in default if not set(DECIDES[name]) & set(fixed) and name not in changed]
    return make_space({name: default[name] for name in open_names} | space, where)


def _run_parallel(
    order: Order, to_do: list[int], deadline: float, study: optuna.Study, progress: Progress
) -> None:
    """Keep as many trials under way as there are processes; none is begun after the deadline."""
    from concurrent.futures import FIRST_COMPLETED, Future, wait
    from concurrent.futures.process import BrokenProcessPool

    waiting = iter(to_do)
    num_workers = min(order.tune.jobs, len(to_do))
    executor = start_workers(num_workers, max(1, num_cores() // num_workers))
    running: set[Future[None]] = set()
    try:
        while True:
            while len(running) < order.tune.jobs and time.monotonic() <= deadline:
                ordinal = next(waiting, None)
                if ordinal is None:
                    break
                running.add(executor.submit(run_trial, order, ordinal))
            if not running:
                return
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                future.result()
            progress(len(finished_trials(study)), order.tune.trials, best_message(study))
    except BrokenProcessPool as error:
        raise ClassifierError(
            f"{order.outdir}: expected {order.tune.jobs} processes to run the trials, but one was killed "
            "from outside, perhaps for want of memory; the same command goes on, with fewer --jobs if need be"
        ) from error
    finally:
        executor.shutdown(wait=True, kill_workers=bool(running))


def _counted(progress: Progress, num_done: int, num_trials: int, study: optuna.Study) -> Progress:
    """Progress of one trial as progress of the whole, in steps."""
    message = best_message(study)

    def report(done: int, total: int, _: str) -> None:
        progress(num_done * total + done, num_trials * total, message)

    return report


def _refuse_muddle(config: ClassifierConfig, space: SearchSpace) -> None:
    """Find out before the first trial what could not be meant."""
    from classifier.models import check_arch

    archs = space["arch"] or (config.arch,)
    has_weights = starts_pretrained(config)
    assert not isinstance(archs, Range)
    for arch in map(str, archs):
        check_arch(arch, config.pretrained and has_weights(arch))
    if (config.weights is not None or config.pretrained) and not any(
        has_weights(str(arch)) for arch in archs
    ):
        given = f"the weights {config.weights}" if config.weights else "published weights"
        raise SettingsError(f"{given} fit none of the networks to choose from ({', '.join(map(str, archs))})")
    if space["trained_stages"] not in (None, (ALL,)) and config.weights is None and not config.pretrained:
        raise SettingsError(
            "trained_stages is a choice only where a network starts from weights (--weights, --pretrained): "
            "frozen stages that have learned nothing are of no use"
        )


def _made_with(order: Order, allow_other_archive: bool) -> dict[str, Any]:
    """What scores depend on, besides the trial's own settings; also refuses an encoder that saw too much."""
    with open_archive(order.data) as archive:
        split = read_split(order.split_path, archive)
        split.subjects(order.fold, "train", order.fraction)
        check_weights_for_fold(
            order.config.weights, archive, split, order.fold, allow_other_archive=allow_other_archive
        )
        hashes = {"archive_sha256": archive.sha256, "split_sha256": split.sha256}
    weights = order.config.weights
    if weights is not None:
        hashes["weights_sha256"] = file_sha256(weights)
    settings = settings_json(order.config)
    settings.pop("weights", None)  # known by its hash, wherever it lies
    return hashes | {
        "fold": order.fold,
        "fraction": order.fraction,
        "settings": settings,
        "space": order.space.to_json(),
        **order.tune.decisive(),
    }


def _refuse_other(study: optuna.Study, made_with: dict[str, Any], outdir: Path) -> None:
    """Note what a new study is of; refuse to go on with a study of something else."""
    before = study.user_attrs.get("made_with")
    if before is None:
        study.set_user_attr("made_with", made_with)
        return
    changed = changed_settings(before, made_with)
    if changed:
        raise ClassifierError(
            f"{outdir}: holds a tuning that was begun otherwise ({'; '.join(changed)}); its scores would not "
            "compare: give the same settings to go on with it, name another --outdir, or begin anew with "
            "--overwrite"
        )


def _give_up_running(study: optuna.Study) -> int:
    """Mark the trials of a killed session as failed, for nobody else works in this folder; their number."""
    import optuna

    running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
    for trial in running:
        # Through the storage: of a trial that runs no longer there is no Trial object.
        study._storage.set_trial_user_attr(trial._trial_id, INTERRUPTED, True)
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return len(running)


def _last_failure(study: optuna.Study) -> str:
    failures = [
        trial.user_attrs["failure"] for trial in finished_trials(study) if "failure" in trial.user_attrs
    ]
    return f"; the last one failed: {failures[-1]}" if failures else ""


def _clear(outdir: Path) -> None:
    for name in (STORAGE, f"{STORAGE}-journal", *RESULTS):
        (outdir / name).unlink(missing_ok=True)
