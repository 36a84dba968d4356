"""The `semisup` commands as a user types them."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from scripts.cli import cli
from tests.semisup.conftest import data_dir, own_cache, study_settings  # noqa: F401 - fixtures

REPOSITORY = Path(__file__).parents[2]


def invoke(*arguments):
    return CliRunner().invoke(cli, ["semisup", *map(str, arguments)])


@pytest.fixture(scope="module")
def finished(data_dir, tmp_path_factory):  # noqa: F811
    """A study that was run by its command, and what the command printed."""
    folder = tmp_path_factory.mktemp("commands")
    (folder / "study.yaml").write_text(yaml.safe_dump(study_settings(data_dir)))
    return folder, invoke("run", "--study", folder / "study.yaml", "--outdir", folder / "out", "--jobs", 1)


def test_run_ends_with_the_verdict_and_the_place_of_the_report(finished):
    folder, result = finished
    assert result.exit_code == 0, result.output
    assert "3 of 3 runs done" in result.output
    assert "no headline" in result.output  # one seed
    assert result.output.rstrip().endswith(f"report: {folder / 'out' / 'report.html'}")
    assert (folder / "out" / "report.html").exists()


def test_plan_prints_the_grid_and_runs_nothing(finished, tmp_path):
    folder, _ = finished
    result = invoke("plan", "--study", folder / "study.yaml", "--probe", 0)
    assert result.exit_code == 0
    assert "3 runs, at most 3 classifier trainings of 12 steps, 0 generators" in result.output
    assert "primary comparison: pseudo_real against supervised at 40% of the labels" in result.output


def test_plan_as_json_has_the_jobs_and_the_smallest_effect(finished):
    folder, _ = finished
    result = invoke("plan", "--study", folder / "study.yaml", "--probe", 0, "--json")
    content = json.loads(result.stdout)
    assert [job["kind"] for job in content["jobs"]] == ["run"] * 3
    assert content["estimate"]["detectable"]["num_subjects"] == 8
    assert content["estimate"]["wall_seconds"] is None


def test_a_gpu_that_is_not_there_is_wrong_usage(finished, tmp_path):
    folder, _ = finished
    result = invoke("run", "--study", folder / "study.yaml", "--outdir", tmp_path / "out", "--gpus", "9")
    assert result.exit_code == 2 and "GPU 9 does not exist" in result.output
    assert not (tmp_path / "out").exists()


def test_watching_ends_when_nothing_is_left_to_do(finished):
    folder, _ = finished
    result = invoke("status", "--outdir", folder / "out", "--watch", 60, "--json")
    assert result.exit_code == 0
    content = json.loads(result.output)
    assert content["is_over"] and content["seconds_left"] == 0
    assert {group["name"]: group["done"] for group in content["groups"]} == {
        "supervised": 1, "supervised_full": 1, "pseudo_real": 1,
    }  # fmt: skip


def test_status_counts(finished):
    folder, _ = finished
    result = invoke("status", "--outdir", folder / "out")
    assert result.exit_code == 0
    assert [line.split() for line in result.output.splitlines()] == [
        ["supervised", "1", "done"], ["supervised_full", "1", "done"], ["pseudo_real", "1", "done"],
    ]  # fmt: skip


def test_report_can_be_written_again(finished):
    folder, _ = finished
    (folder / "out" / "report.html").unlink()
    result = invoke("report", "--outdir", folder / "out")
    assert result.exit_code == 0
    assert (folder / "out" / "report.html").exists()


def test_a_wrong_study_file_is_wrong_usage(finished, tmp_path):
    folder, _ = finished
    settings = yaml.safe_load((folder / "study.yaml").read_text())
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**settings, "sedes": [1]}))
    result = invoke("run", "--study", tmp_path / "study.yaml", "--outdir", tmp_path / "out")
    assert result.exit_code == 2
    assert "sedes: unknown setting; did you mean 'seeds'?" in result.output


def test_a_folder_of_another_plan_is_bad_data(finished, tmp_path):
    folder, _ = finished
    settings = yaml.safe_load((folder / "study.yaml").read_text())
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({**settings, "seeds": [1]}))
    result = invoke("run", "--study", tmp_path / "study.yaml", "--outdir", folder / "out")
    assert result.exit_code == 1
    assert "this folder belongs to another plan (seeds: [0] there, [1] now)" in result.output


def test_failed_runs_are_named_and_the_exit_code_says_so(finished, tmp_path, monkeypatch):
    from semisup import execute

    real = execute.perform

    def fail(job, basis, progress):
        if job.arm == "pseudo_real":
            raise RuntimeError("bad luck")
        real(job, basis, progress)

    monkeypatch.setattr(execute, "perform", fail)
    folder, _ = finished
    result = invoke("run", "--study", folder / "study.yaml", "--outdir", tmp_path / "out", "--jobs", 1)
    assert result.exit_code == 1
    assert "failed: pseudo_real at 40% of the labels, fold 0, seed 0: RuntimeError: bad luck" in result.output
    assert "1 of 3 runs have no result" in result.output
    assert "report: " in result.output  # of what there is


def test_ctrl_c_ends_in_one_sentence(finished, tmp_path):
    folder, _ = finished
    settings = yaml.safe_load((folder / "study.yaml").read_text())
    settings["classifier"]["steps"] = 100_000
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "scripts.cli", "semisup", "run", "--jobs", "1"]
    process = subprocess.Popen(
        [*command, "--study", str(tmp_path / "study.yaml"), "--outdir", str(tmp_path / "out")],
        cwd=REPOSITORY, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True,
        # Tests that were started in the background of a shell inherit that Ctrl-C is ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    started = time.monotonic()
    while not any(
        json.loads(path.read_text())["done"] for path in (tmp_path / "out").glob("progress/*.json")
    ):
        assert process.poll() is None and time.monotonic() - started < 120
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted: what was finished is intact" in errors and "Traceback" not in errors
    assert not list((tmp_path / "out" / "runs").glob("*"))  # the half-made run left nothing


@pytest.mark.parametrize("command", ["plan", "run", "report", "status"])
def test_help_says_what_each_command_does(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0 and len(result.output.splitlines()) > 5
