"""A folder of pictures is trained on as the archive that the dataset tool makes of it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from extract.cache import CACHE_VARIABLE
from extract.dataset_tool import build_dataset
from extract.errors import ExtractError
from extract.folder_archive import archive_of
from gan.config import TrainConfig
from gan.evaluation import evaluate_network
from gan.features import PixelExtractor
from gan.metric_names import parse_metrics
from gan.snapshot import read_snapshot
from gan.training import train


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    folder = tmp_path / "pictures"
    random = np.random.default_rng(0)
    labels = []
    for number in range(12):
        name = f"{number % 3}/{number}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16), dtype=np.uint8)).save(folder / name)
        labels.append([name, number % 2])
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))
    return folder


def test_training_on_a_folder_equals_training_on_its_archive(tiny: TrainConfig, folder: Path, tmp_path: Path):
    build_dataset(folder, tmp_path / "pictures.zip")
    short = replace(tiny, kimg=0.016, cond=True)
    of_folder = train(replace(short, data=folder, outdir=tmp_path / "a"))
    of_archive = train(replace(short, data=tmp_path / "pictures.zip", outdir=tmp_path / "b"))
    one, other = load_file(of_folder), load_file(of_archive)
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert of_folder.parent.name == of_archive.parent.name
    assert read_snapshot(of_folder).archive_sha256 == read_snapshot(of_archive).archive_sha256
    longer = train(replace(short, data=folder, outdir=tmp_path / "a", kimg=0.024, resume="latest"))
    assert longer.parent == of_folder.parent
    found = evaluate_network(longer, parse_metrics("fid@pixels"), {"pixels": PixelExtractor()}, num=12)
    assert found.results[0].num_real == 12


def test_a_folder_is_packed_once_and_anew_when_a_file_changes(folder: Path):
    first = archive_of(folder)
    made = first.stat().st_mtime_ns
    assert archive_of(folder) == first and first.stat().st_mtime_ns == made
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(folder / "0" / "0.png")
    assert archive_of(folder) != first


def test_an_archive_is_what_it_is(tmp_path: Path):
    assert archive_of(tmp_path / "a.zip") == tmp_path / "a.zip"


def test_pictures_that_cannot_be_trained_on_are_refused_by_name(folder: Path, tmp_path: Path):
    Image.fromarray(np.zeros((16, 24), np.uint8)).save(folder / "0" / "wide.png")
    with pytest.raises(ExtractError, match=r"wide\.png"):
        archive_of(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ExtractError, match="empty"):
        archive_of(tmp_path / "empty")
    assert not list((tmp_path / "cache").rglob("*.zip"))
