"""A whole study in miniature: laws that need trained models, resume, failures, and planted faults."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from classifier.errors import ClassifierError
from classifier.pretrain_config import PretrainConfig
from classifier.pretrain_job import pretrain_run
from extract.errors import SettingsError
from semisup import execute, run_models
from semisup.config import load_study
from semisup.errors import StudyError
from semisup.heartbeat import read_heartbeat
from semisup.ledger import read_ledger
from semisup.plan import make_plan
from semisup.report import write_report
from semisup.status import study_status
from semisup.study import run_study
from tests.semisup.conftest import study_settings

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory) -> Path:
    """A finished study of three arms without a generator."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "study.yaml").write_text(yaml.safe_dump(study_settings(data_dir)))
    summary = run_study(folder / "study.yaml", folder / "out", jobs=1)
    assert (summary.num_done, summary.failures) == (3, ())
    return folder


def infos(study_dir: Path) -> dict[str, dict]:
    """run.json by arm."""
    found = [json.loads(path.read_text()) for path in sorted(study_dir.glob("runs/*/run.json"))]
    return {info["arm"]: info for info in found}


def predictions(study_dir: Path, info: dict) -> pd.DataFrame:
    return pd.read_parquet(study_dir / "runs" / info["key"] / "predictions.parquet")


def without_times(study_dir: Path) -> dict[str, bytes]:
    """Every file of the runs whose bytes must not depend on when or how often it was tried."""
    results = {}
    for path in sorted(study_dir.glob("runs/*/**/*")):
        if path.name == "run.json":
            info = json.loads(path.read_text())
            for name in ("seconds", "process_seconds"):
                info.pop(name)
            results[str(path.relative_to(study_dir))] = json.dumps(info).encode()
        elif path.is_file() and path.name != "history.csv":  # which has a column of seconds
            results[str(path.relative_to(study_dir))] = path.read_bytes()
    return results


def test_every_run_is_recorded_as_the_contract_says(finished):
    study_dir = finished / "out"
    for info in infos(study_dir).values():
        assert info["status"] == "done" and info["error"] is None
        assert info["test_openings"] == 1
        assert info["steps_per_training"] == 12
        table = predictions(study_dir, info)
        assert list(table.columns) == ["file", "subject", "label", "p_0", "p_1"]
        assert len(table) == info["num_test_images"] == 64
        assert np.allclose(table[["p_0", "p_1"]].sum(axis=1), 1)
        right = (table[["p_0", "p_1"]].to_numpy().argmax(axis=1) == table["label"]).mean()
        assert info["test_metrics"]["accuracy"] == pytest.approx(right)
    assert (
        infos(study_dir)["supervised"]["num_labeled_images"]
        < infos(study_dir)["supervised_full"]["num_labeled_images"]
    )


def test_no_test_or_validation_image_is_pseudo_labeled(finished, data_dir):
    study_dir = finished / "out"
    info = infos(study_dir)["pseudo_real"]
    split = json.loads((data_dir / "tiny.split.json").read_text())["folds"][0]
    judges = {*split["test"], *split["val"]["1.0"], *split["labeled"]["0.4"]}
    manifest = pd.read_csv(_unzip(data_dir / "tiny.zip"), dtype=str).set_index("file")
    ledger = read_ledger(study_dir / "runs" / info["key"] / "ledger.parquet")
    assert judges.isdisjoint(manifest.loc[ledger["image"], "subject"])
    assert set(predictions(study_dir, info)["subject"]) == set(split["test"])


def _unzip(path: Path):
    import io
    import zipfile

    return io.BytesIO(zipfile.ZipFile(path).read("manifest.csv"))


def test_the_ledger_explains_every_pseudo_label(finished):
    info = infos(finished / "out")["pseudo_real"]
    ledger = read_ledger(finished / "out" / "runs" / info["key"] / "ledger.parquet")
    last = info["rounds"][-1]
    assert len(ledger) == last["pool_size"]
    chosen = ledger[ledger["decision"] == "selected"]
    assert len(chosen) == last["num_selected"]
    assert (chosen["confidence"] >= chosen["threshold"]).all()
    assert (ledger.loc[ledger["decision"] == "below threshold", "weight"] == 0).all()
    assert np.allclose(ledger[["p_0", "p_1"]].max(axis=1), ledger["confidence"])
    assert ledger["predicted"].tolist() == ledger[["p_0", "p_1"]].to_numpy().argmax(axis=1).tolist()
    assert ledger["image_sha256"].str.len().eq(64).all() and ledger["teacher_sha256"].nunique() == 1


def test_zero_rounds_equal_supervised_training_bit_by_bit(write_study, tmp_path):
    path = write_study(arms=["supervised", "pseudo_real"], pseudo={"rounds": 0})
    run_study(path, tmp_path / "out", jobs=1)
    found = infos(tmp_path / "out")
    ours, baseline = (predictions(tmp_path / "out", found[arm]) for arm in ("pseudo_real", "supervised"))
    pd.testing.assert_frame_equal(ours, baseline, check_exact=True)
    assert found["pseudo_real"]["trainings_here"] == 0


def test_labeled_images_keep_their_labels_in_every_round(write_study, tmp_path, monkeypatch):
    seen = []
    train = run_models.train_classifier

    def spy(images, val, classes, config, **more):
        seen.append((images, val, config))
        return train(images, val, classes, config, **more)

    monkeypatch.setattr(run_models, "train_classifier", spy)
    run_study(write_study(arms=["supervised", "pseudo_real"]), tmp_path / "out", jobs=1)
    (first, val, config), (second, val_again, config_again) = seen
    labeled = ~second.is_pseudo
    assert second.is_pseudo.any() and not first.is_pseudo.any()
    repeats = labeled.sum() // len(first)
    assert second.labels[labeled].tolist() == first.labels.tolist() * repeats
    given = first.images.gather(np.arange(len(first)))
    assert np.array_equal(second.images.gather(np.flatnonzero(labeled)[: len(first)]), given)
    assert not val.is_pseudo.any() and val.labels.tolist() == val_again.labels.tolist()
    assert config == config_again  # same seed and steps: the two differ by their data alone
    assert second.weights[second.is_pseudo].sum() <= labeled.sum() + 1e-6


def test_a_finished_study_is_not_done_again(finished, monkeypatch):
    before = without_times(finished / "out")
    monkeypatch.setattr(execute, "perform", lambda *_: pytest.fail("a finished job was performed again"))
    summary = run_study(finished / "study.yaml", finished / "out", jobs=1)
    assert (summary.num_done, summary.num_performed) == (3, 0)
    assert without_times(finished / "out") == before


@pytest.mark.timeout(900)  # six processes import torch, which takes minutes where many share a core
def test_a_study_killed_twice_amid_two_processes_ends_with_the_numbers_of_one(finished, tmp_path):
    study_dir = tmp_path / "out"
    kill_a_run(finished / "study.yaml", study_dir, after_runs=0)
    kill_a_run(finished / "study.yaml", study_dir, after_runs=1)
    (study_dir / "runs" / ".half.made.part").mkdir()  # what a kill may leave

    assert run_study(finished / "study.yaml", study_dir, jobs=1).num_done == 3
    assert without_times(study_dir) == without_times(finished / "out")
    assert not list(study_dir.glob("runs/.*")) and not list(study_dir.glob("progress/*"))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_study_killed_ten_times_gives_the_report_of_one_that_was_not(write_study, tmp_path):
    path = write_study(
        seeds=[0, 1, 2], folds="all", classifier={"steps": 60, "batch_size": 16, "device": "cpu"}
    )
    assert run_study(path, tmp_path / "whole", jobs=1).num_done == 18
    study_dir = tmp_path / "killed"
    chance = np.random.default_rng(0)
    for number in range(10):  # all over the study
        kill_a_run(path, study_dir, after_runs=number, delay_sec=chance.uniform(0, 0.5))
    assert run_study(path, study_dir, jobs=1).num_done == 18
    assert without_times(study_dir) == without_times(tmp_path / "whole")
    reports = [write_report(folder) for folder in (study_dir, tmp_path / "whole")]
    assert reports[0].verdict == reports[1].verdict
    assert read_results(study_dir) == read_results(tmp_path / "whole")


def kill_a_run(study_file: Path, study_dir: Path, after_runs: int, delay_sec: float = 0.0) -> None:
    """Begin or go on with a study in two processes, and kill it when at least so many runs are done."""
    command = [
        sys.executable, "-c",
        "import sys; from pathlib import Path; from semisup.study import run_study\n"
        "run_study(Path(sys.argv[1]), Path(sys.argv[2]), jobs=2)",
        str(study_file), str(study_dir),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    process = subprocess.Popen(command, env=environment, cwd=study_dir.parent)

    def pids() -> set[int]:
        beats = [read_heartbeat(path) for path in study_dir.glob("progress/*.json")]  # of the living
        return {beat["pid"] for beat in beats if beat}

    def is_time() -> bool:
        return bool(pids()) and len(list(study_dir.glob("runs/*/run.json"))) >= after_runs

    wait_for(lambda: is_time() or process.poll() is not None)
    time.sleep(delay_sec)
    workers = pids()
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it had ended before it could be killed"
    wait_for(lambda: not any(is_alive(pid) for pid in workers))  # no orphan works on beside the next command


def read_results(study_dir: Path) -> dict:
    """results.json less what tells of times."""

    def timeless(value):
        if isinstance(value, dict):
            return {
                key: timeless(part) for key, part in value.items() if "seconds" not in key and key != "folder"
            }
        return [timeless(part) for part in value] if isinstance(value, list) else value

    return timeless(json.loads((study_dir / "results.json").read_text()))


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition, timeout_sec: float = 300.0) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < timeout_sec, "waited in vain"
        time.sleep(0.02)


def test_a_failed_run_is_recorded_and_takes_only_its_dependents_along(write_study, tmp_path, monkeypatch):
    real = execute.perform

    def fail_supervised(job, basis, progress):
        if job.arm == "supervised":
            raise RuntimeError("the cat pulled the plug")
        real(job, basis, progress)

    monkeypatch.setattr(execute, "perform", fail_supervised)
    path = write_study()
    summary = run_study(path, tmp_path / "out", jobs=1)
    assert summary.num_done == 1 and len(summary.failures) == 2
    found = infos(tmp_path / "out")
    assert found["supervised"]["error"] == "RuntimeError: the cat pulled the plug"
    assert found["pseudo_real"]["status"] == "failed"
    assert (
        "supervised at 40% of the labels, fold 0, seed 0 failed: RuntimeError"
        in found["pseudo_real"]["error"]
    )
    assert found["supervised_full"]["status"] == "done"

    monkeypatch.setattr(execute, "perform", real)
    assert run_study(path, tmp_path / "out", jobs=1).num_done == 3  # what failed is tried again


def test_a_full_disk_stops_the_study_and_keeps_what_is_finished(write_study, tmp_path, monkeypatch):
    real = execute.perform

    def full(job, basis, progress):
        if job.arm == "pseudo_real":
            raise OSError(28, "No space left on device")
        real(job, basis, progress)

    monkeypatch.setattr(execute, "perform", full)
    with pytest.raises(OSError, match="No space left"):
        run_study(write_study(), tmp_path / "out", jobs=1)
    assert {info["arm"] for info in infos(tmp_path / "out").values()} == {"supervised", "supervised_full"}


def test_an_interrupted_study_goes_on_where_it_was(write_study, tmp_path, monkeypatch):
    real = execute.perform
    performed = []

    def interrupt(job, basis, progress):
        if performed:
            raise KeyboardInterrupt
        performed.append(job)
        real(job, basis, progress)

    monkeypatch.setattr(execute, "perform", interrupt)
    path = write_study()
    with pytest.raises(KeyboardInterrupt):
        run_study(path, tmp_path / "out", jobs=1)
    monkeypatch.setattr(execute, "perform", real)
    assert run_study(path, tmp_path / "out", jobs=1).num_performed == 2


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"pseudo": {"threshold": 0.9, "rounds": 1}}, "pseudo.threshold: 0.5 there, 0.9 now"),
        ({"seeds": [0, 1]}, "seeds: [0] there, [0, 1] now"),
        ({"primary": {"arm": "pseudo_real", "fraction": 0.4, "metric": "accuracy"}}, "primary.metric"),
    ],
)
def test_a_folder_of_another_plan_is_refused(finished, write_study, changes, named):
    with pytest.raises(StudyError) as caught:
        run_study(write_study(**changes), finished / "out", jobs=1)
    assert "this folder belongs to another plan" in str(caught.value) and named in str(caught.value)
    assert "another --outdir" in str(caught.value)


def test_changed_data_are_refused(finished, data_dir, tmp_path):
    split = json.loads((data_dir / "tiny.split.json").read_text())
    split["folds"][0]["test"].reverse()
    (tmp_path / "other.split.json").write_text(json.dumps(split))
    settings = study_settings(data_dir, split=str(tmp_path / "other.split.json"))
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(StudyError, match=r"another plan \(split_sha256"):
        run_study(tmp_path / "study.yaml", finished / "out", jobs=1)


def test_a_folder_with_other_files_is_left_alone(write_study, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.docx").write_text("years of work")
    with pytest.raises(
        StudyError, match=r"expected an empty folder or a study begun before, got thesis.docx"
    ):
        run_study(write_study(), tmp_path / "out", jobs=1)


def test_two_commands_do_not_work_in_one_folder(finished):
    from semisup.study import locked

    with locked(finished / "out"), pytest.raises(StudyError, match="another `semisup run` is at work"):
        run_study(finished / "study.yaml", finished / "out", jobs=1)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"folds": [0, 5]}, "folds: 5 does not exist, .* has folds 0 to 1"),
        ({"fractions": [0.2, 0.4]}, "fractions: 0.2 does not exist, .* has 0.4, 1"),
        ({"classifier": {"arch": "small_resnt"}}, "no network named .*small_resnet"),
    ],
)
def test_what_does_not_exist_is_refused_before_any_work(write_study, tmp_path, changes, expected):
    with pytest.raises(SettingsError, match=expected):
        run_study(write_study(**changes), tmp_path / "out", jobs=1)
    assert not (tmp_path / "out").exists()


def test_status_counts_runs_and_names_failures(finished, tmp_path):
    shutil.copytree(finished / "out", tmp_path / "out")
    failed = infos(tmp_path / "out")["pseudo_real"]
    path = tmp_path / "out" / "runs" / failed["key"] / "run.json"
    path.write_text(json.dumps({**failed, "status": "failed", "error": "no luck"}))
    status = study_status(tmp_path / "out")
    assert status.counts["supervised"]["done"] == 1 and status.counts["pseudo_real"]["failed"] == 1
    assert status.failures == (("pseudo_real at 40% of the labels, fold 0, seed 0", "no luck"),)
    assert status.seconds_left is not None and status.seconds_left > 0


def test_arms_share_their_supervised_model(write_study):
    plan = make_plan(load_study(write_study(seeds=[0, 1], folds="all", fractions=[0.4, 1.0])))
    by_key = {run.key: run for run in plan.runs}
    pseudo = [run for run in plan.runs if run.arm == "pseudo_real"]
    assert {run.fraction for run in pseudo} == {0.4}  # at fraction 1 no label is withheld
    for run in pseudo:
        teacher = by_key[run.teacher_key]
        assert (teacher.arm, teacher.fold, teacher.seed, teacher.fraction) == (
            "supervised",
            run.fold,
            run.seed,
            0.4,
        )
        assert teacher.classifier_seed == run.classifier_seed
    places = [job.key for job in plan.jobs]
    assert all(places.index(need) < places.index(job.key) for job in plan.jobs for need in job.needs)
    assert len(set(places)) == len(places)


def test_keys_name_published_weights_by_what_they_hold(write_study, tmp_path):
    (tmp_path / "one.pth").write_bytes(b"weights")
    (tmp_path / "two.pth").write_bytes(b"weights")
    (tmp_path / "other.pth").write_bytes(b"other weights")

    def keys(**classifier: object) -> list[str]:
        settings = {"steps": 12, "batch_size": 16, **classifier}
        return [job.key for job in make_plan(load_study(write_study(classifier=settings))).jobs]

    assert keys(weights="one.pth") == keys(weights="two.pth") != keys(weights="other.pth")
    with pytest.raises(SettingsError, match=r"expected a file of weights at .*missing\.pth"):
        keys(weights="missing.pth")


def test_a_study_takes_no_encoder_that_saw_who_judges_in_one_of_its_folds(write_study, data_dir, tmp_path):
    pretrain_run(
        data_dir / "tiny.zip", tmp_path / "encoder", PretrainConfig(steps=1, batch_size=8),
        split_path=data_dir / "tiny.split.json", fold=0,
    )  # fmt: skip
    weights = str(tmp_path / "encoder" / "encoder.safetensors")
    classifier = {"arch": "denoiser_plain", "weights": weights, "preprocessing": "pneumonia-backbone"}
    assert make_plan(load_study(write_study(classifier=classifier))).jobs
    with pytest.raises(ClassifierError, match=r"the encoder was trained on .* of the test part of fold 1"):
        make_plan(load_study(write_study(classifier=classifier, folds=[0, 1])))


def test_settings_at_their_defaults_leave_the_keys_of_earlier_plans(write_study):
    """These were written by the release before there were such settings."""
    plain, said = {"steps": 12, "batch_size": 16}, {"mixup": 0.0, "loss": "cross_entropy", "ema": None}
    first = [job.key for job in make_plan(load_study(write_study(classifier=plain))).jobs]
    assert first == [job.key for job in make_plan(load_study(write_study(classifier=plain | said))).jobs]
    content = load_study(write_study(classifier=plain)).classifier.model_dump(mode="json")
    assert set(content) == {
        "arch", "pretrained", "steps", "batch_size", "lr", "weight_decay", "warmup", "augment", "mirror",
        "label_smoothing", "balance_classes", "validate_every", "keep", "device",
    }  # fmt: skip
