"""`semisup query` and `semisup audit` as a user types them, on a study of real runs."""

import json
import shutil

import pandas as pd
import pytest
from click.testing import CliRunner

from scripts.cli import cli
from semisup.audit_key import read_keys
from tests.semisup.conftest import data_dir, finished_study, own_cache  # noqa: F401 - fixtures


def invoke(*arguments):
    return CliRunner().invoke(cli, ["semisup", *map(str, arguments)])


@pytest.fixture
def study(finished_study, tmp_path):  # noqa: F811
    return shutil.copytree(finished_study, tmp_path / "study")


def test_query_prints_a_table_and_says_when_rows_are_left_out(study):
    sql = "SELECT arm, status, test_openings AS opened FROM runs ORDER BY arm"
    result = invoke("query", study, sql)
    assert result.exit_code == 0, result.output
    assert [line.split() for line in result.output.splitlines()] == [
        ["arm", "status", "opened"],
        ["pseudo_real", "done", "1"],
        ["supervised", "done", "1"],
        ["supervised_full", "done", "1"],
        ["(3", "rows)"],
    ]
    result = invoke("query", study, sql, "--rows", 1)
    assert (
        result.output.splitlines()[-1] == "(3 rows, the first 1 shown; --rows shows more, --csv writes all)"
    )


def test_query_writes_files_and_leaves_others_alone(study, tmp_path):
    sql = "SELECT run, round_index, per_class_selected, threshold FROM rounds ORDER BY ALL"
    files = ["--csv", tmp_path / "r.csv", "--json", tmp_path / "r.json"]
    result = invoke("query", study, sql, *files)
    assert result.exit_code == 0, result.output
    table = pd.read_csv(tmp_path / "r.csv")
    rows = json.loads((tmp_path / "r.json").read_text())
    assert len(table) == len(rows) == 4
    assert [json.loads(cell) for cell in table["per_class_selected"]] == [
        r["per_class_selected"] for r in rows
    ]
    assert [r["threshold"] for r in rows].count(None) == table["threshold"].isna().sum() == 3
    again = invoke("query", study, sql, *files)
    assert again.exit_code == 1 and "already exists and is left alone" in again.output
    assert invoke("query", study, sql, *files, "--overwrite").exit_code == 0


def test_query_schema_lists_the_tables(study):
    result = invoke("query", study, "--schema")
    assert result.exit_code == 0, result.output
    assert "ledger: one row a pool image and round" in result.output
    line = next(line for line in result.output.splitlines() if line.startswith("  confidence "))
    assert line.split(maxsplit=2)[1:] == ["DOUBLE", "calibrated probability of the most probable class"]
    assert invoke("query", study, "SELECT 1", "--schema").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "expected a query such as"),
        (("SELECT foo FROM runs",), 2, "SQL, line 1, character 8: there is no column 'foo'"),
        (("DROP VIEW ledger",), 2, "SQL: expected one SELECT, got DROP: a query only reads"),
        (("SELECT * FROM range(100000000)", "--max-rows", "10"), 1, "has more than 10 rows"),
    ],
)
def test_query_ends_in_a_sentence_and_an_exit_code(study, arguments, code, words):
    result = invoke("query", study, *arguments)
    assert result.exit_code == code
    assert words in result.output


def test_an_audit_goes_out_and_comes_back(study, tmp_path):
    dest = tmp_path / "hand-out"
    result = invoke("audit", "export", study, "--dest", dest, "--num", 20, "--enlarge", 4)
    assert result.exit_code == 0, result.output
    (key,) = read_keys(study)
    pictures = len(list((dest / "images").iterdir()))
    drawn, pool = len(key["rows"]), key["num_population"]
    assert f"{pictures} pictures for {drawn} of {pool} pseudo-labels" in result.output
    labels = {row["code"]: key["classes"][row["predicted"]] for row in key["rows"]}
    lines = (dest / "labels.csv").read_text(encoding="utf-8-sig").splitlines()
    filled = [lines[0], *(line.replace(",,,", f",{labels[line.split(',')[0]]},,") for line in lines[1:])]
    filled[1] = filled[1].replace(",,", ",x,")
    (dest / "labels.csv").write_text("\n".join(filled))
    result = invoke("audit", "import", study, dest / "labels.csv")
    assert result.exit_code == 0, result.output
    assert f"reader 1: {pictures} of {pictures} pictures answered, 1 unsure, 0 of no class" in result.output
    assert "wrong pseudo-labels  0.0 % [0.0 %" in result.output
    assert "taken for bar: " in result.output and "confidence 0 to " in result.output
    assert json.loads((study / "audit.json").read_text())["num_drawn"] == drawn
    again = invoke("audit", "export", study, "--dest", dest, "--overwrite")
    assert again.exit_code == 1 and "has been filled in" in again.output


def test_a_report_waits_for_the_audit_that_its_plan_requires(study, tmp_path):
    content = json.loads((study / "study.json").read_text())
    content["audit"] = {"required": True, "max_error": 0.001}
    (study / "study.json").write_text(json.dumps(content))
    waiting = invoke("report", "--outdir", study)
    assert waiting.exit_code == 0, waiting.output
    assert "no headline, because the plan requires that an expert reads a sample" in waiting.output
    test_an_audit_goes_out_and_comes_back(study, tmp_path)
    above = invoke("report", "--outdir", study)
    assert "of the pseudo-labels are wrong, and the plan allows 0.1 %" in above.output
    content["audit"]["max_error"] = 0.999
    (study / "study.json").write_text(json.dumps(content))
    allowed = invoke("report", "--outdir", study)
    assert "an expert" not in allowed.output and "because the comparison rests on 1 seed" in allowed.output
    assert "An expert who did not know" in (study / "report.html").read_text()


def test_import_names_what_it_cannot_use(study, tmp_path):
    (tmp_path / "labels.csv").write_text("code,label\nZZZZZZ,bar\n")
    result = invoke("audit", "import", study, tmp_path / "labels.csv")
    assert result.exit_code == 1
    assert "expected codes of an export of" in result.output


@pytest.mark.parametrize("command", [["query"], ["audit"], ["audit", "export"], ["audit", "import"]])
def test_help_says_what_each_command_does(command):
    result = invoke(*command, "--help")
    assert result.exit_code == 0 and len(result.output.splitlines()) > 5
