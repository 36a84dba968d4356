"""The augmentation pipe in front of the discriminator.

Each transformation is applied to each image with probability p times its multiplier, in a fixed order, in a
way that is differentiable with respect to the image and does not leak into the generator for p below about
0.8.

Source: Karras et al. 2020, arXiv:2006.06676, Section 2.2, Appendix B (Algorithm 1: all transformations, their
order and their constants).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .filters import setup_filter
from .transforms import (
    luma_projection,
    rotate_2d,
    rotate_about_luma,
    scale_2d,
    scale_3d,
    translate_2d,
    translate_3d,
)
from .wavelets import (
    NUM_BANDS,
    SYM6,
    downsampling_matrix,
    filtering_matrix,
    octave_filters,
    upsampling_matrix,
)

EXPECTED_POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)  # of natural images in the four octaves (1/f)


class AugmentPipe(nn.Module):
    """Random transformations of a batch of images, the same distribution for reals and fakes.

    Args:
        xflip, rotate90, xint: pixel moves (mirror, quarter turns, whole-pixel shifts): 0 = off, 1 = on, in
            between = rarer. The same for all that follow.
        scale, rotate, aniso, xfrac: general geometry.
        brightness, contrast, lumaflip, hue, saturation: colours; the last two do nothing on grey images.
        imgfilter, noise, cutout: frequency bands, white noise, an erased rectangle.
        xint_max: largest shift as a fraction of the side.
        scale_std, aniso_std: standard deviation of the binary logarithm of the factor.
        rotate_max: largest rotation as a fraction of half a turn.
        xfrac_std: standard deviation of the shift as a fraction of the side.
        brightness_std, contrast_std, saturation_std: standard deviations (contrast, saturation: of log2).
        hue_max: largest rotation of the hue as a fraction of half a turn.
        imgfilter_bands: multiplier of each of the four octaves, lowest first.
        imgfilter_std: standard deviation of log2 of a band's gain.
        noise_std: standard deviation of the noise's standard deviation.
        cutout_size: side of the erased rectangle as a fraction of the image's.

    Attributes:
        p: overall strength, a scalar buffer that the training loop sets.

    Raises:
        ValueError: for a negative multiplier or range, or other than four bands.
    """

    p: Tensor
    Hz_geom: Tensor
    Hz_fbank: Tensor

    def __init__(
        self,
        *,
        xflip: float = 0,
        rotate90: float = 0,
        xint: float = 0,
        xint_max: float = 0.125,
        scale: float = 0,
        rotate: float = 0,
        aniso: float = 0,
        xfrac: float = 0,
        scale_std: float = 0.2,
        rotate_max: float = 1,
        aniso_std: float = 0.2,
        xfrac_std: float = 0.125,
        brightness: float = 0,
        contrast: float = 0,
        lumaflip: float = 0,
        hue: float = 0,
        saturation: float = 0,
        brightness_std: float = 0.2,
        contrast_std: float = 0.5,
        hue_max: float = 1,
        saturation_std: float = 1,
        imgfilter: float = 0,
        imgfilter_bands: Sequence[float] = (1, 1, 1, 1),
        imgfilter_std: float = 1,
        noise: float = 0,
        cutout: float = 0,
        noise_std: float = 0.1,
        cutout_size: float = 0.5,
    ) -> None:
        super().__init__()
        self.xflip, self.rotate90, self.xint, self.xint_max = xflip, rotate90, xint, xint_max
        self.scale, self.rotate, self.aniso, self.xfrac = scale, rotate, aniso, xfrac
        self.scale_std, self.rotate_max = scale_std, rotate_max
        self.aniso_std, self.xfrac_std = aniso_std, xfrac_std
        self.brightness, self.contrast, self.lumaflip = brightness, contrast, lumaflip
        self.hue, self.saturation = hue, saturation
        self.brightness_std, self.contrast_std = brightness_std, contrast_std
        self.hue_max, self.saturation_std = hue_max, saturation_std
        self.imgfilter, self.imgfilter_std = imgfilter, imgfilter_std
        self.noise, self.noise_std = noise, noise_std
        self.cutout, self.cutout_size = cutout, cutout_size
        for name, value in vars(self).items():
            if isinstance(value, (int, float)) and not isinstance(value, bool) and value < 0:
                raise ValueError(f"{name} must not be negative, got {value}")
        if len(imgfilter_bands) != NUM_BANDS or min(imgfilter_bands) < 0:
            raise ValueError(
                f"imgfilter_bands must be {NUM_BANDS} non-negative multipliers, got {list(imgfilter_bands)}"
            )
        self.imgfilter_bands = tuple(imgfilter_bands)

        self.register_buffer("p", torch.ones([]))
        self.register_buffer("Hz_geom", setup_filter(SYM6))
        self.register_buffer("Hz_fbank", torch.as_tensor(octave_filters(), dtype=torch.float32))

    def forward(self, images: Tensor, debug_percentile: float | None = None) -> Tensor:
        """Transform a batch.

        Args:
            images: (N, C, H, W) float32 in [-1, 1]; C is 1 or 3.
            debug_percentile: instead of drawing, apply every enabled transformation to every image with the
                parameter at this quantile (0 to 1) of its distribution.

        Returns:
            Images of the same shape; twice differentiable with respect to the input.

        Raises:
            ValueError: if the images are not as described.
        """
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ValueError(f"images must be (N, 1 or 3, H, W), got shape {tuple(images.shape)}")
        draws = _Draws(self, len(images), images.device, debug_percentile)
        inverse = self._draw_geometry(draws, images.shape[3], images.shape[2])
        if inverse is not None:
            images = self._warp(images, inverse)
        colors = self._draw_colors(draws, is_grey=images.shape[1] == 1)
        if colors is not None:
            images = _transform_colors(images, colors)
        if self.imgfilter > 0:
            images = self._filter(images, self._draw_band_gains(draws))
        if self.noise > 0:
            sigma = self._draw_sigma(draws)
            images = images + self.draw_normal(images.shape, images.device) * sigma
        if self.cutout > 0:
            images = images * self._draw_mask(draws, images.shape[3], images.shape[2])
        return images

    def draw_uniform(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """The source of all uniform numbers, in [0, 1)."""
        return torch.rand(list(shape), device=device)

    def draw_normal(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """The source of all unit normal numbers."""
        return torch.randn(list(shape), device=device)

    def _draw_geometry(self, draws: "_Draws", width: int, height: int) -> Tensor | None:
        """(N, 3, 3) matrices from centred output pixels to centred input pixels; None = nothing enabled."""
        device = draws.device
        steps = []
        if self.xflip > 0:
            side = draws.choice([-1], 2, self.xflip)
            steps.append(scale_2d(1 - 2 * side, 1, device))
        if self.rotate90 > 0:
            turns = draws.choice([-1], 4, self.rotate90)
            steps.append(rotate_2d(math.pi / 2 * turns, device))
        if self.xint > 0:
            shift = draws.symmetric([-1, 2], self.xint_max, self.xint)
            steps.append(
                translate_2d(-(shift[:, 0] * width).round(), -(shift[:, 1] * height).round(), device)
            )
        if self.scale > 0:
            factor = draws.normal([-1], self.scale_std, self.scale).exp2()
            steps.append(scale_2d(1 / factor, 1 / factor, device))
        if self.rotate > 0:
            angle = draws.symmetric([-1], math.pi * self.rotate_max, self.rotate, is_half=True)
            steps.append(rotate_2d(angle, device))
        if self.aniso > 0:
            factor = draws.normal([-1], self.aniso_std, self.aniso).exp2()
            steps.append(scale_2d(1 / factor, factor, device))
        if self.rotate > 0:
            angle = draws.symmetric(
                [-1], math.pi * self.rotate_max, self.rotate, is_half=True, percentile_value=0.0
            )
            steps.append(rotate_2d(angle, device))
        if self.xfrac > 0:
            shift = draws.normal([-1, 2], self.xfrac_std, self.xfrac)
            steps.append(translate_2d(-shift[:, 0] * width, -shift[:, 1] * height, device))
        if not steps:
            return None
        inverse = steps[0]
        for step in steps[1:]:
            inverse = inverse @ step
        return inverse

    def _draw_colors(self, draws: "_Draws", is_grey: bool) -> Tensor | None:
        """(N, 4, 4) matrices on homogeneous colours; None = nothing enabled."""
        device = draws.device
        luma = luma_projection(device)
        identity = torch.eye(4, device=device)
        steps = []
        if self.brightness > 0:
            steps.append(translate_3d(draws.normal([-1], self.brightness_std, self.brightness), device))
        if self.contrast > 0:
            steps.append(scale_3d(draws.normal([-1], self.contrast_std, self.contrast).exp2(), device))
        if self.lumaflip > 0:
            steps.append(identity - 2 * luma * draws.choice([-1, 1, 1], 2, self.lumaflip))
        if self.hue > 0 and not is_grey:
            steps.append(rotate_about_luma(draws.symmetric([-1], math.pi * self.hue_max, self.hue), device))
        if self.saturation > 0 and not is_grey:
            factor = draws.normal([-1, 1, 1], self.saturation_std, self.saturation).exp2()
            steps.append(luma + (identity - luma) * factor)
        if not steps:
            return None
        colors = steps[0]
        for step in steps[1:]:
            colors = step @ colors
        return colors

    def _draw_band_gains(self, draws: "_Draws") -> Tensor:
        """(N, 4) gains of the octaves, normalised so that a natural image keeps its power."""
        expected = torch.tensor(EXPECTED_POWER, device=draws.device)
        total = torch.ones([draws.num_images, NUM_BANDS], device=draws.device)
        for band, multiplier in enumerate(self.imgfilter_bands):
            gain = draws.normal([-1], self.imgfilter_std, self.imgfilter * multiplier).exp2()
            gains = torch.ones_like(total)
            gains[:, band] = gain
            total = total * gains / (expected * gains.square()).sum(1, keepdim=True).sqrt()
        return total

    def _draw_sigma(self, draws: "_Draws") -> Tensor:
        """(N, 1, 1, 1) standard deviations of the noise."""
        if draws.percentile is not None:
            sigma = torch.erfinv(torch.tensor(draws.percentile, device=draws.device)) * self.noise_std
            return sigma.expand(draws.num_images, 1, 1, 1)
        return draws.normal([-1, 1, 1, 1], self.noise_std, self.noise).abs()

    def _draw_mask(self, draws: "_Draws", width: int, height: int) -> Tensor:
        """(N, 1, H, W): 0 in the erased rectangle, 1 elsewhere."""
        size = draws.gate(
            torch.full([draws.num_images, 1, 1, 1, 1], self.cutout_size, device=draws.device), self.cutout
        )
        center = draws.uniform([-1, 2, 1, 1, 1])
        x = (torch.arange(width, device=draws.device) + 0.5) / width
        y = (torch.arange(height, device=draws.device) + 0.5) / height
        is_outside_x = (x - center[:, 0]).abs() >= size[:, 0] / 2  # (N, 1, 1, W)
        is_outside_y = (y[:, None] - center[:, 1]).abs() >= size[:, 0] / 2  # (N, 1, H, 1)
        return (is_outside_x | is_outside_y).to(torch.float32)

    def _warp(self, images: Tensor, inverse: Tensor) -> Tensor:
        """Resample with as little aliasing as possible: upsample twofold, move, downsample."""
        n, c, height, width = images.shape
        device = images.device
        reach = len(self.Hz_geom) // 4  # pixels that the filter needs beyond each border
        left, right, top, bottom = _margins(inverse, width, height, 2 * reach)

        up_x = upsampling_matrix(self.Hz_geom, width, left, right)
        up_y = upsampling_matrix(self.Hz_geom, height, top, bottom)
        canvas = up_y @ (images @ up_x.t())  # (N, C, 2 * (top + H + bottom), 2 * (left + W + right))

        # From pixels of the image to those of the canvas: its centre moves with uneven margins, it is twice
        # as large, and upsampling leaves old pixel centres half a new pixel before the new centre.
        inverse = translate_2d((left - right) / 2, (top - bottom) / 2, device) @ inverse
        inverse = scale_2d(2, 2, device) @ inverse @ scale_2d(0.5, 0.5, device)
        inverse = translate_2d(-0.5, -0.5, device) @ inverse @ translate_2d(0.5, 0.5, device)
        out_w, out_h = 2 * (width + 2 * reach), 2 * (height + 2 * reach)
        inverse = (
            scale_2d(2 / canvas.shape[3], 2 / canvas.shape[2], device)
            @ inverse
            @ scale_2d(out_w / 2, out_h / 2, device)
        )  # in the coordinates of grid_sample, -1 to 1
        grid = F.affine_grid(inverse[:, :2], [n, c, out_h, out_w], align_corners=False)
        moved = F.grid_sample(canvas, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

        down_x = downsampling_matrix(self.Hz_geom, width, 2 * reach)
        down_y = downsampling_matrix(self.Hz_geom, height, 2 * reach)
        return down_y @ (moved @ down_x.t())

    def _filter(self, images: Tensor, gains: Tensor) -> Tensor:
        taps = gains @ self.Hz_fbank  # (N, 43)
        x = filtering_matrix(taps, images.shape[3])[:, None]  # (N, 1, W, W)
        y = filtering_matrix(taps, images.shape[2])[:, None]
        return y @ (images @ x.transpose(2, 3))


class _Draws:
    """Random parameters of one batch, each followed by the draw that decides who gets it.

    In percentile mode nothing is drawn and everybody gets it.
    """

    def __init__(
        self, pipe: AugmentPipe, num_images: int, device: torch.device, percentile: float | None
    ) -> None:
        self.pipe, self.num_images, self.device, self.percentile = pipe, num_images, device, percentile

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """In [0, 1); the first axis is the batch."""
        if self.percentile is not None:
            return torch.full([self.num_images, *shape[1:]], self.percentile, device=self.device)
        return self.pipe.draw_uniform([self.num_images, *shape[1:]], self.device)

    def gate(self, value: Tensor, multiplier: float, *, is_half: bool = False) -> Tensor:
        """The value for the images that are chosen, zero for the others.

        is_half: the transformation has two halves; each is likely enough that one of both happens with
            the wanted probability.
        """
        if self.percentile is not None:
            return value
        probability = self.pipe.p * multiplier
        if is_half:
            probability = 1 - (1 - probability).clamp(0, 1).sqrt()
        gate_shape = [self.num_images] + [1] * (value.ndim - 1)
        return value * (self.pipe.draw_uniform(gate_shape, self.device) < probability)

    def choice(self, shape: Sequence[int], num_choices: int, multiplier: float) -> Tensor:
        """A whole number from 0 to num_choices - 1."""
        return self.gate((self.uniform(shape) * num_choices).floor(), multiplier)

    def symmetric(
        self,
        shape: Sequence[int],
        largest: float,
        multiplier: float,
        *,
        is_half: bool = False,
        percentile_value: float | None = None,
    ) -> Tensor:
        """Uniform from -largest to largest; in percentile mode percentile_value, if it is given."""
        if self.percentile is not None and percentile_value is not None:
            return torch.full([self.num_images, *shape[1:]], percentile_value, device=self.device)
        return self.gate((self.uniform(shape) * 2 - 1) * largest, multiplier, is_half=is_half)

    def normal(self, shape: Sequence[int], std: float, multiplier: float) -> Tensor:
        """Normal with mean 0. In percentile mode its quantiles lack the factor sqrt(2), by custom."""
        shape = [self.num_images, *shape[1:]]
        if self.percentile is not None:
            quantile = torch.erfinv(torch.tensor(self.percentile * 2 - 1, device=self.device))
            return (quantile * std * (multiplier > 0)).expand(shape)
        return self.gate(self.pipe.draw_normal(shape, self.device) * std, multiplier)


def _margins(inverse: Tensor, width: int, height: int, extra: int) -> tuple[int, int, int, int]:
    """Pixels (left, right, top, bottom) by which any image of the batch sees over the border.

    At most a reflection of the whole image; `extra` for the filter is included.
    """
    x, y = (width - 1) / 2, (height - 1) / 2
    corners = torch.tensor([[-x, x, x, -x], [-y, -y, y, y], [1, 1, 1, 1]], device=inverse.device)
    seen = (inverse @ corners)[:, :2].transpose(0, 1).flatten(1)  # (2, N * 4)
    half = torch.tensor([x, y], device=inverse.device)
    beyond = torch.stack([-seen.amin(1) - half, seen.amax(1) - half], 1) + extra  # (2 axes, 2 ends)
    limit = torch.tensor([[width - 1], [height - 1]], device=inverse.device)
    pixels = beyond.clamp(min=0).minimum(limit).ceil().to(torch.int64)
    (left, right), (top, bottom) = pixels.tolist()  # the one synchronisation with the device
    return left, right, top, bottom


def _transform_colors(images: Tensor, colors: Tensor) -> Tensor:
    """Apply (N, 4, 4) colour matrices; a grey image takes the mean of the three rows."""
    n, c, h, w = images.shape
    rows = colors[:, :3] if c == 3 else colors[:, :3].mean(1, keepdim=True)  # (N, C, 4)
    offset = rows[:, :, 3:]
    if c == 3:
        return torch.baddbmm(offset, rows[:, :, :3], images.reshape(n, c, h * w)).reshape(images.shape)
    return images * rows[:, :, :3].sum(2)[:, :, None, None] + offset[:, :, :, None]
