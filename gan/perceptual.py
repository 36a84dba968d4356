"""How far apart two images look: distances between features, for projecting images into a generator.

The official projector uses LPIPS, whose learned network is not part of this program. In its place stand plain
features of VGG16 where the user has its weights, features of the snapshot's own discriminator, or pixels.

Source: Zhang et al. 2018, arXiv:1801.03924, Section 3 (features normalised at each place, then compared; here
without the learned weights); Simonyan and Zisserman 2014, arXiv:1409.1556, Table 1, D (VGG16).
"""

import math
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn
from torch.nn import functional

from extract.errors import SettingsError, name_some
from gan.errors import GanError
from gan.networks import build_discriminator
from gan.snapshot import Snapshot, load_weights
from vendor.stylegan2_ada import Discriminator

DISTANCES = ("vgg16", "discriminator", "pixels")
MAX_SIDE = 256  # pixels; larger images are averaged down to this before their features are taken
MIN_PYRAMID_SIDE = 8
MIN_VGG16_SIDE = 16  # it halves the image four times
VGG16_STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
VGG16_FILE_PATTERN = "vgg16-*.pth"  # as torchvision names its weights in torch's own folder


@dataclass(frozen=True)
class PerceptualDistance:
    """A named distance: the squared Euclidean one between feature vectors."""

    name: str  # one of DISTANCES
    description: str  # for people: what is compared
    features: Callable[[Tensor], Tensor]  # (N, C, H, W) in [-1, 1] -> (N, F)

    def to(self, target_features: Tensor, images: Tensor) -> Tensor:
        """(N,): distances of images (N, C, H, W) from features (1, F)."""
        return (self.features(images) - target_features).square().sum(dim=1)


def open_distance(
    name: str | None, snapshot: Snapshot, device: torch.device, vgg16: Path | None = None
) -> PerceptualDistance:
    """The distance asked for; by default VGG16 where its weights are found, else the discriminator.

    Args:
        name: one of DISTANCES, or None.
        vgg16: weights of VGG16 in torchvision's layout; None = look in torch's folder of downloaded weights.

    Raises:
        SettingsError: for an unknown name, or VGG16 without weights.
        GanError: if the weights cannot be read.
    """
    if name not in (*DISTANCES, None):
        raise SettingsError(f"--distance must be one of {', '.join(DISTANCES)}, got '{name}'")
    if vgg16 is not None and name not in ("vgg16", None):
        raise SettingsError(f"--vgg16 is of use with --distance=vgg16 alone, got --distance={name}")
    is_large_enough = min(snapshot.image_shape[1:]) >= MIN_VGG16_SIDE
    if (name == "vgg16" or vgg16 is not None) and not is_large_enough:
        raise SettingsError(
            f"--distance=vgg16 needs images of at least {MIN_VGG16_SIDE} pixels a side, the network makes "
            f"{snapshot.image_shape[2]}x{snapshot.image_shape[1]}; take --distance=discriminator"
        )
    weights = vgg16 or (find_vgg16() if name in ("vgg16", None) and is_large_enough else None)
    if name == "vgg16" and weights is None:
        raise SettingsError(
            "--distance=vgg16 needs the weights of VGG16: give their file with --vgg16 (a state dict as "
            "torchvision saves it), or take --distance=discriminator"
        )
    if weights is not None:
        network = read_vgg16(weights).to(device)
        return PerceptualDistance("vgg16", f"VGG16 features ({weights.name}), not LPIPS", network)
    if name == "pixels":
        return PerceptualDistance("pixels", "pixels at several resolutions", pyramid_features)
    discriminator = load_discriminator(snapshot, device)
    return PerceptualDistance(
        "discriminator",
        "features of the snapshot's own discriminator",
        lambda images: discriminator_features(discriminator, images),
    )


def find_vgg16() -> Path | None:
    """VGG16 among the weights that torch has downloaded before, if it is there; nothing is fetched."""
    return next(iter(sorted(Path(torch.hub.get_dir(), "checkpoints").glob(VGG16_FILE_PATTERN))), None)


class Vgg16Features(nn.Module):
    """The convolutions of VGG16 under torchvision's names, and their activations as one vector an image."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        self.stage_ends: list[int] = []  # the last ReLU of each stage
        channels = 3
        for stage in VGG16_STAGES:
            for width in stage:
                layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
                channels = width
            self.stage_ends.append(len(layers) - 1)
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers[:-1])
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 1 or 3, H, W) in [-1, 1], at least 16 px a side, to (N, F)."""
        x = limit_side(images)
        if x.shape[1] == 1:
            x = x.repeat(1, 3, 1, 1)
        x = ((x + 1) / 2 - self.mean) / self.std
        stages = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in self.stage_ends:
                stages.append(x)
        return joined_features(stages)


def read_vgg16(path: Path) -> Vgg16Features:
    """VGG16 from a state dict (.pth read without executing anything from it, or .safetensors).

    Raises:
        GanError: if the file is none or is for another network.
    """
    expected = "the weights of VGG16 as torchvision saves them"
    try:
        if path.suffix.lower() == ".safetensors":
            weights: Any = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        first_line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise GanError(
            f"{path}: expected {expected}, got a file that cannot be read: {first_line}"
        ) from error
    network = Vgg16Features()
    wanted = network.state_dict()
    if not isinstance(weights, dict):
        raise GanError(f"{path}: expected {expected}, got {type(weights).__name__}")
    wrong = [
        name
        for name, tensor in wanted.items()
        if not isinstance(weights.get(name), Tensor) or weights[name].shape != tensor.shape
    ]
    if wrong:
        raise GanError(f"{path}: expected {expected}, got none, or of another size, for {name_some(wrong)}")
    network.load_state_dict({name: weights[name].float() for name in wanted})
    return network.eval().requires_grad_(False)


def load_discriminator(snapshot: Snapshot, device: torch.device) -> Discriminator:
    """The snapshot's discriminator in evaluation mode and float32.

    Raises:
        GanError: if the snapshot has none.
    """
    prefix = "D."
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in load_weights(snapshot.path).items()
        if name.startswith(prefix)
    }
    if not weights:
        raise GanError(
            f"{snapshot.path}: expected a discriminator in the snapshot, got the generator alone; take "
            "--distance=pixels or vgg16"
        )
    try:
        discriminator = build_discriminator(snapshot.config)
        discriminator.load_state_dict(weights)
    except (TypeError, ValueError, KeyError, RuntimeError) as error:
        raise GanError(
            f"{snapshot.path}: expected the discriminator that its header describes, got {error!r:.200}"
        ) from error
    return discriminator.eval().requires_grad_(False).to(device)


def discriminator_features(discriminator: Discriminator, images: Tensor) -> Tensor:
    """(N, C, H, W) images of the network's size to (N, F): what leaves each block, and the 4x4 layer."""
    x: Tensor | None = None
    image: Tensor | None = images
    stages = []
    for resolution in discriminator.resolutions:
        x, image = getattr(discriminator, f"b{resolution}")(x, image, force_fp32=True)
        assert x is not None
        stages.append(x)
    return joined_features(stages)


def pyramid_features(images: Tensor) -> Tensor:
    """(N, C, H, W) to (N, F): pixels at full, half, a quarter, ... of the resolution, each level alike."""
    levels = pyramid_levels(limit_side(images))
    return torch.cat([level.flatten(1) / math.sqrt(level[0].numel() * len(levels)) for level in levels], 1)


def pyramid_levels(images: Tensor) -> list[Tensor]:
    """The images at full, half, a quarter, ... of their resolution, down to 8 pixels."""
    levels = [images]
    while min(levels[-1].shape[2:]) >= 2 * MIN_PYRAMID_SIDE:
        levels.append(functional.avg_pool2d(levels[-1], 2))
    return levels


def joined_features(stages: Sequence[Tensor]) -> Tensor:
    """Activations (N, C, H, W) of several layers to (N, F), each layer weighing alike.

    The vector at each place is brought to length 1, so that the squared distance of two images is the mean,
    over layers and places, of that of unit vectors: 0 to 4.
    """
    parts = []
    for x in stages:
        _, _, height, width = x.shape
        unit = x / (x.square().sum(dim=1, keepdim=True) + 1e-10).sqrt()
        parts.append(unit.flatten(1) / math.sqrt(height * width * len(stages)))
    return torch.cat(parts, dim=1)


def limit_side(images: Tensor) -> Tensor:
    """Images averaged down to at most MAX_SIDE pixels a side."""
    if max(images.shape[2:]) <= MAX_SIDE:
        return images
    return functional.interpolate(images, size=(MAX_SIDE, MAX_SIDE), mode="area")


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio of uint8 images in dB; infinite where they are equal."""
    error = np.square(image.astype(np.float64) - reference.astype(np.float64)).mean()
    return float(10 * np.log10(255**2 / error)) if error else math.inf


def structural_similarity(image: np.ndarray, reference: np.ndarray) -> float:
    """Mean structural similarity of uint8 images (C, H, W): 1 = equal, about 0 = unrelated.

    Source: Wang et al. 2004, doi:10.1109/TIP.2003.819861, Section III: Gaussian windows of 1.5 pixels.
    """
    x, y = image.astype(np.float64), reference.astype(np.float64)

    def smooth(values: np.ndarray) -> np.ndarray:
        return gaussian_filter(values, (0, 1.5, 1.5), truncate=3.5)

    mean_x, mean_y = smooth(x), smooth(y)
    var_x, var_y = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    return float(similarity.mean())
