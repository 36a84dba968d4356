"""A network carries over to other colours and classes, and first does what it did."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from extract.archive import file_sha256
from extract.errors import SettingsError
from gan.config import TrainConfig, describe
from gan.job import Job
from gan.networks import choose_device
from gan.official_files import find_network
from gan.planning import plan
from gan.preparation import open_data, prepare_job
from gan.snapshot import read_snapshot, refuse_overlap
from gan.training import train
from tests.gan.conftest import write_shapes
from tests.gan.official_files import official_content, write
from tests.gan.test_official import networks_of, settings_of

SAME_SIZE: dict[str, Any] = {"channel_base": 64, "channel_max": 8, "latent_dim": 8, "aug": "noaug"}


@pytest.fixture(scope="module")
def rgb_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shapes(tmp_path_factory.mktemp("rgb") / "rgb.zip", channels=3)


def official_file(path: Path, channels: int = 1, c_dim: int = 0, **own: Any) -> tuple[Path, dict[str, Any]]:
    """A network file and the networks that are in it."""
    settings = settings_of(channels, c_dim, **own)
    networks = networks_of(settings)
    path.write_bytes(write(official_content(networks, settings, trace=str(path.with_suffix(".ran")))))
    return path, networks


def job_from(tiny: TrainConfig, resume: Path | str, **options: Any) -> Job:
    """A training at its first iteration, its networks ready to compute."""
    config = replace(tiny, resume=str(resume), **{**SAME_SIZE, **options})
    job = prepare_job(config, open_data(config, lambda *_: None), choose_device("cpu"))
    for network in (job.players.G, job.players.D):
        network.eval()
    return job


def images_of(network, z: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    return network(z, c, noise_mode="const")


Z = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
NO_LABEL = torch.zeros(4, 0)


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()) + 1e-6)


def test_grey_of_an_rgb_network_is_the_mean_of_its_colours(tiny: TrainConfig, tmp_path: Path):
    source, networks = official_file(tmp_path / "rgb.pkl", channels=3)
    job = job_from(tiny, source)
    for ours, theirs in ((job.players.G, networks["G"]), (job.G_ema, networks["G_ema"])):
        close(images_of(ours, Z, NO_LABEL), images_of(theirs, Z, NO_LABEL).mean(1, keepdim=True))
    grey = torch.randn(4, 1, 16, 16)
    close(job.players.D(grey), networks["D"](grey.repeat(1, 3, 1, 1)))
    assert "  G: from 3 to 1 colour channels, the mean of its colours" in job.start_notes


def test_rgb_of_a_grey_network_is_its_grey_in_each_colour(
    tiny: TrainConfig, rgb_shapes: Path, tmp_path: Path
):
    source, networks = official_file(tmp_path / "grey.pkl")
    job = job_from(tiny, source, data=rgb_shapes)
    close(images_of(job.players.G, Z, NO_LABEL), images_of(networks["G"], Z, NO_LABEL).repeat(1, 3, 1, 1))
    images = torch.randn(4, 3, 16, 16)
    close(job.players.D(images), networks["D"](images.mean(1, keepdim=True)))


@pytest.mark.parametrize("architecture", ["orig", "resnet"])
def test_colours_carry_over_with_each_discriminator(tiny: TrainConfig, architecture: str, tmp_path: Path):
    source, networks = official_file(tmp_path / "a.pkl", channels=3, D={"architecture": architecture})
    cifar = {"cfg": "cifar"} if architecture == "orig" else {}
    job = job_from(tiny, source, **cifar)
    grey = torch.randn(4, 1, 16, 16)
    job.players.D.b4.mbstd.group_size = networks["D"].b4.mbstd.group_size
    close(job.players.D(grey), networks["D"](grey.repeat(1, 3, 1, 1)))


def test_a_network_without_classes_gets_labels_of_little_effect(tiny: TrainConfig, tmp_path: Path):
    source, networks = official_file(tmp_path / "a.pkl")
    job = job_from(tiny, source, cond=True)
    first = job.players.G.mapping.fc0.weight  # (w, z and label)
    assert 0.15 < float(first[:, 8:].std() / first[:, :8].std()) < 0.35
    assert torch.equal(first, job.G_ema.mapping.fc0.weight) is False  # G and G_ema of the file differ
    assert torch.equal(first[:, 8:], job.G_ema.mapping.fc0.weight[:, 8:])
    first[:, 8:] = 0  # without the label it is the network that it was
    for label in (0, 1):
        c = torch.eye(2)[[label] * 4]
        close(images_of(job.players.G, Z, c), images_of(networks["G"], Z, NO_LABEL))
    assert "  G: now with 2 classes, at first much alike; their embedding is fresh" in job.start_notes
    fresh = next(line for line in job.start_notes if "freshly drawn" in line)
    assert "G.mapping.embed.weight" in fresh


def test_a_discriminator_with_new_classes_says_of_all_together_what_it_said(
    tiny: TrainConfig, tmp_path: Path
):
    source, networks = official_file(tmp_path / "a.pkl")
    job = job_from(tiny, source, cond=True)
    images = torch.randn(4, 1, 16, 16)
    each = torch.stack([job.players.D(images, torch.eye(2)[[label] * 4]) for label in (0, 1)])
    close(each.mean(0), networks["D"](images))
    assert float((each[0] - each[1]).abs().min()) > 0  # and it tells them apart


def test_a_network_with_classes_becomes_their_average(tiny: TrainConfig, tmp_path: Path):
    source, networks = official_file(tmp_path / "a.pkl", c_dim=3)
    for network in (networks["G"], networks["G_ema"]):  # all classes alike: the average is exact
        network.mapping.embed.weight.copy_(network.mapping.embed.weight[:, :1].expand(-1, 3))
    settings = settings_of(1, 3)
    source.write_bytes(write(official_content(networks, settings, trace=str(tmp_path / "ran"))))
    job = job_from(tiny, source)
    close(images_of(job.players.G, Z, NO_LABEL), images_of(networks["G"], Z, torch.eye(3)[[0, 1, 2, 0]]))
    images = torch.randn(4, 1, 16, 16)
    each = [networks["D"](images, torch.eye(3)[[label] * 4]) for label in range(3)]
    close(job.players.D(images), torch.stack(each).mean(0))


def test_another_number_of_classes_has_a_fresh_embedding(tiny: TrainConfig, tmp_path: Path):
    source, networks = official_file(tmp_path / "a.pkl", c_dim=5)
    job = job_from(tiny, source, cond=True)
    assert job.players.G.mapping.embed.weight.shape == (8, 2)
    torch.testing.assert_close(job.players.G.mapping.fc0.weight, networks["G"].mapping.fc0.weight)
    torch.testing.assert_close(job.players.G.mapping.embed.weight, job.G_ema.mapping.embed.weight)
    notes = "\n".join(job.start_notes)
    assert "G: from 5 to 2 classes, 0 of them of a name that it knew" in notes
    assert "freshly drawn: G.mapping.embed.bias" in notes


def test_as_many_numbered_classes_are_taken_in_their_order(tiny: TrainConfig, tmp_path: Path):
    source, networks = official_file(tmp_path / "a.pkl", c_dim=2)
    job = job_from(tiny, source, cond=True)
    c = torch.eye(2)[[0, 1, 0, 1]]
    close(images_of(job.players.G, Z, c), images_of(networks["G"], Z, c))
    assert "  its classes have no names; taken in the order bar, disc" in job.start_notes


def test_classes_of_the_same_name_are_found_again(
    tiny: TrainConfig, trained_conditional: Path, tmp_path: Path
):
    from extract.archive import ArchiveWriter, ImageRecord, open_archive

    other = tmp_path / "other.zip"  # classes disc, ring: one is known, at another place
    with open_archive(tiny.data) as archive, ArchiveWriter(other) as writer:
        for index in range(len(archive)):
            label = "ring" if archive.labels[index] == 0 else "disc"
            writer.add(archive.read_image(index)[0], ImageRecord(label=label, subject=f"t{index}"))
    job = job_from(
        tiny, trained_conditional, data=other, cond=True, channel_base=128, channel_max=16, latent_dim=16
    )
    before = load_file(trained_conditional)["G.mapping.embed.weight"]  # classes bar, disc
    torch.testing.assert_close(job.players.G.mapping.embed.weight[:, 0], before[:, 1])
    assert not torch.equal(job.players.G.mapping.embed.weight[:, 1], before[:, 0])
    assert "G: from 2 to 2 classes, 1 of them of a name that it knew" in "\n".join(job.start_notes)


def test_the_depth_of_the_mapping_network_follows_the_start(tiny: TrainConfig, tmp_path: Path):
    source, networks = official_file(tmp_path / "a.pkl", G={"num_mapping_layers": 5})
    job = job_from(tiny, source)  # the preset has 2
    assert job.recipe.mapping_layers == 5
    close(images_of(job.players.G, Z, NO_LABEL), images_of(networks["G"], Z, NO_LABEL))


@pytest.mark.parametrize("frozen_there", [0, 3])
def test_frozen_layers_keep_the_weights_they_came_with(tiny: TrainConfig, frozen_there: int, tmp_path: Path):
    source, networks = official_file(tmp_path / "a.pkl", D={"freeze_layers": frozen_there})
    config = replace(tiny, resume=str(source), freezed=2, kimg=0.016, outdir=tmp_path / "runs", **SAME_SIZE)
    after = load_file(train(config))
    before = networks["D"].state_dict()
    for name in ("b16.fromrgb.weight", "b16.conv0.weight", "b16.conv0.bias"):
        assert torch.equal(after[f"D.{name}"], before[name])
    for name in ("b16.conv1.weight", "b16.skip.weight", "b8.conv0.weight"):
        assert not torch.equal(after[f"D.{name}"], before[name])


def test_a_run_from_an_official_file_says_so_and_is_never_taken_for_clean(
    tiny: TrainConfig, shapes_split: Path, tmp_path: Path
):
    source, _ = official_file(tmp_path / "a.pkl", channels=3)
    config = replace(
        tiny,
        split=shapes_split,
        fold=1,
        resume=str(source),
        kimg=0.008,
        outdir=tmp_path / "runs",
        **SAME_SIZE,
    )
    _, text = plan(config, probe_sec=0)
    assert "G: from 3 to 1 colour channels" in text
    final = train(config)
    assert not source.with_suffix(".ran").exists()
    assert "resumecustom" in final.parent.name
    log = (final.parent / "log.txt").read_text()
    assert f"tensors of G, D and G_ema copied from {source}" in log
    assert "G: from 3 to 1 colour channels" in log
    snapshot = read_snapshot(final)
    assert snapshot.earlier_archives == ("imported:" + file_sha256(source),)
    with pytest.raises(Exception, match="a snapshot it started from, was imported from an official"):
        refuse_overlap(snapshot, ["nobody"], snapshot.archive_sha256, "the test part of fold 1")
    longer = train(replace(config, resume=str(final.parent), kimg=0.016))
    assert read_snapshot(longer).earlier_archives == snapshot.earlier_archives


@pytest.mark.parametrize(
    ("own", "options", "message"),
    [
        ({}, {"channel_max": 16}, "with --channel-base=64 --channel-max=8 it fits"),
        ({}, {"latent_dim": 16}, "with --latent-dim=8 it fits"),
        ({"D": {"architecture": "orig"}}, {}, "with --cfg=cifar it fits"),
        ({}, {"cfg": "cifar"}, "with another --cfg than cifar it fits"),
        ({"G": {"architecture": "resnet"}}, {}, "expected architecture skip in G, got resnet"),
        ({"D": {"architecture": "skip"}}, {}, "architecture resnet or orig, got skip"),
        ({"G": {"use_noise": False}}, {}, "expected use_noise True in G, got False"),
        ({"G": {"resample_filter": [1, 2, 1]}}, {}, r"expected resample_filter \[1, 3, 3, 1\] in G"),
        ({"G": {"w_dim": 4}}, {}, "expected z and w of one size, got 8 and 4"),
        ({"G": {"img_resolution": 32}, "D": {"img_resolution": 32}}, {},
         "makes images of 32 pixels, --data has 16; prepare an archive of 32 pixels"),
        ({"G": {"img_channels": 2}, "D": {"img_channels": 2}}, {}, "images of 2 channels, --data has 1"),
    ],
)  # fmt: skip
def test_a_network_of_another_size_is_refused_with_the_flags_that_fit(
    own: dict, options: dict, message: str, tiny: TrainConfig, tmp_path: Path
):
    source, _ = official_file(tmp_path / "a.pkl", **own)
    with pytest.raises(SettingsError, match=message) as caught:
        job_from(tiny, source, **options)
    assert str(caught.value).startswith(f"--resume={source}: ")


# Names and addresses


def test_published_names_are_found_in_the_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(tmp_path / "ours"))
    monkeypatch.setenv("DNNLIB_CACHE_DIR", str(tmp_path / "theirs"))
    with pytest.raises(
        SettingsError, match=r"--resume=ffhq256: expected .* nothing is downloaded: get ffhq-res256"
    ):
        find_network("ffhq256", "--resume=")
    downloads = tmp_path / "theirs" / "downloads"
    downloads.mkdir(parents=True)
    theirs = downloads / "0123456789abcdef0123456789abcdef_ffhq-res256-mirror-paper256-noaug.pkl"
    theirs.write_bytes(b"")
    assert find_network("ffhq256") == theirs
    ours = tmp_path / "ours" / "networks" / "ffhq256.pkl"
    ours.parent.mkdir(parents=True)
    ours.write_bytes(b"")
    assert find_network("ffhq256") == ours


def test_addresses_are_files_or_refused(tmp_path: Path):
    assert find_network(f"file://{tmp_path}/a%20b.pkl") == tmp_path / "a b.pkl"
    for address in ("https://example.org/nets/x.pkl?version=1", "HTTP://example.org/nets/x.pkl"):
        with pytest.raises(SettingsError, match=r"nothing is downloaded: get x\.pkl yourself, and name"):
            find_network(address, "--resume=")


def test_the_run_folder_carries_a_published_name(tiny: TrainConfig):
    assert describe(replace(tiny, resume="ffhq256"), "faces", None).endswith("-resumeffhq256")
