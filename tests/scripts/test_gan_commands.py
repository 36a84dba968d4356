"""`synthlabel gan` as it is typed: what it prints, makes and refuses."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from extract.archive import open_archive
from scripts.cli import cli
from tests.gan.conftest import write_shapes

TINY = [
    "--kimg=0.016", "--batch=8", "--channel-base=128", "--channel-max=16", "--latent-dim=16", "--grid=2x2",
    "--device=cpu",
]  # fmt: skip


def gan(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["gan", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("data") / "shapes.zip")


@pytest.fixture(scope="module")
def run_dir(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    outdir = tmp_path_factory.mktemp("runs")
    result = gan("train", "--data", shapes, "--outdir", outdir, "--mirror=1", "--aug=noaug", *TINY)
    assert result.exit_code == 0, result.output
    assert "Training for 0.016 kimg..." in result.output and "tick 0 " in result.output
    (run_dir,) = outdir.iterdir()
    assert f"{run_dir}/network-snapshot-000000.safetensors: the trained generator" in result.output
    return run_dir


def test_train_names_its_run_after_its_options(run_dir: Path):
    assert run_dir.name == "00000-shapes-mirror-auto1-kimg0.016-batch8-noaug"


def test_resume_needs_nothing_but_the_run_folder(run_dir: Path):
    result = gan("train", "--resume", run_dir, "--kimg=0.032")
    assert result.exit_code == 0, result.output
    assert "Resuming at 0.0 kimg, training up to 0.032 kimg..." in result.output
    lines = (run_dir / "stats.jsonl").read_text().splitlines()
    assert [json.loads(line)["Progress/kimg"]["mean"] for line in lines] == pytest.approx(
        [0.008, 0.016, 0.032]
    )


def test_resume_latest_finds_the_run_and_refuses_other_settings(run_dir: Path):
    result = gan("train", "--outdir", run_dir.parent, "--resume=latest", "--seed=9")
    assert result.exit_code == 2
    assert "--seed: the run in" in result.output and "trained with 0, now 9" in result.output


def test_dry_run_prints_the_options_and_creates_nothing(shapes: Path, tmp_path: Path):
    result = gan("train", "--data", shapes, "--outdir", tmp_path / "runs", "--cond=true", "--dry-run", *TINY)
    assert result.exit_code == 0, result.output
    printed = result.output[result.output.index("{") : result.output.rindex("}") + 1]
    assert json.loads(printed)["batch_size"] == 8
    assert "Conditional model:  True" in result.output
    assert result.output.rstrip().endswith("Dry run; exiting.")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--aug=fixed"], "--aug=fixed requires specifying --p"),
        (["--gpus=2"], "training on several GPUs is not supported yet"),
        (
            ["--resume=ffhq256"],
            "--resume=ffhq256: expected the published network in a cache, got none; nothing is",
        ),
        (
            ["--resume=nowhere"],
            "--resume: expected a snapshot, an official network file (.pkl), a run folder, 'latest'",
        ),
        (["--grid=many"], "expected columns x rows such as 8x8"),
        (["--subset=1000"], "--subset must be between 1 and 48"),
        (["--kimg=0"], "--kimg must be at least 1"),
    ],
)
def test_wrong_usage_is_told_in_a_sentence_before_any_work(
    shapes: Path, tmp_path: Path, options: list[str], sentence: str
):
    result = gan("train", "--data", shapes, "--outdir", tmp_path / "runs", *options)
    assert result.exit_code == 2, result.output
    assert sentence in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert not (tmp_path / "runs").exists()


def test_train_without_data_names_the_option(tmp_path: Path):
    result = gan("train", "--outdir", tmp_path)
    assert result.exit_code == 2
    assert "Missing option '--data'" in result.output


def test_a_file_that_is_no_archive_ends_with_exit_code_1(tmp_path: Path):
    (tmp_path / "notes.zip").write_text("hello")
    result = gan("train", "--data", tmp_path / "notes.zip", "--outdir", tmp_path / "runs")
    assert result.exit_code == 1
    assert "expected a zip archive" in result.output


def test_generate_writes_an_archive_of_one_image_a_seed(run_dir: Path, tmp_path: Path):
    dest = tmp_path / "synthetic.zip"
    result = gan("generate", "--network", run_dir, "--seeds=0-5", "--trunc=0.7", "--dest", dest)
    assert result.exit_code == 0, result.output
    assert f"{dest}: 6 images from {run_dir}" in result.output
    with open_archive(dest) as archive:
        assert archive.manifest["seed"].tolist() == [str(seed) for seed in range(6)]
        assert set(archive.manifest["origin"]) == {"synthetic"}


def test_generate_writes_official_png_files(run_dir: Path, tmp_path: Path):
    result = gan("generate", "--network", run_dir, "--seeds=3,7", "--outdir", tmp_path, "--class=1")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed0003.png", "seed0007.png"]
    assert "Warning: --class=1 is ignored" in result.output


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--seeds=0-1"], "expected either --dest ARCHIVE.zip or --outdir FOLDER"),
        (["--seeds=first", "--outdir=x"], "--seeds must be a range such as 0-1999"),
        (["--seeds=0", "--outdir=x", "--noise-mode=loud"], "--noise-mode must be one of const"),
        (["--seeds=0", "--outdir=x", "--device=tpu"], "--device must be one of"),
    ],
)
def test_generate_refuses_what_it_cannot_do(run_dir: Path, options: list[str], sentence: str):
    result = gan("generate", "--network", run_dir, *options)
    assert result.exit_code == 2, result.output
    assert sentence in " ".join(result.output.split())
