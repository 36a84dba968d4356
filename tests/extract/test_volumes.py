from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from extract.archive import open_archive
from extract.dataset_tool import build_dataset
from extract.errors import ExtractError, SettingsError
from extract.planes import SliceConfig
from extract.slice_place import SlicePlace
from extract.transforms import Transform
from extract.volumes import build_volume_archive
from tests.extract.making import head_volume, write_nrrd

CONFIG = SliceConfig(size=16, angles_deg=(-10.0, 0.0), slices_per_plane=20)


@pytest.fixture
def source(tmp_path) -> Path:
    folder = tmp_path / "volumes"
    folder.mkdir()
    for number, order in enumerate(("RAS", "LAS", "PSR")):
        write_nrrd(folder / f"v{number}.nrrd", head_volume(seed=number), order, (4.0, 4.0, 4.0))
    return folder


def test_a_folder_becomes_an_archive(source, tmp_path):
    (source / "notes.txt").write_text("not a volume")
    reports: list[tuple[int, int]] = []
    summary = build_volume_archive(
        source,
        tmp_path / "a.zip",
        CONFIG,
        progress=lambda done, total, message: reports.append((done, total)),
    )
    assert (summary.num_files, summary.num_subjects, summary.num_ignored, summary.unreadable) == (3, 3, 1, ())
    assert reports == [(n, 6) for n in range(1, 7)]
    with open_archive(tmp_path / "a.zip") as archive:
        assert len(archive) == summary.num_images == sum(summary.counts.values())
        assert archive.classes == ("coronal", "noise", "sagittal")
        assert set(archive.subjects) == {"v0", "v1", "v2"}
        table = archive.manifest
        assert set(table["source"]) == {"v0.nrrd", "v1.nrrd", "v2.nrrd"}
        assert set(table["plane"]) == {"sagittal", "coronal"} and set(table["angle_deg"]) == {"-10", "0"}
        planes = table.loc[table["label"] != "noise"]
        assert (planes["label"] == planes["plane"]).all() and (table["label"] == "noise").any()
        assert archive.preparation["angles_deg"] == [-10.0, 0.0] and archive.preparation["fov_mm"] > 120


def test_the_same_bytes_whatever_the_number_of_workers(source, tmp_path):
    for workers in (1, 2):
        build_volume_archive(source, tmp_path / f"{workers}.zip", CONFIG, workers=workers)
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def test_array_order_does_not_matter(tmp_path):
    images = []
    for order in ("RAS", "LPS", "PSR", "SRP"):
        folder = tmp_path / order
        folder.mkdir()
        write_nrrd(folder / "v.nrrd", head_volume(), order, (4.0, 4.0, 4.0))
        build_volume_archive(folder, folder / "a.zip", CONFIG)
        with open_archive(folder / "a.zip") as archive:
            images.append(np.stack([archive.read_image(k) for k in range(len(archive))]).astype(int))
    assert all(np.abs(other - images[0]).max() <= 1 for other in images[1:])


def test_a_table_names_the_subjects(source, tmp_path):
    (tmp_path / "t.csv").write_text(
        "file,subject_id\nv0.nrrd,ann\nv1.nrrd,ann\nv2.nrrd,bob\nother.nrrd,eve\n"
    )
    summary = build_volume_archive(source, tmp_path / "a.zip", CONFIG, subjects=tmp_path / "t.csv")
    assert summary.num_subjects == 2
    with open_archive(tmp_path / "a.zip") as archive:
        assert dict(zip(archive.manifest["source"], archive.subjects, strict=True)) == {
            "v0.nrrd": "ann", "v1.nrrd": "ann", "v2.nrrd": "bob",
        }  # fmt: skip


def test_a_volume_that_the_table_does_not_list_is_refused(source, tmp_path):
    (tmp_path / "t.csv").write_text("file,subject\nv0.nrrd,ann\nv1.nrrd,ann\n")
    with pytest.raises(ExtractError, match=r"t\.csv: expected a row for v2\.nrrd, got none"):
        build_volume_archive(source, tmp_path / "a.zip", CONFIG, subjects=tmp_path / "t.csv")


def test_bad_volumes_stop_the_job_before_anything_is_written(source, tmp_path):
    (source / "v0.nrrd").write_bytes((source / "v0.nrrd").read_bytes()[:-500])
    write_nrrd(source / "w.nrrd", np.full((4, 4, 4), np.nan, np.float32))
    with pytest.raises(ExtractError, match="2 of 4 volumes cannot be used, so nothing was written") as caught:
        build_volume_archive(source, tmp_path / "a.zip", CONFIG)
    text = str(caught.value)
    assert "v0.nrrd: expected a whole NRRD file" in text and "w.nrrd: expected finite voxels" in text
    assert "--skip-unreadable" in text
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_volumes_can_be_left_out(source, tmp_path, workers):
    (source / "v1.nrrd").write_bytes(b"NRRD0004\nrubbish")
    summary = build_volume_archive(source, tmp_path / "a.zip", CONFIG, skip_unreadable=True, workers=workers)
    assert summary.num_files == 2 and [item.file for item in summary.unreadable] == ["v1.nrrd"]
    with open_archive(tmp_path / "a.zip") as archive:
        assert set(archive.subjects) == {"v0", "v2"} and archive.preparation["left_out"] == ["v1.nrrd"]


def test_nothing_but_bad_volumes_is_refused_even_then(tmp_path):
    folder = tmp_path / "bad"
    folder.mkdir()
    (folder / "v.nrrd").write_bytes(b"rubbish")
    with pytest.raises(ExtractError, match="1 of 1 volumes cannot be used"):
        build_volume_archive(folder, tmp_path / "a.zip", CONFIG, skip_unreadable=True)


def test_an_empty_or_missing_folder_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ExtractError,
        match=r"expected volumes \(\.nrrd, \.nhdr, \.nii, \.nii\.gz, DICOM series\), got none among 0 files",
    ):
        build_volume_archive(tmp_path / "empty", tmp_path / "a.zip", CONFIG)
    with pytest.raises(ExtractError, match="expected a folder of volumes, got nothing there"):
        build_volume_archive(tmp_path / "none", tmp_path / "a.zip", CONFIG)


def test_workers_below_one_are_refused(source, tmp_path):
    with pytest.raises(SettingsError, match="--workers must be at least 1, got 0"):
        build_volume_archive(source, tmp_path / "a.zip", CONFIG, workers=0)


def test_the_subjects_table_in_the_folder_is_not_counted_as_another_file(source, tmp_path):
    table = source / "subjects.csv"
    table.write_text("file,subject_id\n" + "".join(f"v{n}.nrrd,p{n}\n" for n in range(3)))
    (source / "notes.txt").write_text("not a volume")
    summary = build_volume_archive(source, tmp_path / "a.zip", CONFIG, subjects=table)
    assert summary.num_ignored == 1


def test_a_given_field_needs_one_round_and_gives_the_same_archive(source, tmp_path):
    build_volume_archive(source, tmp_path / "two.zip", CONFIG)
    with open_archive(tmp_path / "two.zip") as archive:
        fov_mm = archive.preparation["fov_mm"]
        two = [archive.read_png(k) for k in range(len(archive))]
    reports: list[tuple[int, int]] = []
    build_volume_archive(
        source, tmp_path / "one.zip", replace(CONFIG, fov_mm=fov_mm),
        progress=lambda done, total, message: reports.append((done, total)),
    )  # fmt: skip
    assert reports == [(n, 3) for n in range(1, 4)]
    with open_archive(tmp_path / "one.zip") as archive:
        assert [archive.read_png(k) for k in range(len(archive))] == two


@pytest.mark.parametrize("workers", [1, 2])
def test_bad_volumes_of_a_single_round_are_all_named_or_left_out(source, tmp_path, workers):
    (source / "v1.nrrd").write_bytes(b"NRRD0004\nrubbish")
    (source / "z.nrrd").write_bytes(b"")
    config = replace(CONFIG, fov_mm=200.0)
    with pytest.raises(ExtractError, match="2 of 4 volumes cannot be used, so nothing was written") as caught:
        build_volume_archive(source, tmp_path / "a.zip", config, workers=workers)
    assert "v1.nrrd" in str(caught.value) and "z.nrrd" in str(caught.value)
    assert not list(tmp_path.glob("*.zip*")) and not list(tmp_path.glob(".*"))
    summary = build_volume_archive(source, tmp_path / "a.zip", config, skip_unreadable=True, workers=workers)
    assert summary.num_files == 2 and [item.file for item in summary.unreadable] == ["v1.nrrd", "z.nrrd"]


def test_nrrd_and_nifti_lie_side_by_side(tmp_path):
    import nibabel

    folder = tmp_path / "v"
    (folder / "deep").mkdir(parents=True)
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    write_nrrd(folder / "a.nrrd", head_volume(), "PSR", (4.0, 4.0, 4.0))
    nibabel.save(nibabel.Nifti1Image(head_volume(), affine), folder / "deep" / "b.nii.gz")
    summary = build_volume_archive(folder, tmp_path / "a.zip", CONFIG)
    with open_archive(tmp_path / "a.zip") as archive:
        assert set(archive.subjects) == {"a", "deep/b"} and summary.num_files == 2
        first, second = (
            [archive.read_image(k) for k in np.flatnonzero(archive.subjects == name)]
            for name in ("a", "deep/b")
        )
        assert np.abs(np.stack(first).astype(int) - np.stack(second)).max() <= 1


def test_the_manifest_says_where_each_slice_is_and_the_preparation_how_it_was_made(source, tmp_path):
    config = replace(
        CONFIG, tilts_deg=(0.0, 10.0), slab_mm=8.0, slab="max", rgb="windows", fov_mm=180.0,
        windows=("values:0,100", "values:50,255", "percentile:1,99"),
    )  # fmt: skip
    build_volume_archive(source, tmp_path / "a.zip", config)
    with open_archive(tmp_path / "a.zip") as archive:
        assert archive.image_shape == (3, 16, 16)
        assert set(archive.manifest["tilt_deg"]) == {"0", "10"}
        prepared = archive.preparation
        assert prepared["slab_mm"] == 8.0 and prepared["slab"] == "max" and prepared["rgb"] == "windows"
        assert prepared["windows"] == ["values:0,100", "values:50,255", "percentile:1,99"]
        rows = archive.manifest[archive.manifest["source"] == "v0.nrrd"]
        rows = rows[(rows["plane"] == "sagittal") & (rows["angle_deg"] == "0") & (rows["tilt_deg"] == "0")]
        places = [SlicePlace.from_text(text, "here") for text in rows["affine"]]
        steps = np.diff([place.matrix[0, 3] for place in places])
        assert steps == pytest.approx(np.diff(rows["position_mm"].astype(float)), abs=1e-3)
        assert places[0].matrix[:, 0] == pytest.approx(
            [0, -180 / 16, 0]
        )  # a column to the right is further back


def test_a_resized_archive_says_where_its_larger_pixels_are(source, tmp_path):
    build_volume_archive(source, tmp_path / "a.zip", CONFIG)
    build_dataset(tmp_path / "a.zip", tmp_path / "b.zip", Transform(width=8, height=8))
    with open_archive(tmp_path / "b.zip") as archive:
        place = SlicePlace.from_text(archive.manifest["affine"][3], "here")
    with open_archive(tmp_path / "a.zip") as archive:
        before = SlicePlace.from_text(archive.manifest["affine"][3], "here")
    assert place.matrix @ [2, 5, 0, 1] == pytest.approx(before.matrix @ [4.5, 10.5, 0, 1], abs=1e-3)
