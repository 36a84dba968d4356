"""`synthlabel gan import`, `export` and `train --resume` of network files, as they are typed."""

import os
import pickle
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from extract.archive import open_archive
from scripts.cli import cli
from tests.gan.conftest import write_shapes

TINY = [
    "--kimg=0.008", "--batch=8", "--channel-base=128", "--channel-max=16", "--latent-dim=16", "--grid=2x2",
    "--device=cpu", "--aug=noaug",
]  # fmt: skip


def gan(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["gan", *(str(argument) for argument in arguments)])


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    result = gan(
        "train", "--data", write_shapes(folder / "shapes.zip", channels=3), "--outdir", folder / "runs", *TINY
    )
    assert result.exit_code == 0, result.output
    (run_dir,) = (folder / "runs").iterdir()
    return run_dir


@pytest.fixture(scope="module")
def official(run_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    dest = tmp_path_factory.mktemp("official") / "network.pkl"
    result = gan("export", run_dir, dest)
    assert result.exit_code == 0, result.output
    assert f"{dest}: the networks of {run_dir}/network-snapshot-000000.safetensors" in result.output
    return dest


def test_what_is_imported_can_be_sampled(official: Path, tmp_path: Path):
    result = gan("import", official, tmp_path / "a.safetensors")
    assert result.exit_code == 0, result.output
    assert "RGB images of 16 pixels, no classes, from PyTorch file" in result.output
    network, dest = tmp_path / "a.safetensors", tmp_path / "a.zip"
    result = gan("generate", "--network", network, "--seeds=0-3", "--dest", dest, "--device=cpu")
    assert result.exit_code == 0, result.output
    with open_archive(tmp_path / "a.zip") as archive:
        assert (len(archive), archive.image_shape) == (4, (3, 16, 16))


def test_a_published_name_is_looked_up_in_the_cache(
    official: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(tmp_path))
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path))
    result = gan("import", "ffhq256", tmp_path / "a.safetensors")
    assert result.exit_code == 2
    said = " ".join(result.output.split())
    assert "ffhq256: expected the published network in a cache, got none; nothing is downloaded" in said
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks" / "ffhq256.pkl").write_bytes(official.read_bytes())
    assert gan("import", "ffhq256", tmp_path / "a.safetensors").exit_code == 0


def test_training_starts_from_an_official_file_of_other_colours(official: Path, tmp_path: Path):
    data = write_shapes(tmp_path / "grey.zip")
    result = gan("train", "--data", data, "--outdir", tmp_path / "runs", f"--resume=file://{official}", *TINY)
    assert result.exit_code == 0, result.output
    assert "G: from 3 to 1 colour channels, the mean of its colours" in result.output
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [
        "00000-grey-auto1-kimg0.008-batch8-noaug-resumecustom"
    ]


def test_an_address_is_refused(tmp_path: Path):
    data = write_shapes(tmp_path / "grey.zip")
    result = gan("train", "--data", data, "--outdir", tmp_path / "runs", "--resume=https://example.org/x.pkl")
    assert result.exit_code == 2
    assert "nothing is downloaded: get x.pkl yourself" in " ".join(result.output.split())


class Attack:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


@pytest.mark.parametrize("how", ["import", "train", "generate"])
def test_a_hostile_file_ends_in_a_sentence(how: str, tmp_path: Path):
    hostile = tmp_path / "hostile.pkl"
    hostile.write_bytes(pickle.dumps({"G": Attack(f"touch {tmp_path / 'ran'}")}))
    commands = {
        "import": ["import", hostile, tmp_path / "a.safetensors"],
        "train": [
            "train",
            "--data",
            write_shapes(tmp_path / "grey.zip"),
            "--outdir",
            tmp_path,
            "--resume",
            hostile,
        ],
        "generate": ["generate", "--network", hostile, "--seeds=0", "--dest", tmp_path / "a.zip"],
    }
    result = gan(*commands[how])
    assert result.exit_code == 1
    said = " ".join(result.output.split())
    wanted = "synthlabel gan import" if how == "generate" else "posix.system; the file would run code"
    assert wanted in said and "Traceback" not in said
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "a.safetensors").exists()


def test_files_of_another_kind_are_told_apart(tmp_path: Path, run_dir: Path):
    (tmp_path / "a.pt").write_bytes(b"PK\x03\x04 and so on")
    result = gan("import", tmp_path / "a.pt", tmp_path / "a.safetensors")
    assert result.exit_code == 1
    assert "a checkpoint as torch.save writes it" in " ".join(result.output.split())
    (snapshot,) = run_dir.glob("network-snapshot-*.safetensors")
    result = gan("import", snapshot, tmp_path / "a.safetensors")
    assert result.exit_code == 1
    assert "got a snapshot of ours, which needs no import" in " ".join(result.output.split())


def test_a_missing_file_and_an_existing_one_are_told(official: Path, tmp_path: Path):
    result = gan("import", tmp_path / "none.pkl", tmp_path / "a.safetensors")
    assert result.exit_code == 1 and "got nothing there" in " ".join(result.output.split())
    dest = tmp_path / "there.safetensors"
    dest.write_bytes(b"mine")
    result = gan("import", official, dest)
    assert result.exit_code == 1 and "pass --overwrite" in " ".join(result.output.split())
    assert dest.read_bytes() == b"mine"
    assert gan("import", official, dest, "--overwrite").exit_code == 0
