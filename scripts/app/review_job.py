"""What is reviewed, and what was found out about it in the background: once, for all visitors."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from extract.archive import Archive, open_archive
from extract.fold import Split
from extract.review_duplicates import TrainingDuplicates, training_duplicates
from extract.review_log import log_path
from extract.review_scope import ReviewScope, find_split, review_scope
from extract.split import read_split
from scripts.app.closing import in_thread, stop_if_closing
from scripts.app.settings import AppSettings

if TYPE_CHECKING:
    from classifier.review_queue import Candidate, ModelFindings

Result = TypeVar("Result")
FileKey = tuple[Path, int, int]
SEARCH_SHARES = (0.0, 0.1, 0.2, 1.0)  # of the time: reading pictures, finding likely pairs, comparing them
_lock = threading.Lock()
_bases: dict[tuple[object, ...], ReviewBasis] = {}
_jobs: dict[tuple[object, ...], ReviewJob] = {}


@dataclass(frozen=True)
class ReviewBasis:
    """The archive, opened, with its split."""

    key: tuple[object, ...]  # other files, other key
    archive: Archive
    split: Split
    scope: ReviewScope
    log: Path


@dataclass
class ReviewJob:
    """What is being found out; each part can be used when it is there."""

    findings: Future[ModelFindings] | None  # None = no model was named
    duplicates: Future[TrainingDuplicates] = field(default_factory=Future)
    queue: tuple[Candidate, ...] = ()  # of what has come
    share: float = 0.0  # done of what is being done now

    @property
    def is_done(self) -> bool:
        """Whether nothing more will come."""
        return self.duplicates.done() and (self.findings is None or self.findings.done())


def review_basis(settings: AppSettings) -> ReviewBasis:
    """Open what is to be reviewed; files that have changed are opened anew.

    Raises:
        ExtractError: if archive or split is damaged, or there is not exactly one split.
        SettingsError: if the split has no such fold.
    """
    assert settings.archive is not None
    split_path = settings.split or find_split(settings.archive)
    key = (_file_key(settings.archive), _file_key(split_path), settings.fold)
    with _lock:
        if key not in _bases:
            _bases.clear()  # of files that are no more; who still reads one keeps it open
            archive = open_archive(settings.archive)
            split = read_split(split_path, archive)
            scope = review_scope(archive, split, settings.fold)
            place = log_path(settings.archive, settings.fold)
            _bases[key] = ReviewBasis(key, archive, split, scope, place)
        return _bases[key]


def begin_review(basis: ReviewBasis, model: Path | None) -> ReviewJob:
    """Begin to look for what is worth a look, once: the model first, which is faster."""
    key = (basis.key, None if model is None else _file_key(model / "model.json"))
    with _lock:
        if key not in _jobs:
            _jobs.clear()
            job = _jobs[key] = ReviewJob(None if model is None else Future())
            in_thread(partial(_look, job, basis, model))
        return _jobs[key]


def come(result: Future[Result] | None) -> Result | None:
    """What has come of a part; None while it has not, or where it failed."""
    if result is None or not result.done() or result.exception() is not None:
        return None
    return result.result()


def _look(job: ReviewJob, basis: ReviewBasis, model: Path | None) -> None:
    phases: list[str] = []  # of the search for duplicates, as they begin

    def report(done: int, total: int, message: str) -> None:
        stop_if_closing()
        job.share = done / total if total else 0.0

    def report_search(done: int, total: int, message: str) -> None:
        report(done, total, message)
        if message not in phases:
            phases.append(message)
        begin, end = SEARCH_SHARES[min(len(phases), len(SEARCH_SHARES) - 1) - 1 :][:2]
        job.share = begin + (end - begin) * job.share

    if job.findings is not None and model is not None:
        try:
            from classifier.review_queue import model_findings, review_queue, split_links
            from classifier.training_opinions import training_opinions

            opinions = training_opinions(model, basis.archive, basis.split, basis.scope.fold, report)
            links = split_links(basis.split, opinions.subjects)
            findings = model_findings(opinions, links)
            job.queue = review_queue(basis.archive, findings, None)
            job.findings.set_result(findings)
        except BaseException as error:  # whoever asks for the result gets it
            job.findings.set_exception(error)
    job.share = 0.0
    try:
        from classifier.review_queue import review_queue

        duplicates = training_duplicates(basis.archive, basis.split, basis.scope.fold, report_search)
        job.queue = review_queue(basis.archive, come(job.findings), duplicates)
        job.duplicates.set_result(duplicates)
    except BaseException as error:
        job.duplicates.set_exception(error)


def _file_key(path: Path) -> FileKey:
    found = path.stat()
    return path, found.st_mtime_ns, found.st_size
