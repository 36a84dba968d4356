from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from extract.archive import open_archive
from extract.errors import ExtractError, SettingsError
from extract.images import ImageConfig, SubjectRule, build_image_archive, prepare_image

SMALL = ImageConfig(size=16)
PATTERN = SubjectRule(pattern=r"(?P<subject>p\d+)_")


@pytest.fixture
def source(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for label in ("ill", "well"):
        (tmp_path / "pictures" / label).mkdir(parents=True)
        for person in range(3):
            for view in "ab":
                pixels = rng.integers(0, 256, (20, 30), dtype=np.uint8)
                number = person + 10 * (label == "well")
                Image.fromarray(pixels).save(tmp_path / "pictures" / label / f"p{number}_{view}.png")
    return tmp_path / "pictures"


def test_folders_become_classes_and_the_pattern_finds_the_subject(source, tmp_path):
    summary = build_image_archive(source, tmp_path / "a.zip", SMALL, PATTERN)
    assert summary.counts == {"ill": 6, "well": 6} and summary.num_subjects == 6
    with open_archive(tmp_path / "a.zip") as archive:
        assert archive.classes == ("ill", "well") and archive.image_shape == (1, 16, 16)
        assert archive.manifest["source"].tolist()[:2] == ["ill/p0_a.png", "ill/p0_b.png"]
        assert archive.subjects.tolist()[:2] == ["p0", "p0"]
        assert archive.preparation == {
            "kind": "images",
            "size": 16,
            "rgb": False,
            "fit": "pad",
            "left_out": [],
            "shape_clue": None,
        }
        assert archive.manifest["source_width"].tolist() == ["30"] * 12
        assert archive.manifest["source_height"].tolist() == ["20"] * 12


@pytest.mark.parametrize(
    ("pattern", "subject"),
    [(r"(?P<subject>p\d+)_", "p0"), (r"(p\d+)_", "p0"), (r"^(\w+)/p(\d+)", "ill-0"), (r"p\d+", "p0"),
     (".*", "ill/p0_a.png")],
)  # fmt: skip
def test_patterns_use_the_named_group_or_all_groups_or_everything(source, tmp_path, pattern, subject):
    build_image_archive(source, tmp_path / "a.zip", SMALL, SubjectRule(pattern=pattern))
    with open_archive(tmp_path / "a.zip") as archive:
        assert archive.subjects[0] == subject


def test_a_picture_that_the_pattern_does_not_match_is_refused(source, tmp_path):
    with pytest.raises(
        ExtractError, match=r"ill/p0_a\.png: expected a path that --subject-pattern '\(q\)' matches"
    ):
        build_image_archive(source, tmp_path / "a.zip", SMALL, SubjectRule(pattern="(q)"))


def _table(source: Path, path: Path, header: str, row) -> Path:
    files = sorted(file.relative_to(source) for file in source.rglob("*.png"))
    path.write_text("\n".join([header, *(row(file) for file in files)]) + "\n")
    return path


def test_a_table_of_class_and_name_gives_subjects_and_finer_classes(source, tmp_path):
    table = _table(
        source, tmp_path / "t.csv", "class,name,patient_key,type",
        lambda file: f"{file.parent.name},{file.name},{file.stem[:-2]},{file.stem[-1]}",
    )  # fmt: skip
    build_image_archive(source, tmp_path / "a.zip", SMALL, SubjectRule(table))
    build_image_archive(source, tmp_path / "b.zip", SMALL, SubjectRule(table, label_column="type"))
    with open_archive(tmp_path / "a.zip") as archive:
        assert archive.classes == ("ill", "well") and archive.subjects[0] == "p0"
    with open_archive(tmp_path / "b.zip") as archive:
        assert archive.classes == ("a", "b") and archive.labels.tolist() == [0, 1] * 6


def test_columns_can_be_named(source, tmp_path):
    table = _table(source, tmp_path / "t.csv", "where,who", lambda file: f"{file.as_posix()},{file.stem[:2]}")
    with pytest.raises(
        ExtractError,
        match=r"expected the column one of file, path.*got where, who; rename a column, or",
    ):
        build_image_archive(source, tmp_path / "a.zip", SMALL, SubjectRule(table))
    build_image_archive(
        source, tmp_path / "a.zip", SMALL, SubjectRule(table, file_column="where", subject_column="who")
    )
    with open_archive(tmp_path / "a.zip") as archive:
        assert archive.subjects[0] == "p0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,subject\nill/p0_a.png,x\n", r"expected a row for ill/p0_b\.png, got none"),
        ("file,subject\nill/p0_a.png,\n", r"expected a value in column subject .*got none for ill/p0_a\.png"),
        ("file,subject\na.png,x\na.png,y\n", r"expected one row a file, got several for a\.png"),
        ("", "expected a CSV table"),
    ],
)  # fmt: skip
def test_faulty_tables_are_refused(source, tmp_path, text, message):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(ExtractError, match=message):
        build_image_archive(source, tmp_path / "a.zip", SMALL, SubjectRule(tmp_path / "t.csv"))


def test_subjects_are_mandatory():
    with pytest.raises(SettingsError, match="give either --subjects TABLE or --subject-pattern"):
        SubjectRule()
    with pytest.raises(SettingsError, match="give either"):
        SubjectRule(Path("t.csv"), "x")
    with pytest.raises(SettingsError, match="must be a regular expression"):
        SubjectRule(pattern="(")
    with pytest.raises(SettingsError, match="--label-column needs --subjects TABLE or --labels TABLE"):
        SubjectRule(pattern="x", label_column="type")
    with pytest.raises(SettingsError, match="--subject-column needs --subjects TABLE"):
        SubjectRule(pattern="x", subject_column="who")


def test_a_picture_outside_a_class_folder_is_refused(source, tmp_path):
    Image.new("L", (8, 8)).save(source / "p9_a.png")
    with pytest.raises(ExtractError, match=r"p9_a\.png: expected a picture in a folder named by its class"):
        build_image_archive(source, tmp_path / "a.zip", SMALL, PATTERN)


@pytest.fixture
def damaged(source) -> Path:
    (source / "ill" / "p0_a.png").write_bytes((source / "ill" / "p0_a.png").read_bytes()[:200])
    (source / "well" / "p10_c.jpg").write_bytes(b"not a picture")
    return source


def test_unreadable_pictures_are_listed_and_nothing_is_written(damaged, tmp_path):
    with pytest.raises(
        ExtractError, match="2 of 13 pictures cannot be used, so nothing was written"
    ) as caught:
        build_image_archive(damaged, tmp_path / "a.zip", SMALL, PATTERN)
    assert "p0_a.png: expected a whole picture" in str(caught.value) and "p10_c.jpg" in str(caught.value)
    assert "--skip-unreadable" in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pictures"]


def test_unreadable_pictures_can_be_left_out(damaged, tmp_path):
    summary = build_image_archive(damaged, tmp_path / "a.zip", SMALL, PATTERN, skip_unreadable=True)
    assert summary.num_images == 11 and len(summary.unreadable) == 2
    with open_archive(tmp_path / "a.zip") as archive:
        assert len(archive) == 11 and archive.preparation["left_out"] == ["ill/p0_a.png", "well/p10_c.jpg"]


def test_the_same_bytes_whatever_the_number_of_workers(tmp_path):
    rng = np.random.default_rng(0)
    for label in "ab":
        (tmp_path / "many" / label).mkdir(parents=True)
        for number in range(110):
            pixels = rng.integers(0, 256, (9, 9), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "many" / label / f"p{number}_.png")
    for workers in (1, 2):
        build_image_archive(tmp_path / "many", tmp_path / f"{workers}.zip", SMALL, PATTERN, workers=workers)
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()


def test_linked_folders_are_followed_once_and_hidden_files_left_out(source, tmp_path):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "ill").symlink_to(source / "ill")
    (tmp_path / "linked" / "loop").symlink_to(tmp_path / "linked")
    (tmp_path / "linked" / ".cache").mkdir()
    Image.new("L", (8, 8)).save(tmp_path / "linked" / ".cache" / "p1_.png")
    (source / "ill" / "._p0_a.png").write_bytes(b"not a picture")
    summary = build_image_archive(tmp_path / "linked", tmp_path / "a.zip", SMALL, PATTERN)
    assert summary.counts == {"ill": 6}


def test_an_empty_folder_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ExtractError, match=r"expected pictures .*got none among 0 files"):
        build_image_archive(tmp_path / "empty", tmp_path / "a.zip", SMALL, PATTERN)


def saved(tmp_path: Path, image: Image.Image, name: str = "x.png", **settings) -> Path:
    image.save(tmp_path / name, **settings)
    return tmp_path / name


WIDE = np.zeros((20, 40), np.uint8)
WIDE[:, 20:] = 200


def test_pad_keeps_the_aspect_and_all_of_the_picture(tmp_path):
    pixels = prepare_image(saved(tmp_path, Image.fromarray(WIDE)), SMALL)
    assert pixels.shape == (16, 16) and pixels.dtype == np.uint8
    assert (pixels[:4] == 0).all() and (pixels[12:] == 0).all()
    assert (pixels[4:12, 8:] == 200).all() and (pixels[4:12, :8] == 0).all()


def test_crop_keeps_the_aspect_and_squash_the_picture(tmp_path):
    path = saved(tmp_path, Image.fromarray(WIDE))
    cropped = prepare_image(path, ImageConfig(16, fit="crop"))
    assert (cropped[:, 8:] == 200).all() and (cropped[:, :8] == 0).all()
    squashed = prepare_image(path, ImageConfig(16, fit="squash"))
    assert (squashed[:, 8:] == 200).all() and (squashed[:, :8] == 0).all()
    tall = saved(tmp_path, Image.fromarray(WIDE.T), "tall.png")
    assert (prepare_image(tall, ImageConfig(16, fit="crop"))[8:] == 200).all()


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    path = saved(tmp_path, Image.fromarray(WIDE), "x.jpg", exif=exif, quality=100)
    pixels = prepare_image(path, ImageConfig(16, fit="squash"))
    assert pixels[:7].max() < 10 and pixels[9:].min() > 190  # what was right is below


def test_transparency_is_laid_on_black(tmp_path):
    layer = np.full((16, 16, 4), 255, np.uint8)
    layer[:8, :, 3] = 0
    pixels = prepare_image(saved(tmp_path, Image.fromarray(layer)), SMALL)
    assert (pixels[:8] == 0).all() and (pixels[8:] == 255).all()


def test_a_palette_and_single_bits_are_resolved(tmp_path):
    picture = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB").quantize(256)
    assert picture.mode == "P"
    expected = np.asarray(picture.convert("RGB").convert("L"))
    assert np.array_equal(prepare_image(saved(tmp_path, picture), SMALL), expected)
    bits = Image.fromarray(np.indices((16, 16)).sum(axis=0) % 2 == 1)
    assert set(np.unique(prepare_image(saved(tmp_path, bits, "b.png"), SMALL))) == {0, 255}


def test_color_is_kept_on_request(tmp_path):
    red = Image.new("RGB", (16, 16), (255, 0, 0))
    assert prepare_image(saved(tmp_path, red), ImageConfig(16, rgb=True))[0, 0].tolist() == [255, 0, 0]
    assert prepare_image(saved(tmp_path, red), SMALL)[0, 0] == 76


def test_sixteen_bits_are_windowed_to_their_own_range(tmp_path):
    values = np.linspace(1000, 3000, 256).reshape(16, 16).astype(np.uint16)  # 12 bits, far from 65535
    pixels = prepare_image(saved(tmp_path, Image.fromarray(values)), SMALL)
    assert pixels.min() == 0 and pixels.max() == 255
    assert np.abs(pixels.astype(float).ravel() - np.linspace(0, 255, 256)).max() < 3
    assert prepare_image(saved(tmp_path, Image.fromarray(values)), ImageConfig(16, rgb=True)).shape == (
        16,
        16,
        3,
    )


def test_several_pictures_in_a_file_are_refused(tmp_path):
    frames = [Image.new("L", (16, 16), k) for k in range(3)]
    path = saved(tmp_path, frames[0], "x.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(ExtractError, match="expected one picture, got 3 in one file"):
        prepare_image(path, SMALL)


def test_shrinking_averages(tmp_path):
    checker = (np.indices((64, 64)).sum(axis=0) % 2 * 200).astype(np.uint8)
    assert np.ptp(prepare_image(saved(tmp_path, Image.fromarray(checker)), SMALL)) == 0


@pytest.mark.parametrize(
    ("settings", "message"), [({"size": 100}, "--size"), ({"fit": "bend"}, "--fit must be one of")]
)
def test_settings_outside_their_range_are_refused(settings, message):
    with pytest.raises(SettingsError, match=message):
        ImageConfig(**settings)
