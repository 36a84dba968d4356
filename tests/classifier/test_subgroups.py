import numpy as np
import pandas as pd
import pytest

from classifier.bootstrap import draw_subjects
from classifier.evaluate import classification_metrics
from classifier.subgroups import COLUMNS, group_columns, subgroup_table
from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.errors import ExtractError, SettingsError
from tests.classifier.test_bootstrap import gathered_draws, scored, tails

CLASSES = ("a", "b", "c")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """60 images of 20 subjects, of two sites, three angles, and with a folder for each class."""
    path = tmp_path_factory.mktemp("subgroups") / "toy.zip"
    with ArchiveWriter(path) as writer:
        for index in range(60):
            label, subject = "ab"[index // 3 % 2], f"p{index // 3:02d}"
            site = "north" if index < 30 else "south"
            writer.add(
                np.full((8, 8), index, np.uint8),
                ImageRecord(label=label, subject=subject, source=f"{site}/{label}/{index}.png",
                            plane={"a": "axial", "b": "coronal"}[label], angle_deg=float(index % 3)),
            )  # fmt: skip
    with open_archive(path) as opened:
        yield opened


def test_columns_are_chosen_that_tell_something_beside_class_and_subject(archive):
    columns = group_columns(archive, np.arange(60), None)
    assert set(columns) == {"source", "angle_deg"}  # the plane says what the class says
    assert set(columns["source"]) == {"north", "south"}
    assert set(group_columns(archive, np.arange(30), None)) == {"angle_deg"}  # one site alone


def test_a_column_can_be_named_and_come_from_a_table_of_subjects(archive, tmp_path):
    table = tmp_path / "people.csv"
    ages = [str(20 + number) for number in range(20)]
    sexes = ["F", "M", "", "F"] * 5
    pd.DataFrame({"subject": [f"p{n:02d}" for n in range(20)], "age": ages, "sex": sexes}).to_csv(
        table, index=False
    )
    columns = group_columns(archive, np.arange(60), ("sex", "age", "plane"), table)
    assert list(columns) == ["sex", "age", "plane"]
    assert set(columns["sex"]) == {"F", "M", "(none)"}
    assert sorted(set(columns["age"])) == ["20 to 24.75", "24.75 to 29.5", "29.5 to 34.25", "34.25 to 39"]


def test_a_column_that_does_not_exist_or_does_not_group_is_refused(archive, tmp_path):
    with pytest.raises(ExtractError, match="expected the column scanner in the manifest"):
        group_columns(archive, np.arange(60), ("scanner",))
    with pytest.raises(SettingsError, match="--by file has 60 different values here, and subgroups"):
        group_columns(archive, np.arange(60), ("file",))


def test_a_group_has_its_own_metrics_and_its_difference_to_the_rest():
    probs, labels, subjects = scored(200, 3, 40, seed=1)
    group = np.where(np.arange(200) % 3 == 0, "x", "y/z")
    draws = draw_subjects(subjects, num_draws=60)
    table = subgroup_table(probs, labels, subjects, CLASSES, {"kind": group}, draws).set_index("value")
    is_in = group == "x"
    measured = {
        side: classification_metrics(probs[rows], labels[rows], 3) for side, rows in ((1, is_in), (0, ~is_in))
    }
    line = table.loc["x"]
    assert line["num_images"] == is_in.sum() and line["num_subjects"] >= 2
    for name in ("accuracy", "balanced_accuracy", "auroc"):
        assert line[name] == pytest.approx(measured[1][name])
    assert line["difference"] == pytest.approx(
        measured[1]["balanced_accuracy"] - measured[0]["balanced_accuracy"]
    )
    assert table.loc["y/z", "difference"] == pytest.approx(-line["difference"])
    drawn = []
    for rows in gathered_draws(subjects, 60):
        sides = [rows[is_in[rows]], rows[~is_in[rows]]]
        recalls = [
            [(probs[side].argmax(1) == labels[side])[labels[side] == c].mean() for c in range(3)]
            for side in sides
        ]
        drawn.append(np.mean(np.subtract(*recalls)))
    smaller = min(len({*subjects[is_in]}), len({*subjects[~is_in]}))
    assert (line["difference_low"], line["difference_high"]) == pytest.approx(
        tuple(np.percentile(drawn, tails(smaller)))
    )


def test_only_classes_that_both_sides_have_are_compared():
    probs = np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]])
    labels, subjects = np.array([0, 0, 1, 1]), np.array(list("pqrs"))
    table = subgroup_table(
        probs, labels, subjects, ("a", "b"), {"k": np.array(["x", "y", "x", "x"])}, draw_subjects(subjects)
    ).set_index("value")
    assert table.loc["y", "missing_classes"] == "b"
    assert table.loc["y", "difference"] == pytest.approx(0 - 1)  # class a: wrong here, right there
    assert np.isnan(table.loc["y", "accuracy_low"])  # one subject, again and again
    apart = subgroup_table(
        probs, labels, subjects, ("a", "b"), {"k": np.array(["x", "x", "y", "y"])}, draw_subjects(subjects)
    )
    assert apart["difference"].isna().all() and apart["warning"].str.contains("shares no class").all()


def test_small_groups_are_marked_and_groups_come_in_natural_order():
    probs, labels, subjects = scored(60, 3, 10, seed=2)
    values = np.array(["-7", "10", "9", "(none)"])[np.arange(60) % 4]
    table = subgroup_table(probs, labels, subjects, CLASSES, {"angle": values}, None)
    assert table["value"].tolist() == ["-7", "9", "10", "(none)"]
    assert table["warning"].str.startswith("few subjects").all()
    assert tuple(table.columns) == COLUMNS


def test_no_column_gives_an_empty_table_with_its_head():
    probs, labels, subjects = scored(60, 3, 10, seed=2)
    assert tuple(subgroup_table(probs, labels, subjects, CLASSES, {}, None).columns) == COLUMNS
