"""The ledger: one row a pool image and round."""

import json

import numpy as np
import pandas as pd
import pytest

from semisup.choosing import PoolScores
from semisup.errors import StudyError
from semisup.gates import combine, near_duplicates
from semisup.ledger import (
    VERSION,
    PoolIdentity,
    ledger_rows,
    ledger_version,
    read_ledger,
    write_ledger,
)
from semisup.select import select_confident
from semisup.uncertainty import Doubt

MANIFEST = pd.DataFrame(
    {
        "file": ["a.png", "b.png", "c.png"],
        "sha256": ["aa", "bb", "cc"],
        "snapshot_sha256": ["ff", "", "ff"],
        "seed": ["7", "", "9"],
        "truncation_psi": ["0.7", "", "1"],
    }
)


def rows_of(probs, round_index=1):
    probs = np.array(probs)
    scores = PoolScores(np.roll(probs, 1, axis=1), probs, select_confident(probs, 0.75))
    identity = PoolIdentity.of_rows(MANIFEST, np.arange(3), "archive")
    return ledger_rows(
        identity,
        scores,
        round_index=round_index,
        teacher_sha256="t",
        rule="confident",
        threshold=0.75,
        weight=0.5,
    )


def test_each_image_keeps_its_row_whatever_was_decided():
    table = rows_of([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    assert table["image"].tolist() == ["a.png", "b.png", "c.png"]
    assert table["decision"].tolist() == ["selected", "below threshold", "selected"]
    assert table["weight"].tolist() == [0.5, 0.0, 0.5]
    assert table["predicted"].tolist() == [0, 0, 1]
    assert table["p_0"].round(3).tolist() == [0.9, 0.6, 0.2]
    assert table["raw_p_0"].round(3).tolist() == [0.1, 0.4, 0.8]


def test_real_and_synthetic_images_say_where_they_come_from():
    table = rows_of([[0.9, 0.1]] * 3)
    assert table["seed"].tolist() == [7, -1, 9]
    assert table["truncation_psi"].fillna(-1).tolist() == [0.7, -1, 1]
    assert table["snapshot_sha256"].tolist() == ["ff", "", "ff"]


def test_rounds_come_back_as_written(tmp_path):
    first, second = rows_of([[0.9, 0.1]] * 3), rows_of([[0.1, 0.9]] * 3, round_index=2)
    write_ledger([first, second], tmp_path / "ledger.parquet")
    table = read_ledger(tmp_path / "ledger.parquet")
    pd.testing.assert_frame_equal(table, pd.concat([first, second], ignore_index=True), check_dtype=False)
    assert table["round_index"].tolist() == [1, 1, 1, 2, 2, 2]


def test_a_damaged_ledger_is_named(tmp_path):
    (tmp_path / "ledger.parquet").write_text("rubbish")
    with pytest.raises(
        StudyError, match=r"ledger\.parquet: expected a ledger, got a file that cannot be read"
    ):
        read_ledger(tmp_path / "ledger.parquet")


def test_gates_and_uncertainty_are_empty_until_there_are_some():
    table = rows_of([[0.9, 0.1]] * 3)
    assert table["gate"].tolist() == ["", "", ""]
    assert table["uncertainty"].isna().all() and (table["uncertainty_method"] == "").all()
    gated = combine([near_duplicates(np.array([0.1, 0.99, 0.2]), np.array([0, 1, 0]), 0.98)], ["a", "b"])
    scores = PoolScores(
        np.full((3, 2), 0.5), np.full((3, 2), 0.5), select_confident(np.full((3, 2), 0.5), 0.75), gated,
        Doubt("tta", np.array([0.1, 0.2, 0.3]), np.array([True, False, False]), np.ones((3, 2), bool)),
    )  # fmt: skip
    measured = ledger_rows(
        PoolIdentity.of_rows(MANIFEST, np.arange(3), "archive"), scores, round_index=1, teacher_sha256="t",
        rule="confident", threshold=0.75, weight=1.0,
    )  # fmt: skip
    assert measured["gate"].tolist() == ["", "near duplicate", ""]
    assert measured["decision"].tolist() == ["below threshold", "near duplicate", "too uncertain"]
    assert measured["gate_value"].tolist()[1] == 0.99 and measured["gate_value"].isna().sum() == 2
    assert measured["gate_nearest"].tolist() == ["", "b", ""]
    assert measured["uncertainty"].tolist() == [0.1, 0.2, 0.3]
    assert set(measured["uncertainty_method"]) == {"tta"}


def test_a_ledger_names_its_version_and_an_older_one_reads_with_empty_columns(tmp_path):
    table = rows_of([[0.9, 0.1]] * 3)
    write_ledger([table], tmp_path / "new.parquet")
    assert ledger_version(tmp_path / "new.parquet") == VERSION == 3
    new = ["gate", "uncertainty", "uncertainty_method", "gate_value", "gate_nearest"]
    table.drop(columns=new).to_parquet(tmp_path / "old.parquet", index=False)  # as the first version wrote it
    assert ledger_version(tmp_path / "old.parquet") == 1
    old = read_ledger(tmp_path / "old.parquet")
    assert list(old) == list(table)
    assert (old["gate"] == "").all() and old["uncertainty"].isna().all()


def test_a_ledger_that_cannot_be_finished_leaves_the_old_one(tmp_path, monkeypatch):
    import pyarrow.parquet

    path = tmp_path / "ledger.parquet"
    write_ledger([rows_of([[0.9, 0.1]] * 3)], path)
    before = path.read_bytes()

    def fail(table, where):
        where.write_bytes(before[:100])
        raise OSError("no space left")

    monkeypatch.setattr(pyarrow.parquet, "write_table", fail)
    with pytest.raises(OSError, match="no space left"):
        write_ledger([rows_of([[0.1, 0.9]] * 3)], path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["ledger.parquet"]


def test_rows_are_pool_times_rounds_and_decisions_add_up_with_the_run(finished_study):
    checked = 0
    for path in finished_study.glob("runs/*/ledger.parquet"):
        info = json.loads((path.parent / "run.json").read_text())
        table = read_ledger(path)
        assert ledger_version(path) == VERSION
        for entry in info["rounds"][1:]:
            rows = table[table["round_index"] == entry["round_index"]]
            selected = rows[rows["decision"] == "selected"]
            assert len(rows) == entry["pool_size"] == rows["image"].nunique()
            assert len(selected) == entry["num_selected"]
            counts = selected["predicted"].value_counts()
            assert [int(counts.get(k, 0)) for k in (0, 1)] == entry["per_class_selected"]
            assert np.allclose(selected["weight"], entry["pseudo_weight"])
            assert (rows.loc[rows["decision"] != "selected", "weight"] == 0).all()
            assert (rows["threshold"] == entry["threshold"]).all()
            checked += 1
        unused = info["stopped"].startswith("nothing selected")
        assert table["round_index"].nunique() == len(info["rounds"]) - 1 + unused
    assert checked
