import numpy as np
import pytest
from PIL import Image

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.errors import SettingsError
from extract.show import contact_sheet, pick_rows, write_contact_sheet
from tests.extract.making import many_subjects, random_pixels, write_archive


def test_samples_cover_the_subjects_before_any_comes_twice(tmp_path):
    images = {"much": "a" * 30} | many_subjects(6, "aa")
    with write_archive(tmp_path / "a.zip", images) as archive:
        rows = pick_rows(archive, np.arange(len(archive)), 7, np.random.default_rng(0))
        assert sorted(archive.subjects[rows]) == sorted(images)


def test_the_sheet_shows_every_class_at_a_readable_size(tmp_path):
    with write_archive(tmp_path / "a.zip", many_subjects(5)) as archive:
        write_contact_sheet(archive, tmp_path / "sheet.png", columns=4, rows_per_class=1)
        sheet = Image.open(tmp_path / "sheet.png")
        assert sheet.width > 4 * 96 and sheet.height > 3 * 96
        pixels = np.asarray(sheet.convert("L"))
        tile = np.repeat(np.repeat(archive.read_image(_first_shown(archive, 0))[0], 12, 0), 12, 1)
        found = [
            (y, x) for y in range(0, pixels.shape[0] - 96) for x in (3, 102, 201, 300)
            if np.array_equal(pixels[y : y + 96, x : x + 96], tile)
        ]  # fmt: skip
        assert len(found) == 1


def _first_shown(archive, label: int) -> int:
    return int(np.flatnonzero(archive.labels == label)[0])


def test_unlabeled_and_color_images_are_shown_too(tmp_path):
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        for number in range(4):
            record = ImageRecord(label="x" if number else "", origin="synthetic", seed=number)
            writer.add(random_pixels(number, channels=3), record)
    with open_archive(tmp_path / "a.zip") as archive:
        two_bands = contact_sheet(archive, columns=2, rows_per_class=1)
        taller = contact_sheet(archive, columns=2, rows_per_class=2)
    assert np.ptp(np.asarray(two_bands), axis=2).max() > 50  # color
    assert taller.height - two_bands.height == 2 * (96 + 15 + 3)


def test_counts_below_one_are_refused(tmp_path):
    with (
        write_archive(tmp_path / "a.zip", many_subjects(3)) as archive,
        pytest.raises(SettingsError, match="--columns"),
    ):
        contact_sheet(archive, columns=0)
