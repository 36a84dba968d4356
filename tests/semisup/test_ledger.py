"""The ledger: one row a pool image and round."""

import numpy as np
import pandas as pd
import pytest

from semisup.errors import StudyError
from semisup.ledger import PoolIdentity, ledger_rows, read_ledger, write_ledger
from semisup.rounds import PoolScores
from semisup.select import select_confident

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
