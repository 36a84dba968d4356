"""Interpolation videos, decoded again: length, size, what the first frame shows, and the way back to it."""

from pathlib import Path

import av
import numpy as np
import pytest

import gan.video_file
from extract.errors import SettingsError
from gan.errors import GanError
from gan.sampling import open_sampler
from gan.video import VideoConfig, parse_grid, write_interpolation
from gan.video_file import write_video


def decode(path: Path) -> tuple[np.ndarray, float, str]:
    """Frames (T, H, W) gray, frames a second, pixel format."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        rate, name = float(stream.average_rate), stream.codec_context.pix_fmt
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    return np.stack(frames).astype(int), rate, name


@pytest.mark.parametrize("space", ["z", "w"])
def test_the_video_starts_at_the_first_seed_and_can_be_looped(trained: Path, tmp_path: Path, space: str):
    config = VideoConfig((1, 2, 3), frames_per_seed=8, fps=12, truncation_psi=0.8, space=space)
    summary = write_interpolation(trained, tmp_path / "a.mp4", config)
    frames, rate, pixel_format = decode(tmp_path / "a.mp4")
    assert (summary.num_frames, len(frames), rate, pixel_format) == (24, 24, 12, "yuv420p")
    assert frames.shape[1:] == (256, 256)  # 16 pixels, enlarged

    sampler = open_sampler(trained)
    for index, seed in enumerate((1, 2, 3)):
        still = sampler.synthesize(sampler.map_seeds([seed], 0.8))[0, 0].astype(int)
        shown = frames[8 * index].reshape(16, 16, 16, 16).mean(axis=(1, 3))
        assert np.abs(shown - still).mean() < 6, seed
    steps = np.abs(np.diff(frames, axis=0)).mean(axis=(1, 2))
    closing = np.abs(frames[-1] - frames[0]).mean()
    assert closing <= steps.max() * 1.5  # from the last frame back to the first is a step like the others


def test_a_grid_shows_a_walk_in_each_cell(trained: Path, tmp_path: Path):
    config = VideoConfig(tuple(range(6)), seconds=0.5, fps=10, grid=(3, 1))
    write_interpolation(trained, tmp_path / "a.mp4", config)
    frames, _, _ = decode(tmp_path / "a.mp4")
    assert frames.shape == (5, 128, 384)
    sampler = open_sampler(trained)
    still = sampler.synthesize(sampler.map_seeds([2]))[0, 0].astype(int)  # cells hold seeds 0-1, 2-3, 4-5
    shown = frames[0][:, 128:256].reshape(16, 8, 16, 8).mean(axis=(1, 3))
    assert np.abs(shown - still).mean() < 6


@pytest.mark.parametrize("space", ["z", "w"])
def test_all_classes_are_walked_through(trained_conditional: Path, tmp_path: Path, space: str):
    config = VideoConfig((5,), frames_per_seed=4, class_name="all", space=space)
    summary = write_interpolation(trained_conditional, tmp_path / "a.mp4", config)
    assert summary.num_frames == 8  # one seed as two classes
    frames, _, _ = decode(tmp_path / "a.mp4")
    for index, name in enumerate(("bar", "disc")):
        sampler = open_sampler(trained_conditional, class_name=name)
        still = sampler.synthesize(sampler.map_seeds([5]))[0, 0].astype(int)
        shown = frames[4 * index].reshape(16, 16, 16, 16).mean(axis=(1, 3))
        assert np.abs(shown - still).mean() < 6


def test_the_same_call_gives_the_same_bytes(trained: Path, tmp_path: Path):
    for name in ("a.mp4", "b.mp4"):
        write_interpolation(trained, tmp_path / name, VideoConfig((1, 2), frames_per_seed=2))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_odd_sizes_get_a_line_of_black(tmp_path: Path):
    write_video(tmp_path / "a.mp4", [np.full((33, 47, 3), 200, np.uint8)] * 3, 5)
    frames, _, _ = decode(tmp_path / "a.mp4")
    assert frames.shape == (3, 34, 48)
    assert frames[0, 10, 20] > 150 > 60 > frames[0, 33, 20]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"space": "x"}, "--space must be one of z, w"),
        ({"frames_per_seed": 3, "seconds": 2.0}, "give --frames-per-seed or --seconds, not both"),
        ({"frames_per_seed": 0}, "--frames-per-seed must be at least 1"),
        ({"seconds": 0.0}, "--seconds must be above 0"),
        ({"grid": (2, 1)}, "--seeds must share out evenly over the 2 cells of --grid=2x1"),
        ({"seeds": ()}, "--seeds must name at least one seed"),
    ],
)
def test_settings_that_give_no_video_are_refused(settings: dict, message: str):
    with pytest.raises(SettingsError, match=message):
        VideoConfig(**{"seeds": (1, 2, 3), **settings})


def test_what_cannot_be_written_is_refused_before_any_work(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = VideoConfig((1, 2), frames_per_seed=2)
    (tmp_path / "a.mp4").write_bytes(b"mine")
    with pytest.raises(GanError, match="already exists and is left alone"):
        write_interpolation(trained, tmp_path / "a.mp4", config)
    with pytest.raises(SettingsError, match=r"must end in \.mp4"):
        write_interpolation(trained, tmp_path / "a.gif", config)
    with pytest.raises(SettingsError, match="at least two seeds"):
        write_interpolation(trained, tmp_path / "b.mp4", VideoConfig((1,)))
    monkeypatch.setattr(gan.video_file, "CODEC", "libnone")
    with pytest.raises(GanError, match="expected the encoder libnone"):
        write_interpolation(trained, tmp_path / "b.mp4", config)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_grids_are_columns_by_rows():
    assert parse_grid("3x2") == (3, 2)
    with pytest.raises(SettingsError, match="--grid must be columns x rows such as 3x2, got '3'"):
        parse_grid("3")


def test_a_video_appears_whole_or_not_at_all(tmp_path: Path):
    def frames():
        yield np.zeros((32, 32), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "a.mp4", frames(), 5)
    with pytest.raises(GanError, match="expected frames for a video, got none"):
        write_video(tmp_path / "a.mp4", [], 5)
    with pytest.raises(SettingsError, match="at most 8192 pixels a side"):
        write_video(tmp_path / "a.mp4", [np.zeros((2, 8194), np.uint8)], 5)
    assert list(tmp_path.iterdir()) == []
