"""A study on a Ray cluster: the numbers of one process, and refusals where machines see something else."""

import importlib.util
import os
import signal

import pytest

from extract.errors import SettingsError
from semisup import execute
from semisup.config import load_study
from semisup.errors import StudyError
from semisup.folders import STUDY_JSON
from semisup.outcomes import run_status
from semisup.plan import RunJob, make_plan
from semisup.ray_crew import RayCrew, perform_checked, study_digest
from semisup.study import run_study
from semisup.workers import Verdict
from tests.semisup.test_study import without_times

HAS_RAY = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not HAS_RAY, reason="Ray is not installed: pip install 'synthlabel[ray]'")


def suicidal_attempt(job, basis):
    """Stands in for `execute.attempt`: supervised_full kills its worker, the others succeed."""
    if isinstance(job, RunJob) and job.arm == "supervised_full":
        os.kill(os.getpid(), signal.SIGKILL)
    folder = basis.study_dir / job.folder / job.key
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text('{"status": "done"}')
    return Verdict("done")


@needs_ray
@pytest.mark.slow
def test_a_study_on_a_cluster_has_the_numbers_of_one_process(write_study, tmp_path):
    path = write_study(seeds=[0, 1])
    assert run_study(path, tmp_path / "here", jobs=1).num_done == 6
    summary = run_study(path, tmp_path / "there", jobs=2, ray_address="local")
    assert (summary.num_done, summary.num_performed, summary.failures) == (6, 6, ())
    assert without_times(tmp_path / "there") == without_times(tmp_path / "here")
    assert not list((tmp_path / "there").glob("progress/*"))
    assert run_study(path, tmp_path / "there", ray_address="local").num_performed == 0


@needs_ray
@pytest.mark.slow
def test_a_worker_that_dies_on_a_cluster_fails_its_own_run_alone(write_study, tmp_path, monkeypatch):
    monkeypatch.setattr(execute, "attempt", suicidal_attempt)
    plan = make_plan(load_study(write_study()))
    (tmp_path / "out").mkdir()
    outcome = execute.execute(plan, tmp_path / "out", jobs=2, ray_address="local")
    ((title, cause),) = outcome.failures
    assert title.startswith("supervised_full") and "its worker on the Ray cluster died" in cause
    states = {run.arm: run_status(run, tmp_path / "out")[0] for run in plan.runs}
    assert states == {"supervised": "done", "supervised_full": "failed", "pseudo_real": "done"}


@needs_ray
@pytest.mark.slow
def test_a_machine_that_sees_another_folder_is_named_before_any_work(write_study, tmp_path, monkeypatch):
    monkeypatch.setattr("semisup.ray_crew.study_digest", lambda study_dir: "f" * 64)  # here alone
    plan = make_plan(load_study(write_study()))
    with pytest.raises(
        StudyError, match=r"expected every machine to see the study in .* got nothing there on"
    ):
        RayCrew("local", plan.basis(tmp_path))


@needs_ray
@pytest.mark.slow
def test_an_address_without_a_cluster_is_wrong_usage(write_study, tmp_path):
    plan = make_plan(load_study(write_study()))
    with pytest.raises(SettingsError, match=r"expected a Ray cluster at 127.0.0.1:9, got none"):
        RayCrew("127.0.0.1:9", plan.basis(tmp_path))


@pytest.mark.skipif(HAS_RAY, reason="Ray is installed")
def test_without_ray_one_sentence_says_how_to_get_it(write_study, tmp_path):
    with pytest.raises(SettingsError, match=r"pip install 'synthlabel\[ray\]'"):
        run_study(write_study(), tmp_path / "out", ray_address="local")


def test_a_machine_that_joins_late_performs_nothing_in_another_folder(write_study, tmp_path):
    plan = make_plan(load_study(write_study()))
    (tmp_path / STUDY_JSON).write_text("{}")
    basis, job = plan.basis(tmp_path), plan.runs[0]
    done = Verdict("done")
    assert perform_checked(lambda job, basis: done, job, basis, study_digest(tmp_path)) == done
    refused = perform_checked(lambda job, basis: done, job, basis, "f" * 64)
    assert refused.state == "failed" and "expected every machine to see the study" in refused.text
