"""Projection: the latent w whose image comes closest to a given picture.

Source: Karras et al. 2019, arXiv:1912.04958, Section 5 and Appendix D; constants of the official projector.
"""

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from extract.atomic import write_text
from extract.errors import ExtractError, SettingsError
from extract.images import read_picture
from extract.json_values import json_value
from extract.progress import Progress, no_progress
from gan.images import channels_last, prepare_outdir, save_png, tile
from gan.perceptual import PerceptualDistance, open_distance, psnr, structural_similarity
from gan.projected import write_projected_w
from gan.sampling import Sampler, open_sampler
from gan.video_file import enlarge, require_encoder, write_video

NUM_W_SAMPLES, W_SAMPLES_SEED = 10_000, 123  # latents that the mean and spread of w are measured on
LEARNING_RATE = 0.1
RAMP_DOWN, RAMP_UP = (
    0.25,
    0.05,
)  # shares of the steps in which the learning rate falls at the end, rises first
W_NOISE, W_NOISE_RAMP = (
    0.05,
    0.75,
)  # noise added to w, in spreads of w; the share of steps after which it is 0
NOISE_MAP_WEIGHT = 1e5
MIN_NOISE_MAP_SIDE = 8
VIDEO_FPS = 10
VIDEO_BATCH = 16


@dataclass(frozen=True)
class ProjectConfig:
    """How a picture is projected."""

    num_steps: int = 1000
    seed: int = 303  # of the noise maps' start and of the noise added to w
    distance: str | None = None  # vgg16, discriminator, pixels; None = vgg16 where there are weights for it
    vgg16: Path | None = None  # weights of VGG16, as torchvision saves them
    save_video: bool = True
    class_name: str | None = None

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise SettingsError(f"--num-steps must be at least 1, got {self.num_steps}")
        if not 0 <= self.seed < 2**32:
            raise SettingsError(f"--seed must be between 0 and {2**32 - 1}, got {self.seed}")


@dataclass(frozen=True)
class ProjectSummary:
    """What a call made, and how close it came."""

    outdir: Path
    distance_name: str
    distance_description: str
    start_distance: float  # of the average image
    final_distance: float  # of the projection
    psnr_db: float  # of the projection against the target
    ssim: float
    network: Path
    seconds: float


@dataclass(frozen=True)
class ProjectionStep:
    """One step of the search."""

    w: Tensor  # (w_dim,) after the step
    distance: float  # of the image before the step, its noise in w included
    noise_penalty: float


def project_image(
    network: Path,
    target: Path,
    outdir: Path,
    config: ProjectConfig | None = None,
    *,
    device: str = "cpu",
    progress: Progress = no_progress,
    overwrite: bool = False,
) -> ProjectSummary:
    """Find the w of a picture and write what the network makes of it.

    Written are `target.png`, `proj.png` (the image of that w with the network's own noise, as `gan generate
    --projected-w` makes it), `projected_w.npz` (w of shape (1, num_ws, w_dim)), `proj.mp4` (the target beside
    the image at each step) and `projection.json`.

    Raises:
        SettingsError: for wrong settings or a wrong class.
        ExtractError: if the picture cannot be read.
        GanError: if the snapshot or the weights cannot be used, a file exists and may not be overwritten, or
            no video can be written here.
    """
    started = time.monotonic()
    config = config or ProjectConfig()
    if config.save_video:
        require_encoder(outdir / "proj.mp4")  # rather than at the end of a long search
    sampler = open_sampler(network, class_name=config.class_name, device=device)
    generator = sampler.generator
    pixels = read_target(target, generator.img_resolution, generator.img_channels)  # (C, H, W)
    distance = open_distance(config.distance, sampler.snapshot, sampler.device, config.vgg16)
    snapshot_sha256 = sampler.snapshot.sha256  # now: a training that goes on may remove the file meanwhile
    names = ["target.png", "proj.png", "projected_w.npz", "projection.json"]
    prepare_outdir(outdir, names + ["proj.mp4"] * config.save_video, overwrite)

    path, distances = [], []
    for step in projection_steps(sampler, pixels, distance, num_steps=config.num_steps, seed=config.seed):
        path.append(step.w)
        distances.append(step.distance)
        progress(len(path), config.num_steps, f"distance {step.distance:.4f}")
    ws = torch.stack(path)[:, None].expand(-1, generator.num_ws, -1)  # (steps, num_ws, w_dim)

    image = sampler.synthesize(ws[-1:])[0]
    summary = ProjectSummary(
        outdir=outdir,
        distance_name=distance.name,
        distance_description=distance.description,
        start_distance=distance_of(image_of_average(sampler), pixels, distance, sampler.device),
        final_distance=distance_of(image, pixels, distance, sampler.device),
        psnr_db=psnr(image, pixels),
        ssim=structural_similarity(image, pixels),
        network=sampler.snapshot.path,
        seconds=time.monotonic() - started,
    )
    save_png(outdir / "target.png", channels_last(pixels))
    save_png(outdir / "proj.png", channels_last(image))
    write_projected_w(outdir / "projected_w.npz", ws[-1:].cpu().numpy())
    _write_record(
        outdir / "projection.json", target, config, summary, sampler.class_name, snapshot_sha256, distances
    )
    if config.save_video:
        write_video(outdir / "proj.mp4", _video_frames(sampler, ws, pixels), VIDEO_FPS)
    return summary


def read_target(path: Path, side: int, channels: int) -> np.ndarray:
    """A picture as (C, side, side) uint8: its central square, resized with Lanczos' filter.

    Gray and RGB pictures become what the network makes; EXIF orientation, transparency (laid on black),
    palettes and 16 bits (windowed to the picture's own range) are handled.

    Raises:
        ExtractError: if it is no whole picture.
    """
    if not path.is_file():
        raise ExtractError(f"{path}: expected a picture to project, got nothing there")
    pixels = read_picture(path, rgb=channels == 3)
    height, width = pixels.shape[:2]
    square = min(height, width)
    top, left = (height - square) // 2, (width - square) // 2
    cropped = Image.fromarray(pixels[top : top + square, left : left + square])
    resized = np.asarray(cropped.resize((side, side), Image.Resampling.LANCZOS))
    return resized[None].copy() if resized.ndim == 2 else resized.transpose(2, 0, 1).copy()


def projection_steps(
    sampler: Sampler, target: np.ndarray, distance: PerceptualDistance, *, num_steps: int, seed: int
) -> Iterator[ProjectionStep]:
    """Search from the average w, step by step, with Adam on one w for all layers and on the noise maps.

    The generator's own noise maps are put back at the end: what counts is w.

    Args:
        target: (C, H, W) uint8 of the network's size.
    """
    generator, device = sampler.generator, sampler.device
    average, spread = w_statistics(sampler)
    random = torch.Generator().manual_seed(seed)  # on the CPU: the same numbers on every device
    target_features = distance.features(as_input(target, device))

    maps = [buffer for name, buffer in generator.synthesis.named_buffers() if name.endswith("noise_const")]
    own_maps = [noise.clone() for noise in maps]
    w = average[None].clone().requires_grad_(True)  # (1, w_dim)
    try:
        for noise in maps:
            noise.copy_(torch.randn(noise.shape, generator=random))
            noise.requires_grad_(True)
        optimizer = torch.optim.Adam([w, *maps], betas=(0.9, 0.999), lr=LEARNING_RATE)
        for step in range(num_steps):
            share_done = step / num_steps
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * learning_rate_factor(share_done)
            shake = spread * W_NOISE * max(0.0, 1 - share_done / W_NOISE_RAMP) ** 2
            noisy = w + shake * torch.randn(w.shape, generator=random).to(device)
            ws = noisy[:, None].expand(-1, generator.num_ws, -1)
            # Unfused: the same image, and the way back takes a fifth less time on a CPU.
            image = generator.synthesis(ws, noise_mode="const", fused_modconv=False, force_fp32=True)
            apart = distance.to(target_features, image).sum()
            penalty = noise_map_penalty(maps)
            optimizer.zero_grad(set_to_none=True)
            (apart + NOISE_MAP_WEIGHT * penalty).backward()
            optimizer.step()
            with torch.no_grad():
                for noise in maps:
                    noise.sub_(noise.mean()).mul_(noise.square().mean().rsqrt())
            yield ProjectionStep(w.detach()[0].clone(), float(apart.detach()), float(penalty.detach()))
    finally:
        with torch.no_grad():
            for noise, own in zip(maps, own_maps, strict=True):
                noise.requires_grad_(False).copy_(own)


@torch.no_grad()
def w_statistics(sampler: Sampler) -> tuple[Tensor, float]:
    """The mean (w_dim,) of w over random latents, and its spread: root of the summed squared deviation."""
    generator = sampler.generator
    z = np.random.RandomState(W_SAMPLES_SEED).randn(NUM_W_SAMPLES, generator.z_dim).astype(np.float32)
    w = generator.mapping(torch.from_numpy(z).to(sampler.device), sampler.labels(NUM_W_SAMPLES))[:, 0]
    average = w.mean(dim=0)
    spread = ((w - average).square().sum() / NUM_W_SAMPLES).sqrt()
    return average, float(spread)


def learning_rate_factor(share_done: float) -> float:
    """Share of the learning rate at a share of the steps: rises linearly, stays, falls as a cosine."""
    falling = min(1.0, (1 - share_done) / RAMP_DOWN)
    return (0.5 - 0.5 * math.cos(falling * math.pi)) * min(1.0, share_done / RAMP_UP)


def noise_map_penalty(maps: list[Tensor]) -> Tensor:
    """How much neighbouring values of the noise maps resemble each other, at each scale: 0 for pure noise.

    Without it the noise would draw the picture, and w would not have to.
    """
    penalty = torch.zeros([])
    for noise in maps:
        level = noise[None, None]  # (1, 1, H, W)
        while True:
            for axis in (2, 3):
                penalty = penalty.to(noise.device) + (level * level.roll(1, dims=axis)).mean().square()
            if level.shape[2] <= MIN_NOISE_MAP_SIDE:
                break
            level = functional.avg_pool2d(level, 2)
    return penalty


def as_input(pixels: np.ndarray, device: torch.device) -> Tensor:
    """(C, H, W) uint8 to (1, C, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(pixels).to(device)[None].float() / 127.5 - 1


@torch.no_grad()
def distance_of(
    image: np.ndarray, target: np.ndarray, distance: PerceptualDistance, device: torch.device
) -> float:
    """Between two (C, H, W) uint8 images."""
    return float(distance.to(distance.features(as_input(target, device)), as_input(image, device)))


def image_of_average(sampler: Sampler) -> np.ndarray:
    """(C, H, W) uint8: what the search starts from."""
    average, _ = w_statistics(sampler)
    return sampler.synthesize(average.expand(1, sampler.generator.num_ws, -1))[0]


def _video_frames(sampler: Sampler, ws: Tensor, target: np.ndarray) -> Iterator[np.ndarray]:
    for part in ws.split(VIDEO_BATCH):
        for image in sampler.synthesize(part, batch_size=VIDEO_BATCH):
            yield enlarge(tile(np.stack([target, image]), 2, 1))


def _write_record(
    path: Path,
    target: Path,
    config: ProjectConfig,
    summary: ProjectSummary,
    class_name: str,
    snapshot_sha256: str,
    distances: list[float],
) -> None:
    record = {
        "format": "synthlabel-projection-1",
        "target": target.name,
        "settings": asdict(config) | {"vgg16": None if config.vgg16 is None else config.vgg16.name},
        "snapshot_sha256": snapshot_sha256,
        "class": class_name,
        "distance": summary.distance_name,
        "distance_description": summary.distance_description,
        "start_distance": summary.start_distance,
        "final_distance": summary.final_distance,
        "psnr_db": summary.psnr_db,
        "ssim": summary.ssim,
        "distance_by_step": distances,
    }
    write_text(path, json.dumps(json_value(record), indent=1) + "\n")
