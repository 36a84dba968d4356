"""`extract volumes` with all it takes, and `extract place-back`."""

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from extract.archive import open_archive
from extract.volume import open_volume
from scripts.cli import cli
from tests.extract.making import head_volume, write_nrrd


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["extract", *[str(argument) for argument in arguments]])


def said(result: Result) -> str:
    return " ".join(result.output.split())  # however it was wrapped


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "v").mkdir()
    for number, order in enumerate(("LAS", "PSR")):
        write_nrrd(tmp_path / "v" / f"v{number}.nrrd", head_volume(seed=number), order, (4.0, 4.0, 4.0))
    return tmp_path / "v"


def test_every_flag_of_volumes_reaches_the_archive(folder, tmp_path):
    result = run(
        "volumes", "--source", folder, "--dest", tmp_path / "a.zip", "--size", 32, "--planes", "axial",
        "--angles", "0", "--tilts", "-10:10:10", "--step-mm", 8, "--slab-mm", 6, "--slab", "max",
        "--rgb", "neighbors", "--neighbor-mm", 4, "--window", "values:0,250", "--fov-mm", 190, "--workers", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "images of 2 subjects from 2 volumes (axial" in said(result)
    with open_archive(tmp_path / "a.zip") as archive:
        made = archive.preparation
        assert archive.image_shape == (3, 32, 32) and set(archive.manifest["tilt_deg"]) == {"-10", "0", "10"}
    expected = {
        "planes": ["axial"], "tilts_deg": [-10.0, 0.0, 10.0], "step_mm": 8.0, "slab_mm": 6.0, "slab": "max",
        "rgb": "neighbors", "neighbor_mm": 4.0, "windows": ["values:0,250"], "fov_mm": 190.0,
    }  # fmt: skip
    assert {key: made[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--tilts", "x"), "--tilts must be numbers with commas between them"),
        (("--tilts", "60"), "--tilts must be between -45 and 45"),
        (("--window", "brain"), "--window must be percentile:LOW,HIGH"),
        (("--window", "ct:bone", "--window", "ct:lung"), "--window must be given once, got 2"),
        (("--rgb", "windows"), "--window must be given three times"),
        (("--subject-tag", "PatientName"), "--subject-tag must be one of PatientID"),
        (("--subject-tag", "PatientID", "--subjects", "t.csv"), "give --subjects or --subject-tag, not both"),
        (("--step-mm", "3", "--slices-per-plane", "4"), "give --step-mm or --slices-per-plane, not both"),
    ],
)
def test_wrong_flags_end_with_2_in_their_own_words(folder, tmp_path, flags, message):
    result = run("volumes", "--source", folder, "--dest", tmp_path / "a.zip", *flags)
    assert result.exit_code == 2 and message in said(result)
    assert not (tmp_path / "a.zip").exists()


def test_pictures_and_numbers_go_back_into_volumes(folder, tmp_path):
    archive = tmp_path / "a.zip"
    made = run(
        "volumes", "--source", folder, "--dest", archive, "--size", 64, "--planes", "coronal", "--step-mm", 4,
        "--window", "values:0,255", "--workers", 1,
    )  # fmt: skip
    assert made.exit_code == 0, made.output
    arguments = ["place-back", "--data", archive, "--volumes", folder]
    result = run(*arguments, "--dest", tmp_path / "out")
    assert result.exit_code == 0 and "out: 2 volumes from slices of a.zip" in said(result)
    for name in ("v0.nrrd", "v1.nrrd"):
        back, source = open_volume(tmp_path / "out" / name), open_volume(folder / name)
        assert back.shape == source.shape and back.affine == pytest.approx(source.affine)
        values, truth = back.load(), source.load().astype(float)
        assert np.corrcoef(values[truth > 60], truth[truth > 60])[0, 1] > 0.8  # the head is noisy
    with open_archive(archive) as opened:
        files = opened.manifest["file"].tolist()
    (tmp_path / "t.csv").write_text("file,p\n" + "".join(f"{file},0.5\n" for file in files))
    table = run(*arguments, "--dest", tmp_path / "p", "--table", tmp_path / "t.csv", "--column", "p")
    assert table.exit_code == 0
    assert set(np.unique(open_volume(tmp_path / "p" / "v0.nrrd").load())) == {0.0, 0.5}
    assert run(*arguments, "--dest", tmp_path / "out").exit_code == 1  # nothing is overwritten
    for flags, message in (
        (("--table", tmp_path / "t.csv"), "give --table and --column together"),
        (("--table", tmp_path / "t.csv", "--column", "p", "--masks", folder), "--masks or --table, not both"),
        (("--orientation", "XYZ"), "--orientation must be three letters"),
        (("--planes", "axial"), "--planes must name planes of the archive"),
    ):
        wrong = run(*arguments, "--dest", tmp_path / "x", *flags)
        assert wrong.exit_code == 2 and message in said(wrong)


def test_an_archive_that_does_not_say_where_its_slices_are_is_refused(folder, tmp_path):
    from tests.extract.making import many_subjects, write_archive

    write_archive(tmp_path / "old.zip", many_subjects(2)).close()
    old, out = tmp_path / "old.zip", tmp_path / "out"
    result = run("place-back", "--data", old, "--volumes", folder, "--dest", out)
    assert result.exit_code == 1 and "make the archive anew with `extract volumes`" in said(result)
