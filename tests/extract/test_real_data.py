"""The public volumes and pictures beside the checkout, where they are there."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from extract.archive import open_archive
from extract.images import ImageConfig, SubjectRule, build_image_archive
from extract.place_back import place_back, read_pictures
from extract.planes import NOISE, SliceConfig, slice_volume
from extract.split import make_split
from extract.volume import read_volume
from extract.volume_survey import survey_volume
from extract.volumes import build_volume_archive

DATA = Path(os.environ.get("SYNTHLABEL_DATA", Path(__file__).parents[2] / "../shared/data"))
VOLUMES, CHEST = DATA / "brain_volumes", DATA / "chest_xray" / "train"
needs_volumes = pytest.mark.skipif(
    not VOLUMES.is_dir(), reason=f"no real volumes at {VOLUMES} (see SYNTHLABEL_DATA)"
)
needs_chest = pytest.mark.skipif(
    not CHEST.is_dir(), reason=f"no chest X-rays at {CHEST} (see SYNTHLABEL_DATA)"
)
ONE_OF_EACH = ("IXI132-HH-1415_T1w_2mm.nrrd", "ds002748_sub-01_T1w.nrrd")


@needs_volumes
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_an_independent_reader_agrees_on_real_headers(name):
    volume, other = read_volume(VOLUMES / name), sitk.ReadImage(str(VOLUMES / name))
    rng = np.random.default_rng(0)
    for index in rng.integers(0, volume.voxels.shape, (200, 3)):
        x, y, z, _ = volume.affine @ [*index, 1]
        place = other.TransformPhysicalPointToIndex((-x, -y, z))
        assert other[place] == volume.voxels[tuple(index)]


@needs_volumes
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_real_heads_are_upright_and_face_left(name):
    volume = read_volume(VOLUMES / name)
    survey = survey_volume(volume)
    sagittal, coronal = slice_volume(
        volume, survey, SliceConfig(planes=("sagittal", "coronal"), size=64, slices_per_plane=1), 200.0
    )
    # The two halves of a coronal slice mirror each other; those of a sagittal slice do not.
    mirrored = [np.corrcoef(i.pixels.ravel(), i.pixels[:, ::-1].ravel())[0, 1] for i in (sagittal, coronal)]
    assert mirrored[1] > 0.75 and mirrored[1] > mirrored[0] + 0.1


@needs_volumes
def test_a_real_volume_shows_all_classes_at_every_angle():
    volume = read_volume(VOLUMES / ONE_OF_EACH[1])
    config = SliceConfig(size=32, angles_deg=(-21.0, 0.0, 21.0), slices_per_plane=14)
    found = slice_volume(volume, survey_volume(volume), config, 200.0)
    for angle in config.angles_deg:
        labels = {item.label for item in found if item.angle_deg == angle}
        assert labels == {"sagittal", "coronal", NOISE}


@needs_chest
def test_patients_of_the_chest_set_stay_whole(tmp_path):
    table = pd.read_csv(CHEST / "manifest.csv", dtype=str)
    several = table.groupby("patient_key").filter(lambda rows: len(rows) > 1)
    rows = pd.concat([several.groupby("type").head(40), table.groupby("type").head(40)]).drop_duplicates()
    for label, name in zip(rows["class"], rows["name"], strict=True):
        (tmp_path / "part" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "part" / label / name).symlink_to((CHEST / label / name).resolve())
    rule = SubjectRule(CHEST / "manifest.csv", label_column="type")
    summary = build_image_archive(tmp_path / "part", tmp_path / "a.zip", ImageConfig(32), rule, workers=1)
    assert summary.num_images == len(rows) and set(summary.counts) == {"bacteria", "normal", "virus"}
    with open_archive(tmp_path / "a.zip") as archive:
        split = make_split(archive, num_folds=3, fractions=(0.2, 0.5), val_share=0.15, seed=0)
        for fold in range(3):
            sides = [
                set(archive.subjects[split.rows(archive, fold, part)]) for part in ("train", "val", "test")
            ]
            assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]


@needs_volumes
def test_a_real_volume_sliced_and_put_back_is_itself(tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / ONE_OF_EACH[0]).symlink_to((VOLUMES / ONE_OF_EACH[0]).resolve())
    config = SliceConfig(
        planes=("coronal",), size=128, step_mm=1.0, windows=("values:0,255",), fov_mm=256.0, noise_below=0.0
    )
    build_volume_archive(tmp_path / "v", tmp_path / "a.zip", config)
    with open_archive(tmp_path / "a.zip") as archive:
        (path,) = place_back(archive, tmp_path / "v", tmp_path / "out", read_pictures(archive))
    made, source = sitk.ReadImage(str(path)), sitk.ReadImage(str(VOLUMES / ONE_OF_EACH[0]))
    assert made.GetSize() == source.GetSize() and made.GetDirection() == pytest.approx(source.GetDirection())
    assert made.GetOrigin() == pytest.approx(source.GetOrigin())
    values, truth = (sitk.GetArrayFromImage(image).astype(float) for image in (made, source))
    tissue = (truth > 60) & (values > 0)  # what lies below the field is not there
    assert tissue.sum() > 0.9 * (truth > 60).sum()
    assert np.abs(values - truth)[tissue].mean() < 0.03 * np.ptp(truth)
