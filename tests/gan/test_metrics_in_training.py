"""Measures of a training's snapshots: taken as it goes on, never changing it, never lost nor doubled."""

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import gan.measuring
from extract.archive import open_archive
from extract.errors import SettingsError
from extract.split import read_split
from gan.best import best_line, drop_old_snapshots, mark_best
from gan.config import TrainConfig
from gan.data import open_training_images
from gan.errors import GanError, TrainingInterrupted
from gan.features import PixelExtractor
from gan.measures import Measures, append_line, choose_measures
from gan.quality import parse_metrics
from gan.snapshot import find_snapshot, read_snapshot
from gan.training import train
from tests.gan.conftest import NUM_SUBJECTS
from tests.gan.test_kills import Forker
from tests.gan.test_resume import assert_same_weights

ALL_SUBJECTS = tuple(f"s{number:02d}" for number in range(NUM_SUBJECTS))
PIXELS = {"pixels": PixelExtractor()}


def lines_of(run_dir: Path, metric: str) -> list[dict]:
    text = (run_dir / f"metric-{metric}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def plain(tiny: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(replace(tiny, aug="ada", outdir=tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="module")
def measured(tiny: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = replace(tiny, aug="ada", metrics="fid@pixels,kid@pixels", extractor=("pixels=none",))
    return train(replace(config, outdir=tmp_path_factory.mktemp("measured")), extractors=PIXELS)


def test_measuring_does_not_change_what_is_learned(plain: Path, measured: Path):
    assert_same_weights(plain, measured)
    states = [load_file(path.parent / "training-state.safetensors") for path in (plain, measured)]
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_each_snapshot_has_one_line_a_measure_as_officially(measured: Path):
    run_dir = measured.parent
    fid, kid = lines_of(run_dir, "fid@pixels"), lines_of(run_dir, "kid@pixels")
    assert [line["kimg"] for line in fid] == pytest.approx([0.008, 0.04, 0.072, 0.096])
    assert list(fid[0])[:7] == [
        "results", "metric", "total_time", "total_time_str", "num_gpus", "snapshot_pkl", "timestamp",
    ]  # fmt: skip
    assert fid[0]["snapshot_pkl"] == "network-snapshot-000000.safetensors"
    assert list(kid[0]["results"]) == ["kid@pixels", "kid_se@pixels"]
    log = (run_dir / "log.txt").read_text()
    assert log.count("Evaluating metrics...") == 4 and json.dumps(fid[-1]["results"]) in log
    options = json.loads((run_dir / "training_options.json").read_text())
    assert options["metrics"] == ["fid@pixels", "kid@pixels"]


def test_the_measures_are_those_of_the_snapshot(measured: Path, tiny: TrainConfig):
    from gan.quality import measure_generator
    from gan.snapshot import load_generator

    G, _ = load_generator(measured)
    (again,) = measure_generator(
        G, open_training_images(tiny.data), parse_metrics("fid@pixels"), PIXELS, seed=tiny.seed
    )
    assert again.value == pytest.approx(lines_of(measured.parent, "fid@pixels")[-1]["results"]["fid@pixels"])


def test_a_training_stopped_while_it_measures_makes_up_for_it(
    tiny: TrainConfig, measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = replace(tiny, aug="ada", metrics="fid@pixels,kid@pixels", outdir=tmp_path)
    original, calls = gan.measuring.measure_generator, []

    def signalled(*arguments, **named):
        calls.append(1)
        if len(calls) == 2:
            signal.raise_signal(signal.SIGTERM)
        return original(*arguments, **named)

    monkeypatch.setattr(gan.measuring, "measure_generator", signalled)
    with pytest.raises(TrainingInterrupted):
        train(config, extractors=PIXELS)
    (run_dir,) = tmp_path.iterdir()
    assert len(lines_of(run_dir, "fid@pixels")) == 1
    again = train(replace(config, resume="latest"), extractors=PIXELS)
    assert_same_weights(again, measured)
    for metric in ("fid@pixels", "kid@pixels"):
        ours, theirs = lines_of(run_dir, metric), lines_of(measured.parent, metric)
        assert [line["results"] for line in ours] == [line["results"] for line in theirs]


# Files that a run finishes, in order: options, reals, fakes, stats, state; then at each of four ticks grid,
# snapshot, state and, where it is new, the mark of the best.
BEFORE_THE_FIRST_MARK = (9, "before")  # its figures are written, what is best is not


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    started = Forker()
    yield started
    started.process.stdin.close()
    started.process.wait(timeout=30)


@pytest.mark.parametrize(
    "kill_at",
    [
        BEFORE_THE_FIRST_MARK,
        *(
            pytest.param((count, when), marks=pytest.mark.slow)
            for count in range(5, 21)
            for when in ("before", "after")
        ),
    ],
)
def test_a_killed_training_loses_no_measure_and_repeats_none(
    tiny: TrainConfig, measured: Path, forker: Forker, tmp_path: Path, kill_at: tuple[int, str]
):
    config = replace(tiny, aug="ada", metrics="fid@pixels,kid@pixels", resume="auto", outdir=tmp_path)
    assert forker.run(config, kill_at) == -signal.SIGKILL
    assert forker.run(config) == 0
    (run_dir,) = tmp_path.iterdir()
    for metric in ("fid@pixels", "kid@pixels"):
        ours, theirs = lines_of(run_dir, metric), lines_of(measured.parent, metric)
        assert [(line["kimg"], line["results"]) for line in ours] == [
            (line["kimg"], line["results"]) for line in theirs
        ]
    marks = [json.loads((folder / "best.json").read_text()) for folder in (run_dir, measured.parent)]
    assert marks[0]["value"] == marks[1]["value"]


def test_lines_of_what_is_trained_again_are_dropped_and_those_made_by_hand_stay(
    tiny: TrainConfig, tmp_path: Path
):
    config = replace(tiny, metrics="fid@pixels", outdir=tmp_path)
    run_dir = train(replace(config, kimg=0.04), extractors=PIXELS).parent
    lost = {"kimg": 0.072, "during_training": True, "results": {"fid@pixels": 0.0}}
    by_hand = {"results": {"fid@pixels": 1.0}, "snapshot_pkl": "network-snapshot-000000.safetensors"}
    append_line(run_dir, "fid@pixels", lost)
    append_line(run_dir, "fid@pixels", by_hand)
    with open(run_dir / "metric-fid@pixels.jsonl", "a") as handle:
        handle.write('{"results": {"fid@pix')  # of a process that was killed
    train(replace(config, kimg=0.072, resume="latest"), extractors=PIXELS)
    lines = lines_of(run_dir, "fid@pixels")
    assert [line.get("kimg") for line in lines] == [0.008, 0.04, None, 0.072]
    assert lines[-1]["results"]["fid@pixels"] > 0


def test_a_finished_run_can_be_measured_afterwards(tiny: TrainConfig, tmp_path: Path):
    config = replace(tiny, kimg=0.016, outdir=tmp_path)
    snapshot = train(config)
    assert train(replace(config, metrics="fid@pixels", resume="latest"), extractors=PIXELS) == snapshot
    assert [line["kimg"] for line in lines_of(snapshot.parent, "fid@pixels")] == [0.016]


def test_the_best_snapshot_is_marked_and_found(measured: Path):
    run_dir = measured.parent
    lines = lines_of(run_dir, "fid@pixels")
    mark = json.loads((run_dir / "best.json").read_text())
    # All snapshots of so short a run bear one name, so that the last one is the only one there.
    assert (mark["result"], mark["value"]) == ("fid@pixels", lines[-1]["results"]["fid@pixels"])
    assert find_snapshot(run_dir / "best.json") == measured
    assert read_snapshot(run_dir / "best.json").kimg == mark["kimg"]
    assert "Best snapshot so far: network-snapshot-000000" in (run_dir / "log.txt").read_text()


@pytest.fixture
def run_of_five(trained: Path, tmp_path: Path) -> Path:
    """A folder with snapshots 10 ... 50 and a figure for each; that of 20 is the lowest."""
    from gan.snapshot import load_weights, write_tensors

    weights = load_weights(trained)
    header = json.loads(_header(trained))
    for kimg, value in zip((10, 20, 30, 40, 50), (9.0, 4.0, 6.0, None, 5.0), strict=True):
        name = f"network-snapshot-{kimg:06d}.safetensors"
        write_tensors(tmp_path / "run" / name, weights, {**header, "kimg": float(kimg)})
        line = {
            "results": {"fid@pixels": value}, "snapshot_pkl": name, "kimg": float(kimg),
            "during_training": True, "extractor": "pixels", "weights_sha256": "a",
            "num_real": 9, "num_fake": 9,
        }  # fmt: skip
        append_line(tmp_path / "run", "fid@pixels", line)
    return tmp_path / "run"


def _header(path: Path) -> str:
    from safetensors import safe_open

    with safe_open(path, framework="pt") as opened:
        return opened.metadata()["synthlabel"]


(FID,) = parse_metrics("fid@pixels")
BY_FID = Measures((FID,), PIXELS, FID, "fid@pixels")


def test_the_best_has_the_lowest_figure_whatever_comes_later(run_of_five: Path):
    mark = mark_best(run_of_five, BY_FID)
    assert mark is not None and (mark["snapshot"], mark["value"]) == (
        "network-snapshot-000020.safetensors",
        4.0,
    )
    assert mark_best(run_of_five, BY_FID) is None  # nothing new
    assert find_snapshot(run_of_five / "best.json").name == "network-snapshot-000020.safetensors"


def test_figures_of_another_extractor_are_not_compared(run_of_five: Path):
    other = {
        "results": {"fid@pixels": 100.0}, "snapshot_pkl": "network-snapshot-000050.safetensors", "kimg": 50.0,
        "extractor": "pixels", "during_training": True, "weights_sha256": "b", "num_real": 9, "num_fake": 9,
    }  # fmt: skip
    append_line(run_of_five, "fid@pixels", other)
    line = best_line(run_of_five, BY_FID)
    assert line is not None and line["results"]["fid@pixels"] == 100.0


def test_old_snapshots_go_but_the_best_and_the_named_stay(run_of_five: Path):
    mark_best(run_of_five, BY_FID)
    (run_of_five / "samples.json").write_text('{"made_by": "network-snapshot-000030.safetensors"}')
    neighbour = run_of_five.parent / "00001-next"
    neighbour.mkdir()
    started_from = run_of_five / "network-snapshot-000010.safetensors"
    (neighbour / "training_options.json").write_text(json.dumps({"resume_pkl": str(started_from)}))
    dropped = drop_old_snapshots(run_of_five, keep=1)
    assert [path.name for path in dropped] == ["network-snapshot-000040.safetensors"]
    assert drop_old_snapshots(run_of_five, keep=None) == []


def test_a_new_training_starts_from_the_best(tiny: TrainConfig, run_of_five: Path, tmp_path: Path):
    mark_best(run_of_five, BY_FID)
    best = run_of_five / "best.json"
    started = train(replace(tiny, kimg=0.008, resume=str(best), outdir=tmp_path / "runs"))
    assert read_snapshot(started).subjects == tuple(sorted({*read_snapshot(best).subjects, *ALL_SUBJECTS}))


def test_a_mark_whose_snapshot_was_changed_is_refused(run_of_five: Path):
    mark_best(run_of_five, BY_FID)
    other = run_of_five / "network-snapshot-000010.safetensors"
    other.replace(run_of_five / "network-snapshot-000020.safetensors")
    with pytest.raises(GanError, match=r"expected network-snapshot-000020.safetensors beside it as it was"):
        find_snapshot(run_of_five / "best.json")


def test_keep_holds_the_number_of_snapshots_while_training(tiny: TrainConfig, tmp_path: Path):
    config = replace(tiny, batch=250, kimg=3.0, tick_kimg=1.0, keep=1, channel_max=4, latent_dim=4, gamma=0.0)
    config = replace(config, cfg="small", aug="noaug", metrics="fid@pixels", outdir=tmp_path)
    run_dir = train(config, extractors=PIXELS).parent
    left = {path.name for path in run_dir.glob("network-snapshot-*")}
    best = json.loads((run_dir / "best.json").read_text())["snapshot"]
    assert left == {best, "network-snapshot-000003.safetensors"}
    values = {line["snapshot_pkl"]: line["results"]["fid@pixels"] for line in lines_of(run_dir, "fid@pixels")}
    assert len(values) == 4 and values[best] == min(values.values())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"metrics": "fid@task"}, r"--metrics=fid@task: expected the extractor 'task', got pixels"),
        ({"metrics": "fid"}, r"--metrics=fid: expected the extractor whose features are compared"),
        ({"metrics": "beauty"}, r"--metrics can only contain the following values: none, fid50k_full"),
        ({"metrics": "is50k@pixels"}, r"expected an extractor that classifies"),
        ({"metrics": "fid@pixels", "best": "kid@pixels"}, r"--best must be one of what --metrics measures"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_made(
    tiny: TrainConfig, tmp_path: Path, options: dict, sentence: str
):
    with pytest.raises(SettingsError, match=sentence):
        train(replace(tiny, outdir=tmp_path / "runs", **options), extractors=PIXELS)
    assert not (tmp_path / "runs").exists()


class TaughtPixels(PixelExtractor):
    def __init__(self, subjects: tuple[str, ...], archive_sha256: str) -> None:
        self.train_subjects, self.val_subjects, self.archive_sha256 = subjects, (), archive_sha256


def test_a_network_that_knows_the_test_subjects_may_not_choose_the_snapshot(
    tiny: TrainConfig, shapes_split: Path, tmp_path: Path
):
    with open_archive(tiny.data) as archive:
        rows = read_split(shapes_split, archive).rows(archive, 0, "test")
        tested, sha256 = tuple(sorted(set(archive.subjects[rows]))), archive.sha256
    config = replace(tiny, split=shapes_split, metrics="fid@pixels", outdir=tmp_path / "runs")
    with pytest.raises(SettingsError, match=rf"learned from {len(tested)} test subjects of fold 0"):
        train(config, extractors={"pixels": TaughtPixels(tested, sha256)})
    with pytest.raises(SettingsError, match=rf"{tested[0]}"):  # the same name is the same person elsewhere
        train(config, extractors={"pixels": TaughtPixels(tested[:1], "another archive")})
    taught = {subject for subject in ALL_SUBJECTS if subject not in tested}
    train(replace(config, kimg=0.008), extractors={"pixels": TaughtPixels(tuple(taught), sha256)})


class InceptionLike(PixelExtractor):
    name = "inception"


def test_the_official_measure_is_the_default_where_it_can_be_taken(tiny: TrainConfig):
    data = open_training_images(tiny.data)
    gpu = torch.device("cuda")
    chosen = choose_measures(tiny, data, gpu, {"inception": InceptionLike()})
    assert [metric.text for metric in chosen.metrics] == ["fid50k_full"]
    assert (chosen.best_result, chosen.note) == ("fid50k_full", "")
    without = choose_measures(tiny, data, gpu, {})
    assert without.metrics == () and "needs Inception weights" in without.note
    declined = choose_measures(replace(tiny, metrics="none"), data, gpu, {"inception": InceptionLike()})
    assert (declined.metrics, declined.note) == ((), "")


def test_without_metrics_the_log_says_why(plain: Path):
    assert (
        "Metrics: none; the usual one, fid50k_full, takes very long without a GPU"
        in (plain.parent / "log.txt").read_text()
    )
