"""The audit by an expert: what is handed out tells nothing, and what comes back is read in any usual form."""

import csv
import hashlib
import json
import shutil
import struct

import numpy as np
import pytest
from scipy.stats import spearmanr

from extract.archive import open_archive
from extract.errors import SettingsError
from extract.png import decode_image
from semisup.audit import import_audit, read_audit, strictest_bound
from semisup.audit_export import SAME_TIME, export_audit
from semisup.audit_key import read_audit_sample, read_keys
from semisup.audit_sample import LETTERS, draw_sample, make_codes, read_population
from semisup.audit_sheet import read_answers, record_answer
from semisup.audit_statistics import NONE_OF_THESE, Answer, AuditSample, Stratum, audit_result
from semisup.errors import StudyError
from semisup.folders import read_json
from semisup.ledger import read_ledger
from tests.semisup.study_folder import FakeStudy, make_study

SMALL = FakeStudy(num_subjects=24, folds=(0, 1), seeds=(0, 1), fractions=(0.2, 0.5), image_size=16)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study and an export of it."""
    folder = tmp_path_factory.mktemp("audit")
    study = make_study(folder / "study", SMALL)
    export_audit(study, folder / "export", num=120, enlarge=3)
    return study, folder / "export"


@pytest.fixture
def study_dir(made, tmp_path):
    """The same with room to write in."""
    return shutil.copytree(made[0], tmp_path / "study")


def key_of(study_dir):
    (key,) = read_keys(study_dir)
    return key


def fill(path, study_dir, answer=lambda row: row["name"], separator=",", encoding="utf-8", num=None):
    """Write a filled-in sheet; `answer` gets the key's row with the pseudo-label's name."""
    key = key_of(study_dir)
    rows = {row["code"]: {**row, "name": key["classes"][row["predicted"]]} for row in key["rows"]}
    lines = [separator.join(("code", "label", "unsure", "comment"))]
    for code in sorted(rows)[:num]:
        given = answer(rows[code])
        label, unsure = given if isinstance(given, tuple) else (given, "")
        lines.append(separator.join((code, label, unsure, "")))
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


# What is handed out ------------------------------------------------------------------------------


def test_the_folder_holds_pictures_a_sheet_and_instructions(made):
    _, export = made
    codes = [path.stem for path in sorted((export / "images").iterdir())]
    names = ["README.txt", "classes.txt", "enlarged", "images", "labels.csv"]
    assert sorted(path.name for path in export.iterdir()) == names
    with open(export / "labels.csv", encoding="utf-8-sig", newline="") as handle:
        header, *rows = csv.reader(handle)
    assert header == ["code", "label", "unsure", "comment"]
    assert rows == [[code, "", "", ""] for code in codes]
    assert (export / "classes.txt").read_text() == "1 = coronal\n2 = noise\n3 = sagittal\nnone\n"
    readme = (export / "README.txt").read_text()
    assert "WHAT TO DO" in readme and "QUÉ HACER" in readme and "2 = noise" in readme
    assert f"holds {len(codes)} pictures" in readme and f"contiene {len(codes)} imágenes" in readme


def test_each_picture_is_the_one_that_the_ledger_names(made):
    study, export = made
    key = key_of(study)
    ledgers = {run: read_ledger(study / "runs" / run / "ledger.parquet") for run in key["ledgers"]}
    pictures = {entry["code"]: entry for entry in key["pictures"]}
    archives = {}
    for path in [study / "planes.zip", *study.glob("pools/*/synthetic.zip")]:
        archive = open_archive(path)
        archives[archive.sha256] = archive
    for row in key["rows"]:
        ledger = ledgers[row["run"]].iloc[row["ledger_row"]]
        picture = pictures[row["code"]]
        assert ledger["decision"] == "selected"
        assert (ledger["image"], ledger["archive_sha256"]) == (picture["image"], picture["archive_sha256"])
        assert (ledger["round_index"], ledger["predicted"]) == (row["round_index"], row["predicted"])
        archive = archives[picture["archive_sha256"]]
        wanted = archive.read_image(archive.names.index(picture["image"]))
        shown = decode_image((export / "images" / f"{row['code']}.png").read_bytes(), "shown")
        assert np.array_equal(shown, wanted)
        large = decode_image((export / "enlarged" / f"{row['code']}.png").read_bytes(), "large")
        assert large.shape == (1, 48, 48)


def test_nothing_in_the_folder_tells_what_a_picture_was_taken_for(made):
    study, export = made
    key = key_of(study)
    by_code = {}
    for row in key["rows"]:
        by_code.setdefault(row["code"], row)
    codes = sorted(by_code)
    # Names and order: those of random letters, in the sheet and on the disk, whatever the pseudo-label.
    assert all(len(code) == 6 and set(code) <= set(LETTERS) for code in codes)
    runs = {run: read_json(study / "runs" / run / "run.json") for run in key["runs"]}
    for value in (
        [by_code[code]["predicted"] for code in codes],
        [by_code[code]["confidence"] for code in codes],
        [by_code[code]["round_index"] for code in codes],
        [runs[by_code[code]["run"]]["arm"] == "pseudo_real" for code in codes],
        [by_code[code]["stratum"] for code in codes],
    ):
        assert spearmanr(range(len(codes)), value).pvalue > 0.01
    # Times, rights and PNG chunks are the same for all.
    files = sorted(export.rglob("*"))
    assert {path.stat().st_mtime for path in [export, *files]} == {SAME_TIME}
    pictures = [path for path in files if path.suffix == ".png"]
    assert len({path.stat().st_mode for path in pictures}) == 1
    for path in pictures:
        assert chunks(path.read_bytes()) == [b"IHDR", b"IDAT", b"IEND"]
    # No word of it in any text, and no key in the folder.
    text = "".join(path.read_text(encoding="utf-8-sig") for path in files if path.suffix in (".txt", ".csv"))
    for word in ("pseudo", "gan", "supervised", "confidence", "round", "synthetic", *key["runs"]):
        assert word not in text.casefold().replace("original", ""), word
    assert not [path for path in files if path.suffix == ".json"]


def chunks(data):
    """The kinds of a PNG's chunks."""
    found, place = [], 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        found.append(data[place + 4 : place + 8])
        place += 12 + length
    return found


def test_the_same_seed_gives_the_same_folder_to_the_byte_and_another_seed_another(made, tmp_path, study_dir):
    def content(folder):
        return {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    _, export = made
    again = export_audit(study_dir, tmp_path / "again", num=120, enlarge=3)
    assert content(again.dest) == content(export)
    other = export_audit(study_dir, tmp_path / "other", num=120, seed=1)
    assert not set(content(other.dest)) & {name for name in content(export) if name.endswith(".png")}


def test_the_draw_is_stratified_with_known_probabilities(made):
    study, _ = made
    key = key_of(study)
    population = read_population(study, read_json(study / "study.json"), fractions=[0.2])
    assert sum(stratum["size"] for stratum in key["strata"]) == len(population.rows) == key["num_population"]
    assert sum(stratum["num_drawn"] for stratum in key["strata"]) == len(key["rows"]) == 120
    assert {stratum["arm"] for stratum in key["strata"]} == {"pseudo_real", "pseudo_gan_full"}
    assert {stratum["fraction"] for stratum in key["strata"]} == {0.2}  # of the primary comparison
    assert {(stratum["predicted"], stratum["band"]) for stratum in key["strata"]} == {
        (k, band) for k in range(3) for band in range(3)
    }
    for row in key["rows"]:
        stratum = key["strata"][row["stratum"]]
        assert row["probability"] == stratum["num_drawn"] / stratum["size"]
        assert row["predicted"] == stratum["predicted"]


def test_every_pseudo_label_is_drawn_as_often_as_its_probability_says(made):
    study, _ = made
    rows = read_population(study, read_json(study / "study.json"), fractions=[0.2], arms=["pseudo_real"]).rows
    draws = [draw_sample(rows, 60, seed) for seed in range(400)]
    count = np.bincount(np.concatenate([draw.rows for draw in draws]), minlength=len(rows)) / len(draws)
    probability = np.zeros(len(rows))
    for draw in draws[:20]:
        chance = np.array([s.num_drawn / s.size for s in draw.strata])
        probability[draw.rows] = chance[draw.stratum]
    known = probability > 0
    error = np.sqrt(probability[known] * (1 - probability[known]) / len(draws))
    assert (np.abs(count[known] - probability[known]) <= 5 * error + 1e-9).all()


def test_filters_choose_arm_fraction_and_round(study_dir, tmp_path):
    (study_dir / "audits").rename(tmp_path / "old")
    export_audit(study_dir, tmp_path / "x", num=40, arms=["pseudo_real"], fractions=[0.5], rounds=[2])
    key = key_of(study_dir)
    assert {(s["arm"], s["fraction"]) for s in key["strata"]} == {("pseudo_real", 0.5)}
    assert {row["round_index"] for row in key["rows"]} == {2}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"arms": ["supervised"]}, r"--arm supervised: expected an arm .*pseudo_real, pseudo_gan_full"),
        ({"fractions": [0.3]}, r"--fraction 0.3: expected a fraction of the study \(0.2, 0.5\)"),
        ({"rounds": [7]}, "expected pseudo-labels of finished runs to draw from, got none"),
        ({"num": 3}, "--num 3: expected at least 18, one for each stratum"),
        ({"num": 0}, "--num and --enlarge must be at least 1"),
    ],
)
def test_what_a_study_does_not_have_cannot_be_drawn(study_dir, tmp_path, settings, words):
    with pytest.raises(SettingsError, match=words):
        export_audit(study_dir, tmp_path / "x", **settings)
    assert not (tmp_path / "x").exists()


def test_a_sheet_that_was_filled_in_is_never_overwritten(study_dir, tmp_path):
    dest = tmp_path / "export"
    export_audit(study_dir, dest, num=40)
    with pytest.raises(StudyError, match="already exists and is left alone"):
        export_audit(study_dir, dest, num=40)
    export_audit(study_dir, dest, num=50, overwrite=True)  # nobody has written into it
    text = (dest / "labels.csv").read_text(encoding="utf-8-sig").splitlines()
    text[3] = text[3].replace(",,,", ",noise,,")
    (dest / "labels.csv").write_text("\n".join(text))
    with pytest.raises(StudyError, match=r"labels\.csv: has been filled in \(1 rows\) and is left alone"):
        export_audit(study_dir, dest, num=40, overwrite=True)
    assert "noise" in (dest / "labels.csv").read_text()


def test_the_key_is_kept_apart_from_the_folder(study_dir, tmp_path):
    with pytest.raises(SettingsError, match="expected a folder outside the study"):
        export_audit(study_dir, study_dir / "export")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(StudyError, match="got one with other things in it"):
        export_audit(study_dir, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "notes.txt").exists()


def test_pictures_whose_archive_is_gone_are_not_exported(study_dir, tmp_path):
    for path in study_dir.glob("pools/*/synthetic.zip"):
        path.unlink()
    with pytest.raises(StudyError, match=r"expected the archive [0-9a-f]{12}\.\.\. that the ledger names"):
        export_audit(study_dir, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_codes_are_no_words_numbers_or_dates():
    codes = make_codes(500, 0)
    assert len(set(codes)) == 500 and codes == sorted(codes)
    assert not set("".join(codes)) & set("AEIOUY0123456789")


# What comes back ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("separator", "encoding"), [(",", "utf-8"), (";", "cp1252"), ("\t", "utf-16"), (",", "utf-8-sig")]
)
def test_a_sheet_is_read_in_any_usual_form(made, study_dir, tmp_path, separator, encoding):
    sheet = fill(tmp_path / "s.csv", study_dir, separator=separator, encoding=encoding)
    summary = import_audit(study_dir, [sheet])
    reader = summary.result.readers[0]
    assert reader.num_answered == reader.num_pictures > 50
    assert reader.error.num_errors == len(
        [r for r in key_of(study_dir)["rows"] if r["predicted"] != first_label(study_dir)[r["code"]]]
    )


def first_label(study_dir):
    """The pseudo-label that `fill` writes for each code: that of its last row."""
    return {row["code"]: row["predicted"] for row in key_of(study_dir)["rows"]}


def test_answers_may_be_names_in_any_letters_numbers_none_or_unsure(study_dir, tmp_path):
    sample = read_audit_sample(study_dir)
    codes = sample.pictures[:6]
    given = ["NOISE,,", "3,,", "none,sí,blurred", ",x,", ",,only a comment", "ninguna,no,"]
    lines = ["Code,Label,Unsure,Comment", *(f"{c.lower()},{g}" for c, g in zip(codes, given, strict=True))]
    (tmp_path / "s.csv").write_text("\n".join(lines), encoding="utf-8")
    assert read_answers(tmp_path / "s.csv", sample) == {
        codes[0]: Answer(1),
        codes[1]: Answer(2),
        codes[2]: Answer(NONE_OF_THESE, True, "blurred"),
        codes[3]: Answer(None, True),
        codes[5]: Answer(NONE_OF_THESE),
    }


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (["ZZZZZZ,noise,,"], "line 2: unknown code 'ZZZZZZ'"),
        (["{0},banana,,"], "line 2: 'banana' is no class; correct"),
        (["{0},noise,,", "{0},noise,,"], "line 3: {0} a second time"),
        (["{0},noise,maybe,"], "line 2: 'maybe' under unsure is neither yes nor empty"),
        ([",noise,,"], "line 2: no code"),
        (["{0},,,", "{1},,,"], "expected at least one row with a label or a mark under unsure, got none"),
        (["{0},4,,"], "line 2: '4' is no class"),
    ],
)
def test_rows_that_cannot_be_understood_are_named(study_dir, tmp_path, rows, words):
    sample = read_audit_sample(study_dir)
    text = "\n".join(["code,label,unsure,comment", *(row.format(*sample.pictures) for row in rows)])
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(StudyError, match=words.format(*sample.pictures)):
        read_answers(tmp_path / "s.csv", sample)


def test_a_sheet_without_its_columns_or_of_another_study_is_refused(study_dir, tmp_path):
    (tmp_path / "s.csv").write_text("name,label\nx,noise\n")
    with pytest.raises(
        StudyError, match="expected the columns code, label, unsure, comment, got name, label"
    ):
        import_audit(study_dir, [tmp_path / "s.csv"])
    (tmp_path / "s.csv").write_text("code,label\nZZZZZZ,noise\n")
    with pytest.raises(StudyError, match="import it into the study that it was exported from"):
        import_audit(study_dir, [tmp_path / "s.csv"])
    assert read_audit(study_dir) is None


def test_a_key_or_a_ledger_that_was_changed_is_refused(study_dir, tmp_path):
    sheet = fill(tmp_path / "s.csv", study_dir)
    (path,) = (study_dir / "audits").glob("*.json")
    text = path.read_text()
    content = json.loads(text)
    content["rows"][0]["predicted"] = (content["rows"][0]["predicted"] + 1) % 3
    path.write_text(json.dumps(content))
    with pytest.raises(StudyError, match="expected the key of an audit as it was written"):
        import_audit(study_dir, [sheet])
    path.write_text(text)
    ledger = study_dir / "runs" / content["rows"][0]["run"] / "ledger.parquet"
    read_ledger(ledger).iloc[::-1].to_parquet(ledger, index=False)
    with pytest.raises(StudyError, match="expected the ledger as it was when the audit was exported"):
        import_audit(study_dir, [sheet])


def test_a_partial_sheet_is_read_again_when_it_is_finished(study_dir, tmp_path):
    part = import_audit(study_dir, [fill(tmp_path / "s.csv", study_dir, num=30)]).result.readers[0]
    assert part.num_answered == 30
    whole = import_audit(study_dir, [fill(tmp_path / "s.csv", study_dir)]).result.readers[0]
    assert whole.num_answered == whole.num_pictures
    assert whole.error.high < part.error.high
    assert read_audit(study_dir)["readers"][0]["num_answered"] == whole.num_answered


def test_the_result_of_another_export_is_replaced_only_when_asked(study_dir, tmp_path):
    import_audit(study_dir, [fill(tmp_path / "s.csv", study_dir)])
    export_audit(study_dir, tmp_path / "second", num=60, seed=5)
    codes = [p.stem for p in sorted((tmp_path / "second" / "images").iterdir())]
    (tmp_path / "t.csv").write_text("code,label\n" + "".join(f"{code},noise\n" for code in codes))
    with pytest.raises(StudyError, match="holds the audit of another export and is left alone"):
        import_audit(study_dir, [tmp_path / "t.csv"])
    summary = import_audit(study_dir, [tmp_path / "t.csv"], overwrite=True)
    assert summary.num_exports == read_audit(study_dir)["num_exports"] == 2


def test_two_readers_agree_by_kappa_and_the_stricter_bound_counts(study_dir, tmp_path):
    def careless(row):
        return "noise" if row["name"] == "coronal" else row["name"]

    first = fill(tmp_path / "a.csv", study_dir)
    second = fill(tmp_path / "b.csv", study_dir, careless)
    summary = import_audit(study_dir, [first, second])
    (pair,) = summary.result.agreements
    assert 0 < pair.kappa < pair.agreement < 1
    audit = read_audit(study_dir)
    one, two = (
        max(e["high"] for e in reader["by_arm"] if e["arm"] == "pseudo_real") for reader in audit["readers"]
    )
    assert strictest_bound(audit, "pseudo_real", 0.2)[0] == two > one
    assert strictest_bound(audit, "pseudo_real", 0.5) is None
    assert strictest_bound(audit, "supervised", 0.2) is None


def test_answers_recorded_one_by_one_give_the_result_of_the_sheet(made, tmp_path):
    """As a page does that shows picture after picture: the same functions, the same numbers."""
    sample = read_audit_sample(made[0])
    path = shutil.copy(made[1] / "labels.csv", tmp_path / "labels.csv")
    for code in sample.pictures[:4]:
        record_answer(path, sample, code, "Noise", unsure=code == sample.pictures[1])
    record_answer(path, sample, sample.pictures[0], "none", comment="two\nlines")
    record_answer(path, sample, sample.pictures[3], "")  # taken back
    answers = read_answers(path, sample)
    assert answers == {
        sample.pictures[0]: Answer(NONE_OF_THESE, False, "two lines"),
        sample.pictures[1]: Answer(1, True),
        sample.pictures[2]: Answer(1),
    }
    assert audit_result(sample, {"ana": answers}).readers[0].num_answered == 3
    with pytest.raises(SettingsError, match="label: expected one of coronal, noise, sagittal, none"):
        record_answer(path, sample, sample.pictures[0], "banana")
    with pytest.raises(SettingsError, match="code: expected one of the export's"):
        record_answer(path, sample, "ZZZZZZ", "noise")


def test_classes_that_are_numbers_are_named_by_themselves(tmp_path):
    strata = (Stratum("pseudo_real", 0.2, 0, 0, 9, 2),)
    sample = AuditSample(
        ("0", "1", "none"), strata, np.array(["BB", "CC"]), np.zeros(2, int), np.zeros(2, int)
    )
    (tmp_path / "s.csv").write_text("code,label\nBB,1\nCC,none\n")
    assert read_answers(tmp_path / "s.csv", sample) == {"BB": Answer(1), "CC": Answer(2)}
    (tmp_path / "s.csv").write_text("code,label\nBB,ninguna\n")
    assert read_answers(tmp_path / "s.csv", sample) == {"BB": Answer(NONE_OF_THESE)}
