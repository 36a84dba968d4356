"""Perceptual path length: how much an image changes when its latent moves by a hair."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from gan.features import PathDistance
from gan.metric_names import PathSettings
from gan.metrics import slerp, trimmed_path_length
from vendor.stylegan2_ada import Generator

EPSILON = 1e-4  # the step along the path
LARGEST_SIDE = 256  # larger images are averaged down to it first


@torch.no_grad()
def path_length(
    G: Generator,
    labels: Callable[[int], Tensor],
    extractor: PathDistance,
    settings: PathSettings,
    num_pairs: int,
    *,
    seed: int,
    batch_size: int,
    device: torch.device,
    report: Callable[[int], None],
) -> float:
    """Mean distance of images EPSILON apart on a path, over EPSILON squared, without the extreme hundredths.

    Both images of a pair share label and noise maps; the maps are drawn anew for each batch. The images are
    not rounded to grey levels: they differ by less than one.

    Args:
        labels: n to random one-hot labels (n, c_dim) on the device.
        report: told how many pairs a batch had.
    """
    random = torch.Generator().manual_seed(seed)
    network = copy.deepcopy(G).eval()
    noise_maps = [buffer for name, buffer in network.named_buffers() if name.endswith("noise_const")]
    distances = []
    for start in range(0, num_pairs, batch_size):
        count = min(batch_size, num_pairs - start)
        for noise_map in noise_maps:
            noise_map.copy_(torch.randn(noise_map.shape, generator=random))
        c = labels(count)
        z = torch.randn([2 * count, network.z_dim], generator=random)
        t = torch.rand([count, 1], generator=random) if settings.whole else torch.zeros([count, 1])
        ws = _two_points(network, z, c, t, settings.space, device)  # (2 * count, num_ws, w_dim)
        images = network.synthesis(ws, noise_mode="const", force_fp32=True)
        first, second = np.split(_prepare(images, settings.crop), 2)
        distances.append(extractor.squared_distances(first, second) / EPSILON**2)
        report(count)
    return trimmed_path_length(np.concatenate(distances))


def _two_points(
    network: Generator, z: Tensor, c: Tensor, t: Tensor, space: str, device: torch.device
) -> Tensor:
    start, end = z.chunk(2)
    if space == "w":
        w = network.mapping(torch.cat([start, end]).to(device), torch.cat([c, c]))
        w_start, w_end = w.chunk(2)
        share = t.to(device)[:, None]  # (n, 1, 1)
        return torch.cat([w_start.lerp(w_end, share), w_start.lerp(w_end, share + EPSILON)])
    points = [slerp(start.double().numpy(), end.double().numpy(), t.numpy() + step) for step in (0, EPSILON)]
    walked = torch.from_numpy(np.concatenate(points)).float().to(device)
    return network.mapping(walked, torch.cat([c, c]))


def _prepare(images: Tensor, crop: bool) -> np.ndarray:
    if crop:
        eighth = images.shape[2] // 8
        images = images[:, :, eighth * 3 : eighth * 7, eighth * 2 : eighth * 6]
    if images.shape[2] > LARGEST_SIDE:
        factor = images.shape[2] // LARGEST_SIDE
        images = functional.avg_pool2d(images, factor)
    return ((images.float() + 1) * 127.5).cpu().numpy()
