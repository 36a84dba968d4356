"""`classifier evaluate`: what it writes, and that nothing is ever chosen on the test part."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import classifier.evaluation
from classifier.decision import read_decision
from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.split import make_split, read_split, write_split
from scripts.cli import cli
from tests.classifier.toys import CLASSES, toy_pixels


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An archive of 30 subjects with 4 images each from two sites, and a run that learned little from it."""
    folder = tmp_path_factory.mktemp("evaluate")
    labels = np.repeat(np.arange(30) % 3, 4)
    pixels = toy_pixels(labels, size=16, seed=1)
    with ArchiveWriter(folder / "toy.zip") as writer:
        for index, label in enumerate(labels):
            source = f"{'north' if index // 12 % 2 else 'south'}/{index}.png"
            writer.add(
                pixels[index, 0],
                ImageRecord(label=CLASSES[label], subject=f"p{index // 4:02d}", source=source),
            )
    with open_archive(folder / "toy.zip") as archive:
        split = make_split(archive, num_folds=3, fractions=(0.5, 1.0), val_share=0.3, seed=0)
        write_split(split, folder / "toy.split.json")
        other = make_split(archive, num_folds=3, fractions=(1.0,), val_share=0.3, seed=0)
        write_split(other, folder / "other.split.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHLABEL_CACHE", str(folder / "cache"))
        result = invoke(
            "train", "--data", folder / "toy.zip", "--split", folder / "toy.split.json", "--steps", 6,
            "--batch", 16, "--validate-every", 3, "--outdir", folder / "trained",
        )  # fmt: skip
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def run(folder, tmp_path, monkeypatch):
    """A copy of the trained run, to be evaluated."""
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(folder / "cache"))
    shutil.copytree(folder / "trained", tmp_path / "run")
    return tmp_path / "run"


def invoke(*arguments: object):
    return CliRunner().invoke(cli, ["classifier", *map(str, arguments)])


def evaluate(folder: Path, run: Path, *more: object, split: str = "toy"):
    return invoke(
        "evaluate",
        "--model",
        run,
        "--data",
        folder / "toy.zip",
        "--split",
        folder / f"{split}.split.json",
        *more,
    )


def metrics_of(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


def test_training_leaves_the_page_of_validation_and_the_decision_rule(folder):
    names = {path.name for path in (folder / "trained").iterdir()}
    assert {
        "evaluation-val.html", "curves-val.csv", "subgroups-val.csv", "subjects-val.csv", "curves-val.svg",
        "rejection-val.svg", "decision.json",
    } <= names  # fmt: skip
    rule = read_decision(folder / "trained")
    assert (rule.wanted, rule.target) == ("coverage", 0.9) and set(rule.thresholds["youden"]) == set(CLASSES)


def test_the_files_of_the_test_part_agree_with_each_other(folder, run):
    result = evaluate(folder, run)
    assert result.exit_code == 0, result.output
    assert "evaluation-test.html" in result.output and "by subject, balanced accuracy" in result.output
    report = metrics_of(run)["test"]
    predictions = pd.read_parquet(run / "predictions.parquet").query("part == 'test'")
    subjects = pd.read_csv(run / "subjects-test.csv")
    assert len(subjects) == report["num_subjects"] == predictions["subject"].nunique()
    assert subjects["num_images"].sum() == report["num_images"] == len(predictions)
    mean = predictions.groupby("subject")[[f"p_{name}" for name in CLASSES]].mean()
    np.testing.assert_allclose(subjects[[f"p_{name}" for name in CLASSES]], mean, atol=1e-8)
    assert subjects["is_right"].mean() == pytest.approx(report["subject_level"]["metrics"]["accuracy"])
    groups = pd.read_csv(run / "subgroups-test.csv")
    assert set(groups["value"]) == {"north", "south"} and groups["num_images"].sum() == len(predictions)
    curves = pd.read_csv(run / "curves-test.csv")
    assert set(curves["curve"]) == {"roc", "precision_recall", "risk_coverage"}
    assert {"intervals_95", "uncalibrated", "confusion_matrix", "notes"} <= set(report)  # as ever


def test_thresholds_come_from_validation_even_where_the_test_part_is_opened_first(folder, run, monkeypatch):
    chosen = (run / "decision.json").read_bytes()
    (run / "decision.json").unlink()
    seen = []
    choose = classifier.evaluation.choose_rule
    monkeypatch.setattr(
        classifier.evaluation,
        "choose_rule",
        lambda scored, *more: seen.append(scored) or choose(scored, *more),
    )
    assert evaluate(folder, run, "--no-page").exit_code == 0
    with open_archive(folder / "toy.zip") as archive:
        split = read_split(folder / "toy.split.json", archive)
    assert {str(name) for scored in seen for name in scored.data.subjects} == set(split.subjects(0, "val"))
    assert (run / "decision.json").read_bytes() == chosen


def test_the_test_part_leaves_the_rule_as_it_is(folder, run, monkeypatch):
    before = (run / "decision.json").read_bytes()
    monkeypatch.setattr(classifier.evaluation, "choose_rule", None)  # nothing may be chosen
    assert evaluate(folder, run, "--no-page").exit_code == 0
    assert (run / "decision.json").read_bytes() == before
    rule, report = read_decision(run), metrics_of(run)["test"]
    for kind, by_class in rule.thresholds.items():
        for name, threshold in by_class.items():
            assert report["thresholds"][kind][name]["threshold"] == pytest.approx(threshold)
    predictions = pd.read_parquet(run / "predictions.parquet").query("part == 'test'")
    probs = predictions[[f"p_{name}" for name in CLASSES]].to_numpy()
    assert report["rejection"]["chosen"]["coverage"] == pytest.approx(rule.accepts(probs).mean())


def test_another_risk_or_coverage_is_chosen_on_validation_and_kept(folder, run):
    assert evaluate(folder, run, "--no-page", "--coverage", 0.5).exit_code == 0
    half = read_decision(run)
    assert (half.wanted, half.target) == ("coverage", 0.5) and 0.5 <= half.coverage < 0.75
    assert evaluate(folder, run, "--no-page").exit_code == 0
    assert read_decision(run) == half
    result = evaluate(folder, run, "--no-page", "--risk", 0)
    assert (
        result.exit_code == 0 and "no confidence brings the errors on validation down to 0 %" in result.output
    )
    assert read_decision(run).reject_confidence is None


def test_elsewhere_the_rule_is_used_and_never_chosen(folder, run):
    before = (run / "decision.json").read_bytes()
    result = evaluate(folder, run, "--no-page", split="other")
    assert result.exit_code == 0, result.output
    assert (run / "decision.json").read_bytes() == before
    result = evaluate(folder, run, "--coverage", 0.5, split="other")
    assert result.exit_code == 2 and "thresholds are chosen on the validation part" in result.output
    (run / "decision.json").unlink()
    assert evaluate(folder, run, split="other").exit_code == 0
    assert "chosen" not in metrics_of(run)["test"]["rejection"] and not (run / "decision.json").exists()
    assert "No thresholds and no rejection" in (run / "evaluation-test.html").read_text()


def test_the_page_can_be_left_out_and_drawn_later(folder, run):
    assert evaluate(folder, run, "--no-page").exit_code == 0
    assert not (run / "evaluation-test.html").exists()
    result = evaluate(folder, run, "--page-only")
    assert result.exit_code == 0 and (run / "evaluation-test.html").exists()
    assert metrics_of(run)["test"]["openings"] == 1


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (("--risk", 0.1, "--coverage", 0.9), "--risk and --coverage exclude each other"),
        (("--positive", "flat"), "--positive must be one of two classes"),
        (("--by", "file"), "--by file has 40 different values here"),
        (("--risk", 2), "not in the range"),
    ],
)
def test_wrong_settings_are_refused_before_the_part_is_opened(folder, run, more, sentence):
    before = (run / "metrics.json").read_bytes()
    result = evaluate(folder, run, *more)
    assert result.exit_code == 2 and sentence in " ".join(result.output.split())
    assert (run / "metrics.json").read_bytes() == before


def test_a_rule_of_other_weights_ends_the_evaluation(folder, run):
    content = json.loads((run / "decision.json").read_text())
    (run / "decision.json").write_text(json.dumps({**content, "model_sha256": "0" * 64}))
    result = evaluate(folder, run)
    assert result.exit_code == 1 and "expected thresholds of the model beside it" in " ".join(
        result.output.split()
    )


def test_overwriting_a_run_removes_everything_that_was_measured_on_it(folder, run):
    assert evaluate(folder, run, "--no-page").exit_code == 0
    result = invoke(
        "train", "--data", folder / "toy.zip", "--split", folder / "toy.split.json", "--steps", 1,
        "--batch", 16, "--outdir", run, "--overwrite",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert not list(run.glob("*-test.*")) and set(metrics_of(run)) == {"val"}
