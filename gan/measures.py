"""Which measures a training takes of its snapshots, and the `metric-*.jsonl` files they are written to."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from extract.archive import open_archive
from extract.errors import SettingsError, name_some
from extract.folder_archive import archive_of
from extract.split import read_split
from gan.config import TrainConfig
from gan.data import TrainingImages
from gan.features import FeatureExtractor, TaughtOnSubjects
from gan.log import to_json_line
from gan.quality import FeatureCache, Metric, check_measurable, needed_extractors, parse_metrics

DEFAULT_METRIC = "fid50k_full"
NO_EXTRACTORS: Mapping[str, FeatureExtractor] = MappingProxyType({})


@dataclass(frozen=True)
class Measures:
    """What is measured, with which networks, and what decides which snapshot is best."""

    metrics: tuple[Metric, ...] = ()
    extractors: Mapping[str, FeatureExtractor] = field(default_factory=dict)
    best_metric: Metric | None = None
    best_result: str = ""  # one of the metric's result names
    note: str = ""  # why nothing is measured, for the log
    cache: FeatureCache = field(default_factory=dict)


def choose_measures(
    config: TrainConfig,
    data: TrainingImages,
    device: torch.device,
    extractors: Mapping[str, FeatureExtractor],
) -> Measures:
    """What `--metrics`, `--best` and the extractors at hand amount to.

    Raises:
        SettingsError: if an extractor is missing, cannot do what is asked of it or learned from test
            subjects, or `--best` names nothing that is measured.
    """
    text = config.metrics
    if text is None:
        if device.type != "cuda" or "inception" not in extractors:
            return Measures(note=_why_not(device))
        text = DEFAULT_METRIC
    metrics = parse_metrics(text)
    if not metrics:
        return Measures(note="" if config.metrics else _why_not(device))
    missing = sorted(needed_extractors(metrics) - set(extractors))
    if missing:
        raise SettingsError(
            f"--metrics={text}: expected the extractor {name_some([repr(name) for name in missing])}, got "
            f"{name_some(sorted(extractors)) or 'none'}; give it with --extractor {missing[0]}=PATH, or "
            f"leave the measure out"
        )
    check_measurable(metrics, data, extractors)
    for name in sorted(needed_extractors(metrics)):
        _refuse_taught_on_test(name, extractors[name], config)
    best_metric, best_result = _choose_best(metrics, config.best)
    return Measures(metrics, extractors, best_metric, best_result)


def _why_not(device: torch.device) -> str:
    reason = (
        f"the usual one, {DEFAULT_METRIC}, takes very long without a GPU"
        if device.type != "cuda"
        else f"the usual one, {DEFAULT_METRIC}, needs Inception weights (--extractor inception=PATH)"
    )
    return f"Metrics: none; {reason}. Others: --metrics=fid@task --extractor task=CLASSIFIER_RUN"


def _choose_best(metrics: Sequence[Metric], wanted: str | None) -> tuple[Metric, str]:
    if wanted is None:
        return metrics[0], metrics[0].result_names[0]
    for metric in metrics:
        if wanted == metric.text:
            return metric, metric.result_names[0]
        if wanted in metric.result_names:
            return metric, wanted
    names = [name for metric in metrics for name in metric.result_names]
    raise SettingsError(f"--best must be one of what --metrics measures ({', '.join(names)}), got '{wanted}'")


def _refuse_taught_on_test(name: str, extractor: FeatureExtractor, config: TrainConfig) -> None:
    """A network that knows the test subjects must not choose the snapshot that is judged on them.

    Subjects of the same name count as the same, whatever archive the network was trained on.
    """
    if config.split is None or not isinstance(extractor, TaughtOnSubjects):
        return
    with open_archive(archive_of(config.data)) as archive:
        rows = read_split(config.split, archive).rows(archive, config.fold, "test")
        tested = {str(subject) for subject in archive.subjects[rows]}
    known = sorted(tested & {*extractor.train_subjects, *extractor.val_subjects})
    if known:
        raise SettingsError(
            f"--extractor {name}: the network learned from {len(known)} test subjects of fold {config.fold} "
            f"({name_some(known)}), so that the best snapshot would be chosen on them; train it on the "
            f"training part of the same fold"
        )


def metric_file(run_dir: Path, metric: str) -> Path:
    return run_dir / f"metric-{metric}.jsonl"


def append_line(run_dir: Path, metric: str, line: Mapping[str, Any]) -> str:
    """Add one evaluation to its file; returns the line as written."""
    text = to_json_line(line)
    with open(metric_file(run_dir, metric), "a", encoding="utf-8") as handle:
        handle.write(text)
    return text.rstrip("\n")


def training_lines(run_dir: Path, metric: str) -> list[dict[str, Any]]:
    """The evaluations of one measure that this training made, oldest first; those by hand are left out."""
    path = metric_file(run_dir, metric)
    if not path.is_file():
        return []
    lines = [_read_line(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line.get("during_training")]


def cut_lines(run_dir: Path, kimg: float) -> None:
    """Drop the evaluations of snapshots after `kimg`: they will be trained, and measured, again."""
    for path in sorted(run_dir.glob("metric-*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if _is_kept(_read_line(line), kimg)]
        if kept != lines:
            path.write_text("".join(kept), encoding="utf-8")


def _is_kept(line: Mapping[str, Any], kimg: float) -> bool:
    """A line cut short by a killed process is dropped as well; one made by hand stays."""
    return bool(line) and (not line.get("during_training") or float(line["kimg"]) <= kimg)


def _read_line(text: str) -> dict[str, Any]:
    try:
        line = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return line if isinstance(line, dict) else {}
