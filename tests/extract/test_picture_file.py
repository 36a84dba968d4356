import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from extract.errors import ExtractError
from extract.images import ImageConfig, SubjectRule, build_image_archive
from extract.picture_file import PictureFacts, read_picture, read_picture_facts

CORNER = np.zeros((6, 10), np.uint8)
CORNER[:2, :3] = 200  # light at the top left


def saved(path: Path, image: Image.Image, **settings) -> Path:
    image.save(path, **settings)
    return path


def promising_png(path: Path, width: int, height: int) -> Path:
    """A few bytes whose header promises a huge picture."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 100)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


@pytest.mark.parametrize(("width", "height"), [(10**5, 10**5), (2**31 - 1, 1), (8193, 8193)])
def test_a_header_that_promises_too_much_is_refused_before_decoding(tmp_path, width, height):
    path = promising_png(tmp_path / "x.png", width, height)
    with pytest.raises(ExtractError, match="at most 67,108,864 pixels, got a header that promises"):
        read_picture(path, rgb=False)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("is_deep", [False, True])
def test_every_exif_orientation_is_undone(tmp_path, orientation, is_deep):
    exif = Image.Exif()
    exif[0x0112] = orientation
    # What a viewer turns: `turn[k]` of the stored pixels gives the upright ones.
    to_stored = {
        1: CORNER, 2: CORNER[:, ::-1], 3: CORNER[::-1, ::-1], 4: CORNER[::-1], 5: CORNER.T,
        6: np.rot90(CORNER), 7: CORNER[::-1, ::-1].T, 8: np.rot90(CORNER, -1),
    }  # fmt: skip
    stored = np.ascontiguousarray(to_stored[orientation])
    path = tmp_path / "x.png"
    saved(path, Image.fromarray(stored), exif=exif)
    if is_deep:  # 16 bits a color, which only OpenCV writes; the tag is carried over by hand
        tag = path.read_bytes()
        start = tag.index(b"eXIf") - 4
        chunk = tag[start : start + 12 + int.from_bytes(tag[start : start + 4], "big")]
        deep = np.repeat(stored[:, :, None].astype(np.uint16) * 257, 3, axis=2)
        data = cv2.imencode(".png", deep)[1].tobytes()
        path.write_bytes(data[:33] + chunk + data[33:])
    pixels, facts = read_picture_facts(path, rgb=False)
    assert (facts.width, facts.height, facts.bits) == (10, 6, 16 if is_deep else 8)
    assert np.array_equal(pixels > 100, CORNER > 100)


def test_sixteen_bit_color_keeps_its_range_and_balance(tmp_path):
    ramp = np.linspace(0, 4095, 64).reshape(8, 8)  # 12 bits: the upper byte alone would be black
    values = np.stack([ramp, ramp / 2, ramp / 4], axis=2).astype(np.uint16)  # RGB
    for name in ("x.png", "x.tif"):
        cv2.imwrite(str(tmp_path / name), values[:, :, ::-1])
        pixels, facts = read_picture_facts(tmp_path / name, rgb=True)
        assert facts.bits == 16 and pixels.shape == (8, 8, 3) and pixels[-1, -1, 0] == 255
        bright = pixels[-1, -1].astype(float)
        assert bright[1] / bright[0] == pytest.approx(0.5, abs=0.02)
        assert bright[2] / bright[0] == pytest.approx(0.25, abs=0.02)
        assert read_picture(tmp_path / name, rgb=False).max() == 255


def test_sixteen_bit_transparency_is_laid_on_black(tmp_path):
    values = np.full((8, 8, 4), 60000, np.uint16)
    values[:4, :, 3] = 0
    values[4:, :, 3] = 65535
    cv2.imwrite(str(tmp_path / "x.png"), values)
    pixels = read_picture(tmp_path / "x.png", rgb=False)
    assert (pixels[:4] == 0).all() and (pixels[4:] == 255).all()


def test_cmyk_bits_and_interlaced_pictures_read(tmp_path):
    gradient = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) * 4)
    cmyk = saved(tmp_path / "c.jpg", gradient.convert("CMYK"), quality=100)
    pixels, facts = read_picture_facts(cmyk, rgb=False)
    assert facts == PictureFacts(8, 8, "JPEG", "CMYK", 8)
    assert np.abs(pixels.astype(int) - np.asarray(gradient)).max() <= 6
    bits = saved(tmp_path / "b.tif", gradient.point(lambda v: 255 * (v > 100)).convert("1"))
    pixels, facts = read_picture_facts(bits, rgb=False)
    assert facts.bits == 1 and set(np.unique(pixels)) == {0, 255}


def adam7_png(path: Path, pixels: np.ndarray) -> Path:
    """An interlaced gray PNG, which no library at hand writes."""
    height, width = pixels.shape
    starts = (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    )
    lines = b"".join(
        b"".join(b"\0" + row.tobytes() for row in pixels[top::down, left::right])
        for top, left, down, right in starts
        if pixels[top::down, left::right].size
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def test_an_interlaced_picture_reads_as_its_plain_twin(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (13, 11), dtype=np.uint8)
    assert np.array_equal(read_picture(adam7_png(tmp_path / "x.png", pixels), rgb=False), pixels)


def test_white_is_zero_in_some_deep_tiffs(tmp_path):
    values = np.linspace(0, 60000, 64).reshape(8, 8).astype(np.uint16)
    plain = saved(tmp_path / "a.tif", Image.fromarray(values))
    turned = saved(tmp_path / "b.tif", Image.fromarray(values), tiffinfo={262: 0})
    a, b = read_picture(plain, rgb=False), read_picture(turned, rgb=False)
    assert a[0, 0] == 0 and b[0, 0] == 255 and np.abs(255 - b.astype(int) - a).max() <= 1


@pytest.mark.parametrize("name", ["x.gif", "x.png", "x.webp", "x.tif"])
def test_moving_pictures_and_pages_are_refused_by_name(tmp_path, name):
    frames = [Image.new("L", (16, 16), 80 * k) for k in range(3)]
    saved(tmp_path / name, frames[0], save_all=True, append_images=frames[1:])
    with pytest.raises(ExtractError, match=rf"{name}: expected one picture, got 3 in one file"):
        read_picture(tmp_path / name, rgb=False)


def test_a_phones_jpeg_with_a_preview_is_one_picture(tmp_path):
    main, preview = Image.fromarray(CORNER), Image.new("L", (2, 2))
    path = tmp_path / "x.jpg"
    main.save(path, format="MPO", save_all=True, append_images=[preview], quality=100)
    pixels, facts = read_picture_facts(path, rgb=False)
    assert facts.kind == "MPO" and np.array_equal(pixels > 100, CORNER > 100)


def test_a_picture_under_a_foreign_name_is_read_for_what_it_is(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(CORNER).save(path, format="BMP")
    assert read_picture_facts(path, rgb=False)[1].kind == "BMP"


def test_a_file_that_would_start_another_program_is_refused(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(CORNER).save(path, format="EPS")
    with pytest.raises(ExtractError, match=r"x\.png: expected a whole picture"):
        read_picture(path, rgb=False)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0" + b"\xff" * 40])
def test_rubbish_is_refused_in_one_sentence(tmp_path, content):
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ExtractError, match=r"x\.png: expected a whole picture, got one that cannot be read"):
        read_picture(tmp_path / "x.png", rgb=False)


def test_a_bomb_among_pictures_is_listed_and_can_be_left_out(tmp_path):
    (tmp_path / "s" / "a").mkdir(parents=True)
    saved(tmp_path / "s" / "a" / "p1.png", Image.fromarray(CORNER))
    promising_png(tmp_path / "s" / "a" / "p2.png", 10**5, 10**5)
    summary = build_image_archive(
        tmp_path / "s", tmp_path / "a.zip", ImageConfig(8), SubjectRule(pattern=".*"), skip_unreadable=True
    )
    assert summary.num_images == 1 and "p2.png" in str(summary.unreadable[0])
