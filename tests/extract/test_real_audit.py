"""Near duplicates and confounds in public pictures, where they are there."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.confounds import find_confounds
from extract.duplicates import DEFAULT_MIN_LIKENESS, find_alike
from extract.images import ImageConfig, SubjectRule, build_image_archive, read_picture
from extract.mixed_subjects import find_mixed
from extract.survey import survey_pictures
from extract.verify import verify_archive
from tests.extract.altering import ALTERATIONS, alter

DATA = Path(os.environ.get("SYNTHLABEL_DATA", Path(__file__).parents[2] / "../shared/data"))
BRAINS, CHEST = DATA / "brain_mri", DATA / "chest_xray" / "train"
needs_brains = pytest.mark.skipif(
    not BRAINS.is_dir(), reason=f"no brain slices at {BRAINS} (SYNTHLABEL_DATA)"
)
needs_chest = pytest.mark.skipif(not CHEST.is_dir(), reason=f"no chest X-rays at {CHEST} (SYNTHLABEL_DATA)")

# The set was thinned by its curator, yet these pairs are one slice each, told by eye: brightened, windowed,
# framed, cut or saved again, some of them mirrored or turned.
LEFT_OVER = {
    ("notumor/Te-no_0041", "notumor/Tr-no_0048"), ("meningioma/Te-me_0038", "meningioma/Tr-me_0363"),
    ("notumor/Te-no_0028", "notumor/Tr-no_0047"), ("notumor/Tr-no_0083", "notumor/Tr-no_0296"),
    ("notumor/Te-no_0034", "notumor/Tr-no_1166"), ("notumor/Te-no_0271", "notumor/Tr-no_1397"),
    ("meningioma/Te-me_0035", "meningioma/Te-me_0078"), ("meningioma/Te-me_0033", "meningioma/Tr-me_0365"),
    ("notumor/Tr-no_0094", "notumor/Tr-no_0393"), ("notumor/Tr-no_0141", "notumor/Tr-no_0623"),
    ("notumor/Tr-no_0271", "notumor/Tr-no_0275"), ("notumor/Tr-no_0462", "notumor/Tr-no_0829"),
    ("notumor/Tr-no_0034", "notumor/Tr-no_1476"), ("meningioma/Te-me_0040", "meningioma/Te-me_0114"),
    ("meningioma/Te-me_0012", "meningioma/Tr-me_0367"), ("meningioma/Tr-me_0117", "meningioma/Tr-me_0852"),
    ("meningioma/Tr-me_0525", "meningioma/Tr-me_0893"),
}  # fmt: skip


def _pairs(archive) -> set[tuple[str, str]]:
    """Sources of the near duplicates, without their suffix."""
    sources = archive.manifest["source"].tolist()
    groups = find_alike(archive, survey_pictures(archive), DEFAULT_MIN_LIKENESS)
    return {
        (sources[p.row].rpartition(".")[0], sources[p.other].rpartition(".")[0])
        for g in groups
        for p in g.pairs
    }


def _plant(folder: Path, files: list[Path], dest: Path) -> set[tuple[str, str]]:
    """An archive of these pictures and an altered copy of every few; returns what was planted."""
    from extract.images import fit_picture

    planted = set()
    with ArchiveWriter(dest) as writer:
        for file in files:
            pixels, name = read_picture(file, rgb=False), file.relative_to(folder).as_posix()
            label = name.partition("/")[0]
            writer.add(fit_picture(pixels, 128, "pad"), ImageRecord(label=label, subject=name, source=name))
        for number, kind in enumerate(ALTERATIONS):
            for file in files[3 + number :: len(files) // 3]:
                name = file.relative_to(folder).as_posix()
                altered = fit_picture(alter(read_picture(file, rgb=False), kind), 128, "pad")
                record = ImageRecord(label="glioma", subject=f"{kind} {name}", source=f"{kind}/{name}")
                writer.add(altered, record)
                planted.add((name.rpartition(".")[0], f"{kind}/{name}".rpartition(".")[0]))
    return planted


@needs_brains
def test_planted_copies_are_found_among_real_slices_and_nothing_else(tmp_path):
    files = sorted(BRAINS.rglob("*.jpg"))[::16]
    planted = _plant(BRAINS, files, tmp_path / "a.zip")
    with open_archive(tmp_path / "a.zip") as archive:
        found = _pairs(archive)
    assert len(planted) >= 3 * len(ALTERATIONS) and found - LEFT_OVER == planted


@needs_brains
@pytest.mark.slow
def test_planted_copies_are_found_among_all_real_slices_and_nothing_else(tmp_path):
    files = sorted(BRAINS.rglob("*.jpg"))
    planted = _plant(BRAINS, files, tmp_path / "a.zip")
    with open_archive(tmp_path / "a.zip") as archive:
        found = _pairs(archive)
    assert len(files) == 3407 and found - planted == LEFT_OVER and planted <= found


@needs_chest
def test_the_chest_sets_classes_are_told_by_names_and_by_how_they_were_squashed(tmp_path):
    table = pd.read_csv(CHEST / "manifest.csv", dtype=str).groupby("type").nth(slice(0, 1000, 4))
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        for label, name, kind, key in table[["class", "name", "type", "patient_key"]].itertuples(index=False):
            pixels = read_picture(CHEST / label / name, rgb=False)
            pixels = pixels[: len(pixels) // 2 * 2].reshape(112, 2, 112, 2).mean(axis=(1, 3))[:64, 24:88]
            record = ImageRecord(label=kind, subject=key, source=f"{label}/{name}")
            writer.add(pixels.astype(np.uint8), record)
    with open_archive(tmp_path / "a.zip") as archive:
        found = {item.name: item for item in find_confounds(archive, survey_pictures(archive))}
        assert found["beginning of the file's name"].strength == "gives away"
        assert found["beginning of the file's name"].tells == "normal"
        squashed = found["steps across to steps down (squashing)"]
        assert squashed.tells == "normal" and squashed.low > 0.6
        assert find_mixed(archive).num_mixed == 0
        archive.subjects = np.array([key.partition("_")[0] for key in archive.subjects])  # the number alone
        assert find_mixed(archive).is_suspicious


@needs_chest
@pytest.mark.slow
def test_the_whole_chest_set_has_its_identical_pictures_and_no_false_near_duplicates(tmp_path):
    rule = SubjectRule(CHEST / "manifest.csv", label_column="type")
    build_image_archive(CHEST, tmp_path / "a.zip", ImageConfig(64), rule)
    with open_archive(tmp_path / "a.zip") as archive:
        found = verify_archive(archive)
    assert found.num_images == 5216 and found.num_subjects == 3654 and found.alike == ()
    # 24 groups of 50 files, by the files' own hashes as well; all of them within a patient.
    assert len(found.identical) == 24 and sum(len(group.rows) for group in found.identical) == 50
    assert not any(group.crosses_subjects for group in found.identical)
