"""3x3 convolutions with a quarter of the multiplications, for float32 on CPUs.

On a CPU the convolutions of these networks run at the peak of its arithmetic, so only fewer operations make
them faster. The minimal filtering algorithm F(4x4, 3x3) computes 4x4 results from a 6x6 tile with 36
multiplications a pair of channels where the definition takes 144; what is saved is partly spent on the
transforms of tiles, so it pays from about 64 channels and 16 pixels on (1.3 times with 64 channels, 1.7 with
128, 2 with 512). Rounding errors are about 1e-5 of the largest value instead of 1e-6.

Convolution, and its derivatives with respect to image and weight, are bilinear and closed under
differentiation: each is one of two functions here, so that any number of derivatives can be taken.

Source: Lavin and Gray 2015, "Fast Algorithms for Convolutional Neural Networks", arXiv:1509.09308, Section 4.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

TILE, REACH = 4, 6  # results a tile and axis, pixels seen by them
NUM_PRODUCTS = REACH * REACH
MIN_CHANNELS, MIN_SIDE = 64, 16  # below, the transforms cost more than they save
TILES_AT_ONCE = 256  # so many tiles of 64 channels fit the caches of a core

WEIGHT_TRANSFORM = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


def pays(x: Tensor, weight: Tensor) -> bool:
    """Whether a 3x3 convolution of stride 1 that keeps the size is faster this way."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and weight.shape[2:] == (3, 3)
        and min(weight.shape[:2]) >= MIN_CHANNELS
        and min(x.shape[2:]) >= MIN_SIDE
        and x.shape[2] % TILE == 0
        and x.shape[3] % TILE == 0
    )


def conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """Correlate (N, C, H, W) with (C', C, 3, 3), one pixel of zeros around: (N, C', H, W), channels last.

    H and W are multiples of four. Differentiable any number of times.
    """
    return _Convolution.apply(x, weight)  # type: ignore[no-any-return]


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, weight)
        return _convolve(x, weight)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        x, weight = ctx.saved_tensors
        dx = _Convolution.apply(dy, _reversed(weight)) if ctx.needs_input_grad[0] else None
        dw = _WeightGradient.apply(x, dy) if ctx.needs_input_grad[1] else None
        return dx, dw


class _WeightGradient(torch.autograd.Function):
    """Correlate images with gradients of results: the gradient of the weight between them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dy: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(x, dy)
        return _correlate(x, dy)

    @staticmethod
    def backward(ctx: Any, ddw: Tensor) -> tuple[Tensor | None, Tensor | None]:  # type: ignore[override]
        x, dy = ctx.saved_tensors
        dx = _Convolution.apply(dy, _reversed(ddw)) if ctx.needs_input_grad[0] else None
        ddy = _Convolution.apply(x, ddw) if ctx.needs_input_grad[1] else None
        return dx, ddy


def _reversed(weight: Tensor) -> Tensor:
    """The weight that carries gradients back."""
    return weight.flip([2, 3]).transpose(0, 1)


class _Scratch:
    """Memory that the chunks of one call share, so that it stays in the caches."""

    def __init__(self, like: Tensor) -> None:
        self._like = like
        self._kept: dict[str, Tensor] = {}

    def __call__(self, name: str, shape: Sequence[int]) -> Tensor:
        kept = self._kept.get(name)
        if kept is None or kept.shape != torch.Size(shape):
            kept = self._kept[name] = self._like.new_empty(list(shape))
        return kept


def _convolve(x: Tensor, weight: Tensor) -> Tensor:
    n, c, h, w = x.shape
    out_channels = weight.shape[0]
    factors = _weights_to_products(weight)  # (36, C, C')
    padded = _padded(x)
    y = x.new_empty([n, h, w, out_channels])
    scratch = _Scratch(x)
    for images, rows in _chunks(n, h // TILE, w // TILE):
        tiles = _tiles_to_products(_tile_rows(padded, images, rows), scratch)
        t = tiles[0, 0].numel() // c
        products = scratch("products", [NUM_PRODUCTS, t, out_channels])
        torch.bmm(tiles.view(NUM_PRODUCTS, t, c), factors, out=products)
        part = y[images].unflatten(1, (h // TILE, TILE))[:, rows].unflatten(3, (w // TILE, TILE))
        shape = [REACH, REACH, part.shape[0], part.shape[1], part.shape[3], out_channels]
        _products_to_results(products.view(shape), part, scratch)
    return y.permute(0, 3, 1, 2)


def _correlate(x: Tensor, dy: Tensor) -> Tensor:
    n, c, h, w = x.shape
    out_channels = dy.shape[1]
    padded = _padded(x)
    gradients = dy.permute(0, 2, 3, 1)
    total = x.new_zeros([NUM_PRODUCTS, c, out_channels])
    scratch = _Scratch(x)
    for images, rows in _chunks(n, h // TILE, w // TILE):
        tiles = _tiles_to_products(_tile_rows(padded, images, rows), scratch)
        t = tiles[0, 0].numel() // c
        part = gradients[images].unflatten(1, (h // TILE, TILE))[:, rows].unflatten(3, (w // TILE, TILE))
        spread = _results_to_products(part, scratch)
        total.baddbmm_(
            tiles.view(NUM_PRODUCTS, t, c).transpose(1, 2), spread.view(NUM_PRODUCTS, t, out_channels)
        )
    transform = _weight_transform(x)  # (36, 9)
    taps = transform.t() @ total.flatten(1)  # (9, C * C')
    return taps.view(3, 3, c, out_channels).permute(3, 2, 0, 1)


def _padded(x: Tensor) -> Tensor:
    """One pixel of zeros around, channels last: (N, H + 2, W + 2, C)."""
    n, c, h, w = x.shape
    padded = x.new_empty([n, h + 2, w + 2, c])
    padded[:, 0].zero_()
    padded[:, -1].zero_()
    padded[:, :, 0].zero_()
    padded[:, :, -1].zero_()
    padded[:, 1:-1, 1:-1] = x.permute(0, 2, 3, 1)
    return padded


def _chunks(n: int, tile_rows: int, tile_columns: int) -> list[tuple[slice, slice]]:
    """Images and rows of tiles that are worked on together."""
    if tile_rows * tile_columns <= TILES_AT_ONCE:
        images = max(TILES_AT_ONCE // (tile_rows * tile_columns), 1)
        every_row = slice(0, tile_rows)
        return [(slice(start, min(start + images, n)), every_row) for start in range(0, n, images)]
    rows = max(TILES_AT_ONCE // tile_columns, 1)
    return [
        (slice(image, image + 1), slice(start, min(start + rows, tile_rows)))
        for image in range(n)
        for start in range(0, tile_rows, rows)
    ]


def _tile_rows(padded: Tensor, images: slice, rows: slice) -> Tensor:
    """The pixels that some rows of tiles see."""
    return padded[images, rows.start * TILE : rows.stop * TILE + 2]


def _weight_transform(like: Tensor) -> Tensor:
    one = like.new_tensor(WEIGHT_TRANSFORM)
    return torch.kron(one, one)  # (36, 9)


def _weights_to_products(weight: Tensor) -> Tensor:
    out_channels, channels = weight.shape[:2]
    taps = weight.permute(2, 3, 1, 0).reshape(9, channels * out_channels)
    return (_weight_transform(weight) @ taps).view(NUM_PRODUCTS, channels, out_channels)


def _tiles_to_products(pixels: Tensor, scratch: _Scratch) -> Tensor:
    """(N, 4 * rows + 2, W + 2, C) to (6, 6, N, rows, columns, C)."""
    n, height, width, c = pixels.shape
    rows, columns = (height - 2) // TILE, (width - 2) // TILE
    half = scratch("half tiles", [REACH, n, rows, width, c])
    _six_from_six([pixels[:, i : i + TILE * rows - 3 : TILE] for i in range(REACH)], list(half), scratch)
    tiles = scratch("tiles", [REACH, REACH, n, rows, columns, c])
    _six_from_six(
        [half[:, :, :, i : i + TILE * columns - 3 : TILE] for i in range(REACH)],
        [tiles[:, i] for i in range(REACH)],
        scratch,
    )
    return tiles


def _products_to_results(products: Tensor, results: Tensor, scratch: _Scratch) -> None:
    """(6, 6, N, rows, columns, C') into (N, rows, 4, columns, 4, C')."""
    half = scratch("half results", [TILE, *products.shape[1:]])
    _four_from_six(list(products), list(half), scratch)
    target = results.permute(2, 4, 0, 1, 3, 5)  # (4, 4, N, rows, columns, C')
    _four_from_six([half[:, i] for i in range(REACH)], [target[:, i] for i in range(TILE)], scratch)


def _results_to_products(gradients: Tensor, scratch: _Scratch) -> Tensor:
    """(N, rows, 4, columns, 4, C') to (6, 6, N, rows, columns, C'), the transpose of the way back."""
    source = gradients.permute(2, 4, 0, 1, 3, 5)  # (4, 4, N, rows, columns, C')
    half = scratch("half spread", [REACH, *source.shape[1:]])
    _six_from_four(list(source), list(half), scratch)
    products = scratch("spread", [REACH, REACH, *source.shape[2:]])
    _six_from_four([half[:, i] for i in range(TILE)], [products[:, i] for i in range(REACH)], scratch)
    return products


def _six_from_six(x: Sequence[Tensor], out: Sequence[Tensor], scratch: _Scratch) -> None:
    """The tile transform along one axis.

    Rows 4 0 -5 0 1 0, 0 -4 -4 1 1 0, 0 4 -4 -1 1 0, 0 -2 -1 2 1 0, 0 2 -1 -2 1 0 and 0 4 0 -5 0 1.
    """
    shape = x[0].shape
    even, odd, rest = (scratch(f"{name} {len(shape)}", shape) for name in ("a", "b", "c"))
    torch.sub(x[4], x[2], alpha=4, out=even)
    torch.sub(x[3], x[1], alpha=4, out=odd)
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    torch.sub(x[4], x[2], out=even)
    torch.sub(x[3], x[1], out=odd)
    torch.add(even, odd, alpha=2, out=out[3])
    torch.sub(even, odd, alpha=2, out=out[4])
    torch.sub(x[0], x[2], out=rest)
    torch.add(even, rest, alpha=4, out=out[0])
    torch.sub(x[5], x[3], out=rest)
    torch.sub(rest, odd, alpha=4, out=out[5])


def _four_from_six(x: Sequence[Tensor], out: Sequence[Tensor], scratch: _Scratch) -> None:
    """The result transform along one axis: rows 1 1 1 1 1 0, 0 1 -1 2 -2 0, 0 1 1 4 4 0 and 0 1 -1 8 -8 1."""
    shape = x[0].shape
    inner_sum, inner_difference, outer_sum, outer_difference = (
        scratch(f"{name} {len(shape)}", shape) for name in ("d", "e", "f", "g")
    )
    torch.add(x[1], x[2], out=inner_sum)
    torch.sub(x[1], x[2], out=inner_difference)
    torch.add(x[3], x[4], out=outer_sum)
    torch.sub(x[3], x[4], out=outer_difference)
    torch.add(inner_difference, outer_difference, alpha=2, out=out[1])
    torch.add(inner_sum, outer_sum, alpha=4, out=out[2])
    inner_difference.add_(outer_difference, alpha=8)
    torch.add(inner_difference, x[5], out=out[3])
    inner_sum.add_(outer_sum)
    torch.add(inner_sum, x[0], out=out[0])


def _six_from_four(x: Sequence[Tensor], out: Sequence[Tensor], scratch: _Scratch) -> None:
    """The transpose of `_four_from_six`."""
    shape = x[0].shape
    even, odd = (scratch(f"{name} {len(shape)}", shape) for name in ("h", "i"))
    out[0].copy_(x[0])
    out[5].copy_(x[3])
    torch.add(x[0], x[2], out=even)
    torch.add(x[1], x[3], out=odd)
    torch.add(even, odd, out=out[1])
    torch.sub(even, odd, out=out[2])
    torch.add(x[0], x[2], alpha=4, out=even)
    torch.add(x[1], x[3], alpha=4, out=odd)
    torch.add(even, odd, alpha=2, out=out[3])
    torch.sub(even, odd, alpha=2, out=out[4])
