"""Measure the snapshots of a training as it goes on, without changing what it learns."""

from extract.progress import Progress
from gan.best import drop_old_snapshots, mark_best
from gan.interrupt import StopRequest
from gan.measures import append_line, cut_lines, training_lines
from gan.quality import Metric, measure_generator
from gan.session import Session, snapshot_path
from gan.snapshot import read_snapshot


class _Stopped(Exception):
    """A signal came while images were measured."""


def measure_snapshot(session: Session, stop: StopRequest) -> bool:
    """Take every measure of the averaged generator that the snapshot just written has not had yet.

    Then mark the best snapshot, and delete those that `--keep` leaves no room for. The state must have been
    written before: a training that is killed in here makes up for it when it goes on. Chance is drawn from
    sources of its own, so that the training is what it would be without.

    Returns:
        Whether all is measured; False if a signal asks to stop.
    """
    measures, job = session.measures, session.job
    todo = [metric for metric in measures.metrics if not _is_measured(session, metric)]
    if todo:
        session.log("Evaluating metrics...")
        try:
            results = measure_generator(
                job.G_ema,
                job.data,
                todo,
                measures.extractors,
                seed=session.config.seed,
                device=job.device,
                cache=measures.cache,
                progress=_watch(session, stop),
            )
        except _Stopped:
            session.log("Evaluation stopped; it is made up for when the training goes on.")
            return False
        for result in results:
            line = result.line(snapshot_path(session).name, session.config.gpus)
            line |= {"kimg": job.kimg, "during_training": True}
            session.log(append_line(session.run_dir, result.metric.text, line))
            for name, value in result.results.items():
                session.events.add_scalar(f"Metrics/{name}", value, job.kimg, session.elapsed_sec)
    best = mark_best(session.run_dir, measures)
    if best is not None:
        session.log(f"Best snapshot so far: {best['snapshot']} ({best['result']} {best['value']:.4g})")
    for path in drop_old_snapshots(session.run_dir, session.config.keep):
        session.log(f"Deleted {path.name} (--keep={session.config.keep})")
    session.events.flush()
    return True


def make_up_for_measures(session: Session, stop: StopRequest) -> bool:
    """Of a training that goes on: drop measures of what comes again, take those that are missing.

    Returns:
        As `measure_snapshot`.
    """
    cut_lines(session.run_dir, session.job.kimg)
    snapshot = snapshot_path(session)
    if snapshot.is_file() and read_snapshot(snapshot).kimg == session.job.kimg:
        return measure_snapshot(session, stop)
    mark_best(session.run_dir, session.measures)
    return True


def _is_measured(session: Session, metric: Metric) -> bool:
    sha256 = session.measures.extractors[metric.extractor].weights_sha256
    return any(
        line["kimg"] == session.job.kimg and line["weights_sha256"] == sha256
        for line in training_lines(session.run_dir, metric.text)
    )


def _watch(session: Session, stop: StopRequest) -> Progress:
    def report(done: int, total: int, message: str) -> None:
        if stop.signal is not None:
            raise _Stopped
        job = session.job
        total_images = int(-(-job.recipe.total_kimg * 1000 // 1))
        session.progress(min(job.images_seen, total_images), total_images, f"{message}: {done}/{total}")

    return report
