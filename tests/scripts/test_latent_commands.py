"""`synthlabel gan mix | project | sweep | video` and the sampling of projected latents, as typed."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from extract.archive import open_archive
from scripts.cli import cli
from tests.gan.conftest import write_shapes

TINY = [
    "--kimg=0.008",
    "--batch=8",
    "--channel-base=128",
    "--channel-max=16",
    "--latent-dim=16",
    "--grid=2x2",
]


def gan(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["gan", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A class-conditional run of one iteration."""
    folder = tmp_path_factory.mktemp("latent")
    shapes = write_shapes(folder / "shapes.zip")
    result = gan("train", "--data", shapes, "--outdir", folder / "runs", "--cond=1", "--device=cpu", *TINY)
    assert result.exit_code == 0, result.output
    (run,) = (folder / "runs").iterdir()
    return run


def test_projected_latents_are_sampled_again(run_dir: Path, tmp_path: Path):
    made = gan("generate", "--network", run_dir, "--seeds=3", "--class=bar", "--outdir", tmp_path)
    assert made.exit_code == 0, made.output
    found = gan(
        "project", "--network", run_dir, "--target", tmp_path / "seed0003.png", "--num-steps=2",
        "--class=bar", "--save-video=0", "--distance=pixels", "--outdir", tmp_path / "p", "--device=cpu",
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    assert "proj.png: PSNR" in found.output and "by pixels at several resolutions" in found.output
    again = gan(
        "generate", "--network", run_dir, "--projected-w", tmp_path / "p" / "projected_w.npz", "--seeds=0-9",
        "--outdir", tmp_path / "again",
    )  # fmt: skip
    assert again.exit_code == 0, again.output
    assert "Warning: --seeds is ignored when using --projected-w" in again.output
    assert [path.name for path in (tmp_path / "again").iterdir()] == ["proj00.png"]
    assert (tmp_path / "again" / "proj00.png").read_bytes() == (tmp_path / "p" / "proj.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--outdir=out"], "--seeds option is required when not using --projected-w"),
        (["--projected-w=w.npz", "--dest=a.zip"], "--projected-w writes pictures: give --outdir FOLDER"),
        (
            ["--seeds=0", "--outdir=out", "--class-shares=bar"],
            "--class-shares must be classes and their shares",
        ),
        (["--seeds=0", "--outdir=out"], "Must specify class label with --class"),
    ],
)
def test_generate_says_what_is_missing(
    run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
):
    monkeypatch.chdir(tmp_path)
    result = gan("generate", "--network", run_dir, *arguments)
    assert result.exit_code == 2 and message in " ".join(result.output.split())
    assert list(tmp_path.iterdir()) == []


def test_all_classes_are_counted(run_dir: Path, tmp_path: Path):
    result = gan("generate", "--network", run_dir, "--seeds=0-4", "--class=all", "--dest", tmp_path / "a.zip")
    assert result.exit_code == 0, result.output
    assert "a.zip: 5 images (bar 3, disc 2) from" in result.output
    with open_archive(tmp_path / "a.zip") as archive:
        assert archive.labels.tolist() == [0, 1, 0, 1, 0]


def test_mix_names_the_styles_it_took(run_dir: Path, tmp_path: Path):
    result = gan(
        "mix",
        "--network",
        run_dir,
        "--rows=0-1",
        "--cols=5",
        "--styles=2-9",
        "--class=1",
        "--outdir",
        tmp_path,
    )
    assert result.exit_code == 0, result.output
    assert "grid.png: 5 pictures, styles 2, 3, 4, 5 of 6 from the columns" in result.output


def test_video_says_how_long_it_plays(run_dir: Path, tmp_path: Path):
    result = gan(
        "video", "--network", run_dir, "--seeds=0-1", "--frames-per-seed=3", "--fps=6", "--class=all",
        "--dest", tmp_path / "a.mp4",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "a.mp4: 12 frames, 2.0 s" in result.output


def test_sweep_looks_up_what_the_network_was_trained_on(run_dir: Path, tmp_path: Path):
    result = gan(
        "sweep", "--network", run_dir, "--psi=0,1", "--seeds=0-15", "--outdir", tmp_path / "s", "--device=cpu"
    )
    assert result.exit_code == 0, result.output
    assert "16 images a psi against 16 real ones; coverage is highest at psi" in result.output
    refused = gan(
        "sweep", "--network", run_dir, "--psi=0,1", "--extractor=task=a", "--extractor=vgg16=b", "--outdir",
        tmp_path / "t",
    )  # fmt: skip
    assert refused.exit_code == 2 and "--extractor: expected one for a sweep" in refused.output
