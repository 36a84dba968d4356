"""What only a GPU can show: run with `pytest -m gpu` where there is one."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from extract.archive import open_archive
from gan.config import TrainConfig
from gan.generate import generate_archive
from gan.sampling import open_sampler
from gan.snapshot import load_generator
from gan.training import train
from vendor.stylegan2_ada import AugmentPipe

pytestmark = pytest.mark.gpu
DEVICE = "cuda"


def test_a_generator_gives_the_same_images_on_the_gpu(trained: Path):
    z, c = torch.randn(4, 16), torch.zeros(4, 0)
    images = [
        load_generator(trained, device, precision="fp32")[0](
            z.to(device), c.to(device), noise_mode="const"
        ).cpu()
        for device in ("cpu", DEVICE)
    ]
    torch.testing.assert_close(images[1], images[0], rtol=0, atol=1e-3)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_low_precision_moves_pixels_by_little(trained: Path, tmp_path: Path, precision: str):
    pixels = []
    for name in ("fp32", precision):
        generate_archive(trained, range(16), tmp_path / f"{name}.zip", device=DEVICE, precision=name)
        with open_archive(tmp_path / f"{name}.zip") as archive:
            pixels.append(np.stack([archive.read_image(row) for row in range(16)]).astype(int))
    assert np.abs(pixels[0] - pixels[1]).mean() < 2


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_training_on_the_gpu_learns_and_goes_on(tiny: TrainConfig, tmp_path: Path, precision: str):
    config = replace(tiny, device=DEVICE, precision=precision, aug="ada", cond=True, outdir=tmp_path)
    first = train(replace(config, kimg=tiny.kimg / 2))
    last = train(replace(config, resume="latest"))
    assert first.parent == last.parent
    ticks = [json.loads(line) for line in (last.parent / "stats.jsonl").read_text().splitlines()]
    losses = [tick[name]["mean"] for tick in ticks for name in ("Loss/G/loss", "Loss/D/loss")]
    assert np.isfinite(losses).all()
    assert (np.diff([tick["Progress/kimg"]["mean"] for tick in ticks]) > 0).all()


def test_fp32_training_starts_as_on_the_cpu(tiny: TrainConfig, tmp_path: Path):
    """The same weights and images; other random numbers on the device, so the first losses agree roughly."""
    losses = []
    for device in ("cpu", DEVICE):
        run_dir = train(
            replace(tiny, device=device, precision="fp32", aug="noaug", kimg=0.008, outdir=tmp_path / device)
        ).parent
        tick = json.loads((run_dir / "stats.jsonl").read_text().splitlines()[0])
        losses.append([tick[name]["mean"] for name in ("Loss/G/loss", "Loss/D/loss")])
    np.testing.assert_allclose(losses[1], losses[0], atol=0.3)


def test_every_augmentation_is_the_same_on_the_gpu():
    images = torch.rand(4, 3, 32, 32) * 2 - 1
    everything = dict.fromkeys(
        ("xflip", "rotate90", "xint", "scale", "rotate", "aniso", "xfrac", "brightness", "contrast",
         "lumaflip", "hue", "saturation", "imgfilter"), 1
    )  # fmt: skip
    pipe = AugmentPipe(**everything)
    pipe.p.fill_(1.0)
    ours = pipe(images, debug_percentile=0.7)
    theirs = pipe.to(DEVICE)(images.to(DEVICE), debug_percentile=0.7).cpu()
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-3)


def test_sampling_on_the_gpu_does_not_depend_on_the_other_seeds(trained: Path):
    sampler = open_sampler(trained, device=DEVICE, precision="fp32")
    together = np.concatenate([pixels for _, pixels in sampler.batches(range(6), 1.0, "const", 4)])
    alone = np.concatenate([pixels for _, pixels in sampler.batches([5], 1.0, "const", 4)])
    assert np.abs(together[5].astype(int) - alone[0]).max() <= 1
