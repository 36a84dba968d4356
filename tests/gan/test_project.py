"""Projection: a picture that the network made is found again, and what the search may not do."""

import csv
import io
import json
import math
import struct
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import gan.perceptual
import gan.video_file
from extract.errors import ExtractError, SettingsError
from gan.config import TrainConfig
from gan.errors import GanError
from gan.generate import generate_png_files
from gan.perceptual import (
    VGG16_STAGES,
    Vgg16Features,
    open_distance,
    psnr,
    read_vgg16,
    structural_similarity,
)
from gan.project import (
    ProjectConfig,
    learning_rate_factor,
    noise_map_penalty,
    project_image,
    projection_steps,
    read_target,
    w_statistics,
)
from gan.project_folder import project_folder
from gan.projected import generate_projected_png_files
from gan.sampling import open_sampler
from gan.snapshot import FORMAT, load_weights, read_header, read_snapshot, write_tensors
from gan.training import train
from tests.gan.conftest import write_shapes

QUICK = ProjectConfig(num_steps=20, distance="discriminator", save_video=False)


@pytest.fixture(scope="module")
def made(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture that the network made, of seed 5."""
    folder = tmp_path_factory.mktemp("made")
    generate_png_files(trained, [5], folder)
    return folder / "seed0005.png"


@pytest.fixture(autouse=True)
def no_downloaded_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Whatever VGG16 this machine may have: the default is the discriminator here."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))


@pytest.mark.parametrize(("distance", "gain_db"), [("discriminator", 0.0), ("pixels", 4.0)])
def test_a_picture_that_the_network_made_is_found_again(
    trained: Path, made: Path, tmp_path: Path, distance: str, gain_db: float
):
    """The discriminator of a training of seconds judges little; a real one's does (docs/gan-latent.md)."""
    config = ProjectConfig(num_steps=100, distance=distance, save_video=False)
    summary = project_image(trained, made, tmp_path, config)
    sampler = open_sampler(trained)
    target = read_target(made, 16, 1)
    average, _ = w_statistics(sampler)
    start = sampler.synthesize(average.expand(1, 6, -1))[0]
    assert summary.distance_name == distance
    assert summary.final_distance < 0.35 * summary.start_distance
    assert summary.psnr_db > psnr(start, target) + gain_db
    with Image.open(tmp_path / "proj.png") as picture:
        assert psnr(np.asarray(picture)[None], target) == pytest.approx(summary.psnr_db)


def test_the_latents_give_the_projected_picture_again(trained: Path, made: Path, tmp_path: Path):
    project_image(trained, made, tmp_path / "a", QUICK)
    with np.load(tmp_path / "a" / "projected_w.npz") as arrays:
        ws = arrays["w"]
    assert ws.shape == (1, 6, 16) and ws.dtype == np.float32
    assert (ws == ws[:, :1]).all()  # one w for all layers
    generate_projected_png_files(trained, tmp_path / "a" / "projected_w.npz", tmp_path / "b")
    assert (tmp_path / "b" / "proj00.png").read_bytes() == (tmp_path / "a" / "proj.png").read_bytes()


def test_the_seed_decides_the_result(trained: Path, made: Path, tmp_path: Path):
    for name, seed in (("a", 303), ("b", 303), ("c", 304)):
        project_image(trained, made, tmp_path / name, replace(QUICK, num_steps=5, seed=seed))
    files = {name: (tmp_path / name / "projected_w.npz").read_bytes() for name in "abc"}
    assert files["a"] == files["b"] != files["c"]


def test_the_record_tells_distance_by_step_settings_and_snapshot(trained: Path, made: Path, tmp_path: Path):
    project_image(trained, made, tmp_path, replace(QUICK, num_steps=7))
    record = json.loads((tmp_path / "projection.json").read_text())
    assert len(record["distance_by_step"]) == 7
    assert record["settings"]["num_steps"] == 7 and record["settings"]["seed"] == 303
    assert record["snapshot_sha256"] == read_snapshot(trained).sha256
    assert (record["target"], record["distance"]) == ("seed0005.png", "discriminator")


def test_the_video_shows_the_target_beside_each_step(trained: Path, made: Path, tmp_path: Path):
    project_image(trained, made, tmp_path, ProjectConfig(num_steps=12))
    with av.open(str(tmp_path / "proj.mp4")) as container:
        rate = container.streams.video[0].average_rate
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
    assert (len(frames), rate, frames[0].shape) == (12, 10, (256, 512))
    target = read_target(made, 16, 1)[0].astype(int)
    shown = frames[-1][:, :256].reshape(16, 16, 16, 16).mean(axis=(1, 3))
    assert np.abs(shown - target).mean() < 6


def test_the_search_starts_at_the_average_w_and_leaves_the_network_as_it_was(trained: Path, made: Path):
    sampler = open_sampler(trained)
    before = {name: tensor.clone() for name, tensor in sampler.generator.state_dict().items()}
    average, spread = w_statistics(sampler)
    z = torch.from_numpy(np.random.RandomState(123).randn(10_000, 16).astype(np.float32))
    w = sampler.generator.mapping(z, torch.zeros([10_000, 0]))[:, 0].double()
    np.testing.assert_allclose(average, w.mean(0), atol=1e-5)
    assert spread == pytest.approx(math.sqrt(float(((w - w.mean(0)) ** 2).sum()) / 10_000), rel=1e-4)

    distance = open_distance("pixels", sampler.snapshot, sampler.device)
    steps = list(projection_steps(sampler, read_target(made, 16, 1), distance, num_steps=3, seed=1))
    torch.testing.assert_close(steps[0].w, average)  # the learning rate starts at 0
    assert (steps[2].w != average).any()
    for name, tensor in sampler.generator.state_dict().items():
        assert torch.equal(tensor, before[name]) and not tensor.requires_grad, name


def test_the_learning_rate_rises_stays_and_falls():
    factors = [learning_rate_factor(share) for share in (0, 0.025, 0.05, 0.75, 0.875, 1)]
    assert factors == pytest.approx([0, 0.5, 1, 1, 0.5, 0])


def test_the_noise_penalty_sees_likeness_at_every_scale():
    random = torch.Generator().manual_seed(0)
    pure = torch.randn([32, 32], generator=random)
    coarse = torch.randn([8, 8], generator=random).repeat_interleave(4, 0).repeat_interleave(4, 1)
    assert noise_map_penalty([pure]) < 0.02 < noise_map_penalty([coarse])
    tiny = torch.tensor(
        [[1.0, 2.0], [3.0, 4.0]]
    )  # products with the neighbour in y: 3, 8, 3, 8; in x: 2, 2, 12, 12
    assert float(noise_map_penalty([tiny])) == pytest.approx(5.5**2 + 7**2)


def test_conditional_networks_are_searched_in_a_class(trained_conditional: Path, made: Path, tmp_path: Path):
    with pytest.raises(SettingsError, match="Must specify class label with --class"):
        project_image(trained_conditional, made, tmp_path / "a", QUICK)
    project_image(trained_conditional, made, tmp_path / "a", replace(QUICK, num_steps=2, class_name="disc"))
    assert json.loads((tmp_path / "a" / "projection.json").read_text())["class"] == "disc"


def test_networks_of_colors_project_pictures_of_colors(tiny: TrainConfig, tmp_path: Path):
    data = write_shapes(tmp_path / "rgb.zip", channels=3)
    network = train(replace(tiny, data=data, kimg=0.008, outdir=tmp_path / "runs"))
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    project_image(network, tmp_path / "a.png", tmp_path / "out", replace(QUICK, num_steps=2, save_video=True))
    for name in ("target.png", "proj.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert (picture.mode, picture.size) == ("RGB", (16, 16))


def test_targets_are_the_middle_square_resized_to_what_the_network_makes(tmp_path: Path):
    wide = np.zeros((16, 40), np.uint8)
    wide[:, 12:28] = np.random.default_rng(0).integers(0, 256, (16, 16))
    Image.fromarray(wide).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_target(tmp_path / "a.png", 16, 1)[0], wide[:, 12:28])
    assert read_target(tmp_path / "a.png", 8, 3).shape == (3, 8, 8)
    deep = (np.arange(256).reshape(16, 16) * 200).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    target = read_target(tmp_path / "deep.png", 16, 1)[0]
    assert target.min() == 0 and target.max() == 255 and (np.diff(target.ravel().astype(int)) >= 0).all()
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(ExtractError, match=r"bad\.png: expected a whole picture"):
        read_target(tmp_path / "bad.png", 16, 1)
    with pytest.raises(ExtractError, match="expected a picture to project, got nothing there"):
        read_target(tmp_path / "gone.png", 16, 1)


def test_what_cannot_end_well_is_refused_before_the_search(
    trained: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "proj.png").write_bytes(b"mine")
    with pytest.raises(GanError, match=r"proj\.png exist already"):
        project_image(trained, made, tmp_path / "out", QUICK)
    for settings, message in (
        ({"num_steps": 0}, "--num-steps must be at least 1"),
        ({"seed": -1}, "--seed must be between 0 and"),
    ):
        with pytest.raises(SettingsError, match=message):
            replace(QUICK, **settings)
    for settings, message in (
        ({"distance": "lpips"}, "--distance must be one of vgg16, discriminator, pixels"),
        ({"distance": "vgg16"}, "--distance=vgg16 needs the weights of VGG16"),
        ({"distance": "pixels", "vgg16": made}, "--vgg16 is of use with --distance=vgg16 alone"),
    ):
        with pytest.raises(SettingsError, match=message):
            project_image(trained, made, tmp_path / "new", replace(QUICK, **settings))
    monkeypatch.setattr(gan.video_file, "CODEC", "libnone")
    with pytest.raises(GanError, match="expected the encoder libnone"):
        project_image(trained, made, tmp_path / "new", replace(QUICK, save_video=True))
    assert not (tmp_path / "new").exists()


def test_each_picture_of_a_folder_is_projected(trained: Path, made: Path, tmp_path: Path):
    pictures = tmp_path / "pictures"
    (pictures / "x").mkdir(parents=True)
    (pictures / "a.png").write_bytes(made.read_bytes())
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 16), np.uint8)).save(
        pictures / "x" / "b.png"
    )
    config = replace(QUICK, num_steps=10)
    summary = project_folder(trained, pictures, tmp_path / "out", config)
    with open(summary.table, newline="") as handle:
        lines = list(csv.DictReader(handle))
    assert [line["picture"] for line in lines] == ["a.png", "x/b.png"]
    assert float(lines[0]["psnr_db"]) > float(
        lines[1]["psnr_db"]
    )  # the network's own comes nearer than noise
    alone = project_image(trained, pictures / "a.png", tmp_path / "alone", config)
    assert float(lines[0]["psnr_db"]) == pytest.approx(alone.psnr_db, rel=1e-5)
    generate_projected_png_files(trained, tmp_path / "out" / "projected_w.npz", tmp_path / "again")
    for number, folder in enumerate(("a", "x/b")):
        again = (tmp_path / "again" / f"proj{number:02d}.png").read_bytes()
        with (
            Image.open(io.BytesIO(again)) as first,
            Image.open(tmp_path / "out" / folder / "proj.png") as second,
        ):
            assert np.abs(np.asarray(first).astype(int) - np.asarray(second)).max() <= 1
    (pictures / "a.jpg").write_bytes(b"")
    with pytest.raises(GanError, match="expected pictures of different names, got two called a"):
        project_folder(trained, pictures, tmp_path / "new", config)
    assert not (tmp_path / "new").exists()


def test_a_snapshot_without_discriminator_can_be_searched_by_pixels(
    trained: Path, made: Path, tmp_path: Path
):
    weights = {name: tensor for name, tensor in load_weights(trained).items() if not name.startswith("D.")}
    lonely = tmp_path / "lonely.safetensors"
    write_tensors(lonely, weights, read_header(trained, FORMAT, "a GAN snapshot"))
    with pytest.raises(GanError, match="got the generator alone; take --distance=pixels or vgg16"):
        project_image(lonely, made, tmp_path / "a", QUICK)
    assert not (tmp_path / "a").exists()
    summary = project_image(lonely, made, tmp_path / "a", replace(QUICK, num_steps=2, distance="pixels"))
    assert summary.distance_name == "pixels"


def test_vgg16_needs_images_that_it_can_halve(trained: Path, tmp_path: Path):
    snapshot = replace(read_snapshot(trained), image_shape=(1, 8, 8))
    with pytest.raises(
        SettingsError, match="needs images of at least 16 pixels a side, the network makes 8x8"
    ):
        open_distance(None, snapshot, torch.device("cpu"), tmp_path / "vgg16.pth")


@pytest.fixture
def narrow_vgg16(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """VGG16's layers under their names with few channels, as torchvision saves them: with its classifier."""
    monkeypatch.setattr(gan.perceptual, "VGG16_STAGES", tuple((2,) * len(stage) for stage in VGG16_STAGES))
    torch.manual_seed(0)
    weights = {**Vgg16Features().state_dict(), "classifier.0.weight": torch.zeros(1)}
    torch.save(weights, tmp_path / "vgg16-tiny.pth")
    return tmp_path / "vgg16-tiny.pth"


def test_vgg16_is_the_default_where_its_weights_are(trained: Path, tmp_path: Path, narrow_vgg16: Path):
    snapshot, cpu = read_snapshot(trained), torch.device("cpu")
    assert open_distance(None, snapshot, cpu).name == "discriminator"
    given = open_distance(None, snapshot, cpu, narrow_vgg16)
    assert given.name == "vgg16" and "not LPIPS" in given.description
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    narrow_vgg16.rename(tmp_path / "hub" / "checkpoints" / "vgg16-397923af.pth")
    assert open_distance(None, snapshot, cpu).name == "vgg16"


def test_vgg16_features_are_unit_vectors_of_the_five_stages(narrow_vgg16: Path):
    network = read_vgg16(narrow_vgg16)
    images = torch.randn([2, 1, 32, 32], generator=torch.Generator().manual_seed(1)).clamp(-1, 1)
    x = ((images.repeat(1, 3, 1, 1) + 1) / 2 - network.mean) / network.std
    expected = []
    index = 0
    for stage in VGG16_STAGES:
        for _ in stage:
            layer = network.features[index]
            assert isinstance(layer, nn.Conv2d)
            x = nn.functional.conv2d(x, layer.weight, layer.bias, padding=1).relu()
            index += 2
        expected.append(x / (x.square().sum(1, keepdim=True) + 1e-10).sqrt() / math.sqrt(5 * x[0, 0].numel()))
        x = nn.functional.max_pool2d(x, 2)
        index += 1
    expected_rows = torch.cat([part.flatten(1) for part in expected], 1)
    torch.testing.assert_close(network(images), expected_rows)


def test_weights_of_vgg16_have_torchvisions_names():
    names = list(Vgg16Features().state_dict())
    convolutions = [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]
    assert names == [f"features.{index}.{part}" for index in convolutions for part in ("weight", "bias")]


class Hostile:
    def __reduce__(self):
        return print, ("this must not be run",)


def test_files_that_are_not_vgg16_are_refused_and_not_executed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    torch.save({"features.0.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(GanError, match=r"expected the weights of VGG16 .* for features\.0\.weight"):
        read_vgg16(tmp_path / "other.pth")
    torch.save({"a": Hostile()}, tmp_path / "hostile.pth")
    (tmp_path / "noise.pth").write_bytes(struct.pack(">I", 77) * 9)
    for name in ("hostile.pth", "noise.pth", "missing.pth"):
        with pytest.raises(GanError, match=r"expected the weights of VGG16 .* cannot be read"):
            read_vgg16(tmp_path / name)
    assert "must not be run" not in capsys.readouterr().out


def test_similarity_is_1_for_equal_pictures_and_falls_with_noise():
    random = np.random.default_rng(0)
    picture = random.integers(0, 256, (1, 32, 32)).astype(np.uint8)
    noisy = np.clip(picture + random.normal(0, 40, picture.shape), 0, 255).astype(np.uint8)
    assert psnr(picture, picture) == math.inf
    assert structural_similarity(picture, picture) == pytest.approx(1)
    assert 0.2 < structural_similarity(noisy, picture) < 0.95
    assert psnr(np.zeros((1, 4, 4), np.uint8), np.full((1, 4, 4), 255, np.uint8)) == pytest.approx(0)
