"""SQL over a study: the tables agree with the files, and nothing else can be reached or harmed."""

import json
import re
import shutil
import time
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from extract.errors import SettingsError
from semisup.errors import StudyError
from semisup.ledger import read_ledger
from semisup.query import QueryLimits, describe_tables, query_study, query_table
from semisup.query_columns import COLUMN_MEANINGS, TABLE_MEANINGS
from semisup.query_tables import open_study_tables
from semisup.query_worker import Refused, check_statement, open_engine
from tests.semisup.study_folder import FakeStudy, fail_run, make_study

SMALL = FakeStudy(num_subjects=12, folds=(0, 1), seeds=(0, 1), fractions=(0.2,), has_images=False)


@pytest.fixture(scope="module")
def study_dir(tmp_path_factory):
    folder = make_study(tmp_path_factory.mktemp("query") / "study", SMALL)
    fail_run(folder, "bad luck", "supervised_full")
    return folder


@pytest.fixture(scope="module")
def engine(study_dir):
    return open_engine(open_study_tables(study_dir), memory_mb=256, threads=1)


def rows(engine, sql):
    return engine.execute(sql).fetchall()


def test_the_ledger_is_all_ledgers_with_what_their_runs_are(engine, study_dir):
    expected = {}
    for path in study_dir.glob("runs/*/ledger.parquet"):
        info = json.loads((path.parent / "run.json").read_text())
        key = (path.parent.name, info["arm"], info["fold"], info["seed"], info["fraction"])
        expected[key] = read_ledger(path)["decision"].value_counts().to_dict()
    found = {}
    sql = "SELECT run, arm, fold, seed, fraction, decision, count(*) FROM ledger GROUP BY ALL"
    for *key, decision, count in rows(engine, sql):
        found.setdefault(tuple(key), {})[decision] = count
    assert found == expected


def test_a_ledgers_rows_come_as_they_are(engine, study_dir):
    path = sorted(study_dir.glob("runs/*/ledger.parquet"))[0]
    wanted = read_ledger(path)
    found = engine.execute(
        "SELECT * FROM ledger WHERE run = ? ORDER BY round_index, image", [path.parent.name]
    ).df()
    wanted = wanted.sort_values(["round_index", "image"], ignore_index=True)
    for column in (
        "image",
        "archive_sha256",
        "p_0",
        "raw_p_2",
        "confidence",
        "predicted",
        "weight",
        "threshold",
    ):
        assert found[column].tolist() == wanted[column].tolist(), column
    assert found["image_seed"].tolist() == wanted["seed"].tolist()  # `seed` is the run's
    names = [SMALL.classes[k] for k in wanted["predicted"]]
    assert found["predicted_class"].tolist() == names
    assert found["gate"].isna().all() and found["uncertainty"].isna().all()  # of the first version


def test_predictions_agree_with_the_test_part_and_runs_with_their_metrics(engine, study_dir):
    sql = (
        "SELECT run, avg(is_correct::INT), any_value(test_balanced_accuracy), count(*), "
        "any_value(num_test_images) FROM predictions JOIN runs USING (run) GROUP BY run"
    )
    found = rows(engine, sql)
    assert len(found) == len(list(study_dir.glob("runs/*/predictions.parquet")))
    for run, accuracy, metric, count, planned in found:
        info = json.loads((study_dir / "runs" / run / "run.json").read_text())
        assert (
            accuracy == pytest.approx(metric) == info["test_metrics"]["balanced_accuracy"]
        )  # as it was made
        assert count == planned


def test_a_failed_run_says_why_and_has_no_rows_elsewhere(engine):
    failed = rows(engine, "SELECT run, arm, fraction, error FROM runs WHERE status = 'failed'")
    assert [row[1:] for row in failed] == [("supervised_full", 1.0, "bad luck")]
    for table in ("predictions", "rounds", "ledger"):
        assert rows(engine, f"SELECT count(*) FROM {table} WHERE run = '{failed[0][0]}'") == [(0,)]


def test_rounds_and_arms_count(engine):
    assert rows(engine, "SELECT arm, count(*) FROM rounds WHERE is_kept GROUP BY arm ORDER BY arm") == [
        ("pseudo_gan_full", 4),
        ("pseudo_real", 4),
        ("supervised", 4),
        ("supervised_full", 3),
    ]
    sql = "SELECT arm, num_planned, num_done, num_failed FROM arms ORDER BY arm"
    assert rows(engine, sql)[-1] == ("supervised_full", 4, 3, 1)
    assert rows(engine, "SELECT list(name ORDER BY number) FROM classes") == [(list(SMALL.classes),)]
    sql = (
        "SELECT count(*) FROM rounds r JOIN (SELECT run, round_index, count(*) n, "
        "count(*) FILTER (decision = 'selected') k FROM ledger GROUP BY ALL) l USING (run, round_index) "
        "WHERE r.pool_size <> l.n OR r.num_selected <> l.k"
    )
    assert rows(engine, sql) == [(0,)]


def test_every_column_has_a_meaning(study_dir, finished_study):
    columns = describe_tables(finished_study)
    assert {column.table for column in columns} == set(TABLE_MEANINGS) == set(COLUMN_MEANINGS)
    assert [c for c in columns if c.meaning.startswith("as in run.json") or "run's file" in c.meaning] == []
    assert [c.name for c in columns if c.table == "ledger"][:6] == [
        "run", "arm", "fold", "seed", "fraction", "round_index",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "sql",
    [
        "COPY runs TO '{dir}/out.csv'",
        "COPY (SELECT 1) TO '{dir}/out.parquet' (FORMAT parquet)",
        "ATTACH '{dir}/other.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "EXPORT DATABASE '{dir}/dump'",
        "SET threads = 8",
        "SET enable_external_access = true",
        "RESET lock_configuration",
        "PRAGMA enable_external_access",
        "INSERT INTO runs SELECT * FROM runs",
        "DELETE FROM _runs",
        "UPDATE _runs SET arm = 'x'",
        "DROP VIEW ledger",
        "CREATE SECRET (TYPE s3)",
    ],
)
def test_nothing_but_a_select_passes_and_the_engine_itself_refuses_the_rest(engine, tmp_path, sql):
    sql = sql.format(dir=tmp_path)
    with pytest.raises((Refused, duckdb.Error)):
        check_statement(engine, sql)
    if not sql.startswith("DROP"):  # of a view in memory, which is nobody's
        with pytest.raises(duckdb.Error):  # the second line of defence
            engine.execute(sql)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM read_blob('/etc/hostname')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM sniff_csv('/etc/passwd')",
        "SELECT * FROM read_parquet('{study}/runs/*/predictions.parquet')",
        "SELECT * FROM parquet_metadata('{study}/runs/x/ledger.parquet')",
        "SELECT * FROM read_json('https://example.org/x.json')",
        "SELECT * FROM secret",
        "SELECT getenv('HOME')",
        "SELECT * FROM query('COPY runs TO ''/tmp/x.csv''')",
        "WITH x AS (INSERT INTO _runs SELECT * FROM _runs RETURNING *) SELECT * FROM x",
        "SELECT * FROM duckdb_secrets()",
    ],
)
def test_a_select_reaches_no_file_and_no_variable(engine, study_dir, sql):
    secret = pd.DataFrame({"a": [1]})
    with pytest.raises((Refused, duckdb.Error)):
        check_statement(engine, sql.format(study=study_dir))
        engine.execute(sql.format(study=study_dir)).fetchall()
    assert len(secret) == 1


def test_the_answer_is_a_frame_and_whole_numbers_stay_whole(study_dir):
    frame = query_study(study_dir, "SELECT arm, count(*) AS n FROM runs GROUP BY arm ORDER BY arm")
    assert frame["arm"].tolist() == ["pseudo_gan_full", "pseudo_real", "supervised", "supervised_full"]
    assert frame["n"].tolist() == [4, 4, 4, 4]
    table = query_table(study_dir, "SELECT best_round FROM runs WHERE status = 'failed' -- a comment")
    assert table.to_pylist() == [{"best_round": None}]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT 1; SELECT 2", "SQL: expected one statement, got 2"),
        ("COPY runs TO 'x'", "SQL: expected one SELECT, got COPY: a query only reads"),
        ("  ", "expected a query such as"),
        ("SELECT 1,\n  foo FROM runs", r"SQL, line 2, character 3: there is no column 'foo'"),
        ("SELECT confidnce FROM ledger", r"character 8: there is no column 'confidnce'.*'confidence'\?"),
        ("SELECT * FROM legder", r"character 15: there is no table 'legder'; there are ledger, predictions"),
        ("SELEC 1", r"line 1, character 1: syntax error at or near \"SELEC\""),
    ],
)
def test_sql_that_cannot_be_answered_is_told_in_a_sentence_with_the_place(study_dir, sql, words):
    with pytest.raises(SettingsError, match=words):
        query_study(study_dir, sql)


@pytest.mark.parametrize(
    "sql",
    [
        "WITH RECURSIVE r AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM r) SELECT max(a) FROM r",
        "SELECT count(*) FROM range(99999) a, range(99999) b, range(99) c WHERE a.range + b.range > c.range",
        "SELECT levenshtein(repeat('ab', 50000), repeat('ba', 50000))",  # heeds no interruption
    ],
)
def test_a_query_without_an_end_is_stopped_by_the_clock(study_dir, sql):
    started = time.monotonic()
    with pytest.raises(StudyError, match=r"stopped after 1.5 seconds; .*--time-limit"):
        query_study(study_dir, sql, QueryLimits(seconds=1.5))
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT length(repeat('x', 4000000000))",  # heeds no limit of the engine
        "SELECT list(a.range) FROM range(100000) a, range(100000) b",
    ],
)
def test_a_query_that_takes_too_much_memory_is_stopped(study_dir, sql):
    with pytest.raises(StudyError, match=r"took more than 64 MB; .*--memory"):
        query_study(study_dir, sql, QueryLimits(memory_mb=64))


def test_an_answer_beyond_all_use_is_stopped(study_dir):
    with pytest.raises(StudyError, match=r"more than 1,000 rows; .*--max-rows"):
        query_study(study_dir, "SELECT * FROM range(1000000000)", QueryLimits(max_rows=1000))


def test_asking_changes_nothing_in_the_study(study_dir):
    def state():
        return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in sorted(study_dir.rglob("*"))}

    before = state()
    query_study(study_dir, "SELECT count(*) FROM ledger ORDER BY 1")
    assert state() == before


def test_a_folder_that_is_no_study_and_a_damaged_ledger_are_named(study_dir, tmp_path):
    with pytest.raises(StudyError, match=r"study\.json: expected a file of a study"):
        query_study(tmp_path, "SELECT 1")
    copy = shutil.copytree(study_dir, tmp_path / "copy")
    path = sorted(copy.glob("runs/*/ledger.parquet"))[0]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(StudyError, match=r"ledger\.parquet: expected a Parquet table"):
        query_study(copy, "SELECT 1")


def test_a_study_without_a_finished_run_has_empty_tables(study_dir, tmp_path):
    shutil.copy(study_dir / "study.json", tmp_path)
    engine = open_engine(open_study_tables(tmp_path), memory_mb=256, threads=1)
    for table in ("ledger", "predictions", "runs", "rounds"):
        assert rows(engine, f"SELECT count(*) FROM {table}") == [(0,)]
    assert rows(engine, "SELECT sum(num_planned) FROM arms") == [(16,)]
    assert rows(engine, "SELECT run, p_2, decision FROM ledger") == []


def test_the_questions_of_the_manual_are_answered(engine):
    text = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```sql\n(.*?)```", text, re.DOTALL)
    questions = [question for question in block.split(";\n") if question.strip()]
    assert len(questions) == 5
    for question in questions:
        check_statement(engine, question)
        assert len(rows(engine, question)) > 0, question


@pytest.mark.slow
def test_a_million_rows_are_answered_in_about_a_second(study_dir, tmp_path):
    copy = shutil.copytree(study_dir, tmp_path / "copy")
    path = sorted(copy.glob("runs/*/ledger.parquet"))[0]
    table = read_ledger(path)
    pd.concat([table] * (10**6 // len(table) + 1), ignore_index=True).to_parquet(path, index=False)
    started = time.monotonic()
    frame = query_study(copy, "SELECT arm, decision, count(*) n, avg(confidence) c FROM ledger GROUP BY ALL")
    assert frame["n"].sum() >= 10**6
    assert time.monotonic() - started < 10  # about one on a free machine
