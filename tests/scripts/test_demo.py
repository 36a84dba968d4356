"""The demo: the plan of commands, the refusals, and (slow) the whole of it at its tiny settings."""

import json
import re
import shlex

import pytest
from click.testing import CliRunner

from scripts import demo as demo_module
from scripts.cli import cli
from scripts.demo import QUICK, DemoConfig, plan_steps
from semisup.config import load_study


def test_every_step_is_a_command_that_exists_with_flags_it_knows(tmp_path):
    for step in plan_steps(tmp_path, DemoConfig()):
        help_text = CliRunner().invoke(cli, [*step.arguments[:2], "--help"]).output
        flags = [argument for argument in step.arguments if argument.startswith("--")]
        assert flags
        assert all(re.search(rf"{flag}\b", help_text) for flag in flags), (step.arguments, help_text)


def test_a_step_that_is_done_is_not_done_again_and_the_study_is_always_asked(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(demo_module, "_run", lambda step: ran.append(step.arguments[:2]))
    first = plan_steps(tmp_path, DemoConfig())[0]
    demo_module.run_demo(tmp_path, DemoConfig())
    assert len(ran) == 5
    ran.clear()
    first.result.parent.mkdir()
    first.result.write_text("file,subject_id\n")
    demo_module.run_demo(tmp_path, DemoConfig())
    assert ran == [("extract", "volumes"), ("extract", "show"), ("extract", "split"), ("semisup", "run")]


def test_the_study_file_that_it_writes_is_a_valid_one(tmp_path, monkeypatch):
    monkeypatch.setattr(demo_module, "_run", lambda step: None)
    demo_module.run_demo(tmp_path, DemoConfig())
    study = load_study(tmp_path / "study.yaml")
    assert study.primary.arm == "pseudo_gan_full"
    assert study.data == tmp_path / "planes.zip"


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    result = CliRunner().invoke(cli, ["demo", "--outdir", str(tmp_path)])
    assert result.exit_code == 2
    assert "is not empty and holds no demo" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_demo_of_other_settings_is_refused(tmp_path):
    (tmp_path / "demo.json").write_text(json.dumps({"subjects": 3}))
    result = CliRunner().invoke(cli, ["demo", "--outdir", str(tmp_path)])
    assert result.exit_code == 2
    assert "other settings" in result.output


@pytest.mark.slow
def test_the_quick_demo_runs_to_its_report(tmp_path):
    result = CliRunner().invoke(cli, ["demo", "--quick", "--outdir", str(tmp_path / "demo")])
    assert result.exit_code == 0, result.output
    report = tmp_path / "demo" / "study" / "report.html"
    assert str(report) in result.output
    assert "no headline" in result.output  # one seed: the demo must not boast
    for step in plan_steps(tmp_path / "demo", QUICK):
        assert shlex.join(("synthlabel", *step.arguments)) in result.output
