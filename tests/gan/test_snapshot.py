"""Snapshots say on whom they were trained, and whoever would test on those is refused."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from extract.archive import file_sha256, open_archive
from extract.errors import SettingsError
from extract.split import read_split
from gan.config import TrainConfig
from gan.errors import GanError
from gan.snapshot import load_generator, read_snapshot, refuse_overlap
from gan.training import train


def test_header_names_subjects_archive_split_and_fold(trained: Path, shapes: Path, shapes_split: Path):
    snapshot = read_snapshot(trained)
    with open_archive(shapes) as archive:
        split = read_split(shapes_split, archive)
        assert snapshot.subjects == tuple(sorted(split.folds[1].train))
        assert snapshot.archive_sha256 == archive.sha256
    assert (snapshot.split_sha256, snapshot.fold, snapshot.part) == (split.sha256, 1, "train")
    assert snapshot.kimg == pytest.approx(0.04)
    assert (snapshot.image_shape, snapshot.classes) == ((1, 16, 16), ())
    assert snapshot.sha256 == file_sha256(trained)


def test_without_a_split_all_subjects_count_as_seen(trained_conditional: Path):
    snapshot = read_snapshot(trained_conditional)
    assert (snapshot.split_sha256, snapshot.fold, snapshot.part) == (None, None, "all")
    assert len(snapshot.subjects) == 12
    assert snapshot.classes == ("bar", "disc")


def test_the_average_generator_is_loaded_ready_to_sample(trained: Path):
    generator, _ = load_generator(trained)
    assert not generator.training
    assert not any(parameter.requires_grad for parameter in generator.parameters())
    stored = load_file(trained)
    for name, tensor in generator.state_dict().items():
        torch.testing.assert_close(tensor, stored[f"G_ema.{name}"], rtol=0, atol=0)


def test_a_run_folder_stands_for_its_newest_snapshot(trained: Path):
    assert read_snapshot(trained.parent).path == trained


def test_a_generator_that_saw_test_subjects_is_refused_by_name(trained: Path):
    snapshot = read_snapshot(trained)
    unseen = ["someone", "else"]
    refuse_overlap(snapshot, unseen, snapshot.archive_sha256, "the test part of fold 1")
    with pytest.raises(
        GanError, match=rf"trained on 1 of the 3 subjects of the test part .*{snapshot.subjects[0]}"
    ):
        refuse_overlap(
            snapshot, [*unseen, snapshot.subjects[0]], snapshot.archive_sha256, "the test part of fold 1"
        )


def test_a_generator_of_another_archive_needs_explicit_allowance(trained: Path):
    snapshot = read_snapshot(trained)
    with pytest.raises(GanError, match=r"another archive .* cannot be checked whether it saw the test part"):
        refuse_overlap(snapshot, ["someone"], "0" * 64, "the test part")
    refuse_overlap(snapshot, ["someone"], "0" * 64, "the test part", allow_other_archive=True)
    with pytest.raises(GanError, match="results on them would be too good"):
        refuse_overlap(snapshot, snapshot.subjects, "0" * 64, "the test part", allow_other_archive=True)


def test_a_generator_without_recorded_subjects_is_refused(trained: Path):
    snapshot = replace(read_snapshot(trained), subjects=())
    with pytest.raises(GanError, match="expected the subjects seen in training, got none recorded"):
        refuse_overlap(snapshot, ["someone"], snapshot.archive_sha256, "the test part")


def test_a_damaged_snapshot_is_refused_in_one_sentence(trained: Path, tmp_path: Path):
    content = trained.read_bytes()
    for name, damaged in (
        ("cut", content[: len(content) // 2]),
        ("garbage", b"\xff" * 100),
        ("empty", b""),
    ):
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(damaged)
        with pytest.raises(
            GanError, match=rf"{name}.safetensors: expected a GAN snapshot, got a file that is none"
        ):
            load_generator(path)


def test_a_header_that_was_tampered_with_is_refused(trained: Path, tmp_path: Path):
    content = trained.read_bytes()
    path = tmp_path / "changed.safetensors"
    path.write_bytes(content.replace(rb"\"subjects\"", rb"\"subjekts\""))
    with pytest.raises(GanError, match="expected 'subjects' in the snapshot's header, got None"):
        read_snapshot(path)


def test_a_pickle_is_not_opened(tmp_path: Path):
    path = tmp_path / "network.pkl"
    path.write_bytes(pickle.dumps({"G_ema": None}))
    with pytest.raises(GanError, match="got a pickle, which would run whatever code it carries"):
        load_generator(path)


def test_a_missing_snapshot_says_so(tmp_path: Path):
    with pytest.raises(GanError, match="expected a GAN snapshot, got nothing there"):
        read_snapshot(tmp_path / "none.safetensors")
    with pytest.raises(GanError, match="got a folder without network-snapshot-"):
        read_snapshot(tmp_path)
    (tmp_path / "runs" / "00007-planes").mkdir(parents=True)
    (tmp_path / "runs" / "00007-planes" / "network-snapshot-000004.safetensors").touch()
    with pytest.raises(GanError, match=r"did you mean .*runs/00007-planes\?"):
        read_snapshot(tmp_path / "runs")


def test_training_starts_from_the_weights_of_a_snapshot(trained: Path, tiny: TrainConfig, tmp_path: Path):
    final = train(replace(tiny, kimg=0.008, aug="noaug", resume=str(trained), outdir=tmp_path))
    assert final.parent.name == "00000-shapes-kimg0.008-batch8".replace("shapes", "shapes-auto1-gamma1") + (
        "-noaug-resumecustom"
    )
    before, after = load_file(trained), load_file(final)
    moved = (after["G.synthesis.b4.const"] - before["G.synthesis.b4.const"]).abs().max()
    fresh = (load_file(trained)["G.synthesis.b4.const"]).abs().max()
    assert 0 < moved < 0.05 < fresh


def test_weights_of_another_size_are_refused(trained: Path, tiny: TrainConfig, tmp_path: Path):
    with pytest.raises(SettingsError, match=r"got another; with --latent-dim=16 it fits"):
        train(replace(tiny, latent_dim=8, kimg=0.008, resume=str(trained), outdir=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_options_file_has_the_official_keys_first(trained: Path):
    options = json.loads((trained.parent / "training_options.json").read_text())
    assert list(options)[:11] == [
        "num_gpus", "image_snapshot_ticks", "network_snapshot_ticks", "metrics", "random_seed",
        "training_set_kwargs", "data_loader_kwargs", "G_kwargs", "D_kwargs", "G_opt_kwargs", "D_opt_kwargs",
    ]  # fmt: skip
    assert options["total_kimg"] == 0.04


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors["G_ema.synthesis.b4.const"].fill_(torch.nan), "expected finite weights"),
        (lambda tensors: tensors.pop("G_ema.synthesis.b4.const"), "got none for G_ema.synthesis.b4.const"),
    ],
)
def test_damaged_or_missing_weights_are_named(trained: Path, tmp_path: Path, change, message):
    tensors = load_file(trained)
    change(tensors)
    with safe_open(trained, framework="pt") as opened:
        save_file(tensors, tmp_path / "a.safetensors", opened.metadata())
    with pytest.raises(GanError, match=message):
        load_generator(tmp_path / "a.safetensors")


def test_whom_the_weights_saw_before_is_not_forgotten(
    tiny: TrainConfig, trained: Path, shapes_split: Path, tmp_path: Path
):
    # A generator of all images, trained a little longer on one fold, has still seen the test part.
    everybody = train(replace(tiny, kimg=0.008, outdir=tmp_path / "all"))
    half = replace(tiny, split=shapes_split, fold=1, outdir=tmp_path / "fold")
    first = train(replace(half, kimg=0.008, resume=str(everybody)))
    assert read_snapshot(first).subjects == read_snapshot(everybody).subjects
    longer = train(replace(half, kimg=0.016, resume=str(first.parent)))
    assert len(read_snapshot(longer).subjects) == 12 > len(read_snapshot(trained).subjects)


def test_weights_that_once_saw_another_archive_cannot_be_checked(trained: Path):
    snapshot = replace(read_snapshot(trained), earlier_archives=("f" * 64,))
    with pytest.raises(GanError, match="a snapshot it started from, was trained on another archive"):
        refuse_overlap(snapshot, ["nobody"], snapshot.archive_sha256, "the test part of fold 1")
