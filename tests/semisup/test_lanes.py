"""GPUs dealt out to jobs, on a machine that need not have any."""

import os

import pytest

from extract.errors import SettingsError
from semisup.config import load_study
from semisup.lanes import NO_GPU, emptiest_lane, lane_places, parse_gpus
from semisup.plan import make_plan
from semisup.study import run_study
from semisup.workers import ProcessCrew, Verdict


def tell_gpu(job, basis):
    return Verdict("done", os.environ.get("CUDA_VISIBLE_DEVICES", "unset"))


def test_processes_are_dealt_out_evenly():
    assert lane_places(5, ["0", "1"]) == {"0": 3, "1": 2}
    assert lane_places(1, ["0", "1"]) == {"0": 1}  # a GPU without a process is left out
    assert lane_places(3, []) == {NO_GPU: 3}


def test_a_job_takes_the_emptiest_gpu_and_waits_where_all_are_full():
    places = {"0": 2, "1": 2}
    assert emptiest_lane(places, {}) == "0"
    assert emptiest_lane(places, {"0": 1}) == "1"
    assert emptiest_lane(places, {"0": 1, "1": 1}) == "0"
    assert emptiest_lane(places, {"0": 2, "1": 2}) is None


def test_jobs_at_once_see_one_gpu_each(write_study, tmp_path):
    plan = make_plan(load_study(write_study()))
    crew = ProcessCrew(2, plan.basis(tmp_path), gpus=["3", "GPU-8f6b"])
    first, second, third = plan.runs
    try:
        futures = [crew.submit(tell_gpu, first), crew.submit(tell_gpu, second)]
        assert [future.result(timeout=120).text for future in futures] == ["3", "GPU-8f6b"]
        assert crew.has_room(third, [])
    finally:
        crew.close()


@pytest.mark.parametrize(
    ("text", "visible", "gpus"),
    [
        ("0,1", None, ("0", "1")),
        ("1", "4,5", ("5",)),  # as torch counts them
        ("GPU-8f6b, 0", None, ("GPU-8f6b", "0")),
    ],
)
def test_gpus_are_named_as_cuda_wants_them(text, visible, gpus):
    assert parse_gpus(text, visible, num_found=2) == gpus


@pytest.mark.parametrize(
    ("text", "num_found", "words"),
    [
        ("0", 0, "GPU 0 does not exist, torch sees 0 CUDA devices on this machine; leave --gpus out"),
        ("0,2", 2, "GPU 2 does not exist, torch sees 2"),
        ("both", 2, "--gpus must be numbers with commas between them such as 0,1, got 'both'"),
        ("1,1", 2, "names the same GPU twice"),
    ],
)
def test_gpus_that_are_not_there_are_refused(text, num_found, words):
    with pytest.raises(SettingsError, match=words):
        parse_gpus(text, None, num_found)


@pytest.mark.parametrize(
    ("device", "ray_address", "words"),
    [
        ("cpu", None, r"the study runs on the CPU \(classifier.device: cpu\)"),
        ("cuda:1", None, "classifier.device: cuda:1 names one GPU for all jobs; write cuda"),
        ("auto", "local", "leave it out with --ray"),
    ],
)
def test_gpus_are_refused_where_they_could_do_nothing(
    write_study, tmp_path, monkeypatch, device, ray_address, words
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    path = write_study(classifier={"steps": 2, "device": device})
    with pytest.raises(SettingsError, match=words):
        run_study(path, tmp_path / "out", gpus=["0"], ray_address=ray_address)
    assert not (tmp_path / "out").exists()
