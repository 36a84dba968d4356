import os
import re
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from extract.archive import open_archive
from extract.errors import ExtractError, SettingsError
from extract.images import ImageConfig, build_image_archive
from extract.layouts import PicturePlan, SubjectRule, plan_pictures
from extract.subjects import compile_pattern, match_subject

DATA = Path(os.environ.get("SYNTHLABEL_DATA", Path(__file__).parents[2] / "../shared/data"))
CHEST = DATA / "chest_xray" / "train"
# Documented in docs/data.md: the person's number alone joins strangers, bacteria and virus count separately.
CHEST_PATTERN = r"(?P<subject>person\d+_(?:bacteria|virus)|(?:NORMAL2-)?IM-\d+)"
KAGGLE = (
    "train/NORMAL/IM-0115-0001.jpeg", "train/PNEUMONIA/person1_bacteria_1.jpeg",
    "train/PNEUMONIA/person1_virus_6.jpeg", "test/PNEUMONIA/person1_virus_7.jpeg",
    "val/NORMAL/NORMAL2-IM-1427-0001.jpeg",
)  # fmt: skip


def plan(files, **rule) -> PicturePlan:
    rule.setdefault("pattern", ".*")
    return plan_pictures(Path("nowhere"), list(files), SubjectRule(**rule))


def test_parts_above_the_classes_are_recognised_and_kept():
    made = plan(KAGGLE, pattern=CHEST_PATTERN)
    assert [task.label for task in made.tasks] == ["NORMAL", "PNEUMONIA", "PNEUMONIA", "PNEUMONIA", "NORMAL"]
    assert [task.part for task in made.tasks] == ["train", "train", "train", "test", "val"]
    assert [task.subject for task in made.tasks] == [
        "IM-0115", "person1_bacteria", "person1_virus", "person1_virus", "NORMAL2-IM-1427",
    ]  # fmt: skip
    assert "test, train, val were taken for parts" in made.notes[0]


def test_subjects_in_several_parts_are_told():
    made = plan(KAGGLE, pattern=CHEST_PATTERN)
    assert "1 of 4 subjects stand in several parts" in made.notes[1]
    assert "person1_virus in test and train" in made.notes[1]
    assert len(plan(KAGGLE).notes) == 1


def test_the_layout_can_be_said():
    made = plan(KAGGLE, layout="classes")
    assert made.classes == ["test", "train", "val"] and {task.part for task in made.tasks} == {""}
    with pytest.raises(ExtractError, match=r"expected folders .*train.* \(--layout parts\), got 'NORMAL'"):
        plan(["NORMAL/a.png"], layout="parts")


@pytest.mark.parametrize("name", ["Train", "TRAINING", "valid", "Validation", "testing"])
def test_parts_have_several_names(name):
    assert {task.part for task in plan([f"{name}/a/x.png"]).tasks} <= {"train", "val", "test"}


def test_parts_beside_other_folders_are_refused_as_a_doubled_download_is():
    doubled = [*KAGGLE, *(f"chest_xray/{file}" for file in KAGGLE)]
    with pytest.raises(
        ExtractError, match="got both: test, train, val beside 'chest_xray'; name one of them"
    ):
        plan(doubled)
    with pytest.raises(ExtractError, match="train beside the source folder itself"):
        plan(["train/a/x.png", "x.png"])


def test_parts_without_classes_are_refused_unless_classes_come_from_elsewhere():
    with pytest.raises(ExtractError, match=r"train/x\.png: expected a picture at PART/CLASS/"):
        plan(["train/x.png"])
    made = plan(["train/x_ill.png"], label_pattern=r"_(\w+)\.png")
    assert made.tasks[0].label == "ill" and made.tasks[0].part == "train"


def test_a_pattern_gives_the_class():
    files = ["p1_ill.png", "deep/p2_well.png"]
    assert [task.label for task in plan(files, label_pattern="(?P<label>ill|well)").tasks] == ["ill", "well"]
    with pytest.raises(ExtractError, match=r"p1_ill\.png: expected a path that --label-pattern 'q' matches"):
        plan(files, label_pattern="q")
    with pytest.raises(SettingsError, match="--label-pattern must be a regular expression"):
        plan(files, label_pattern="(")


def test_a_table_of_ids_and_classes_as_one_seed_project_writes_it(tmp_path):
    (tmp_path / "etiquetas.csv").write_bytes("id;clase\r\na1;Neumonía\r\na2;normal\r\n".encode("cp1252"))
    made = plan(
        ["a1.png", "x/a2.jpg"], labels=tmp_path / "etiquetas.csv", label_column="clase", file_column="id"
    )
    assert [task.label for task in made.tasks] == ["Neumonía", "normal"]
    assert "Windows-1252" in made.notes[0]
    assert plan(["a1.png", "x/a2.jpg"], labels=tmp_path / "etiquetas.csv").tasks == made.tasks


def test_numbers_as_classes_can_be_named(tmp_path):
    (tmp_path / "t.csv").write_text("id,label\n1,0\n2,1\n")
    made = plan(["1.png", "2.png"], labels=tmp_path / "t.csv", class_names={"0": "normal", "1": "ill"})
    assert made.classes == ["ill", "normal"]
    with pytest.raises(SettingsError, match="--class-name 7=x: no picture has the class '7', there are 0, 1"):
        plan(["1.png", "2.png"], labels=tmp_path / "t.csv", class_names={"7": "x"})


def test_subjects_and_classes_may_come_from_two_tables_and_parts_from_a_column(tmp_path):
    (tmp_path / "who.csv").write_text("file,patient\na.png,P1\nb.png,P1\n")
    (tmp_path / "what.csv").write_text("file,label,split\na.png,x,Training\nb.png,y,hospital B\n")
    made = plan(
        ["a.png", "b.png"], pattern=None, table=tmp_path / "who.csv", labels=tmp_path / "what.csv",
        part_column="split",
    )  # fmt: skip
    assert [(task.subject, task.label, task.part) for task in made.tasks] == [
        ("P1", "x", "train"), ("P1", "y", "hospital B"),
    ]  # fmt: skip


def test_rows_without_a_picture_are_counted(tmp_path):
    (tmp_path / "t.csv").write_text("id,label\n1,a\n2,b\n3,a\n")
    assert plan(["1.png"], labels=tmp_path / "t.csv").notes == ("2 of 3 rows of t.csv have no picture",)


def test_classes_that_differ_in_writing_alone_are_told_and_can_be_joined(tmp_path):
    files = ["Not ill/1.png", "not_ill/2.png", "ill/3.png"]
    made = plan(files)
    assert "the classes 'Not ill' and 'not_ill' look like one" in made.notes[0]
    assert "--class-name 'Not ill=not_ill' joins them" in made.notes[0]
    joined = plan(files, class_names={"Not ill": "not_ill"})
    assert joined.classes == ["ill", "not_ill"] and not joined.notes


def test_contradicting_rules_are_refused():
    with pytest.raises(SettingsError, match="give --label-pattern, or classes by a table, not both"):
        SubjectRule(pattern=".*", label_pattern="x", labels=Path("t.csv"))
    with pytest.raises(SettingsError, match="give either --subjects TABLE or --subject-pattern"):
        SubjectRule(pattern=".*", tag="PatientID")
    with pytest.raises(SettingsError, match="--layout must be one of"):
        SubjectRule(pattern=".*", layout="rows")


def test_the_parts_stand_in_the_manifest(tmp_path):
    for file in ("train/a/p1.png", "test/a/p2.png", "train/b/p1.png"):
        (tmp_path / "s" / file).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 8), len(file)).save(tmp_path / "s" / file)
    summary = build_image_archive(
        tmp_path / "s", tmp_path / "a.zip", ImageConfig(8), SubjectRule(pattern=r"(p\d)\.")
    )
    assert summary.counts == {"a": 2, "b": 1} and "taken for parts" in summary.notes[0]
    with open_archive(tmp_path / "a.zip") as archive:
        assert archive.manifest["part"].tolist() == ["test", "train", "train"]
        assert archive.manifest["source_width"].tolist() == ["9"] * 3


@pytest.mark.skipif(not CHEST.is_dir(), reason=f"no chest X-rays at {CHEST} (see SYNTHLABEL_DATA)")
def test_the_documented_pattern_agrees_with_every_patient_of_the_chest_set():
    table = pd.read_csv(CHEST / "manifest.csv", dtype=str)
    pattern = compile_pattern(CHEST_PATTERN)
    found = [match_subject(pattern, f"{row['class']}/{row['name']}") for _, row in table.iterrows()]
    assert len(found) == 5216 and found == table["patient_key"].tolist()
    assert CHEST_PATTERN in (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    numbers = [re.search(r"person\d+", name) for name in table["name"]]
    alone = {match.group() for match in numbers if match}
    assert len(alone) < len({subject for subject in found if subject.startswith("person")})
