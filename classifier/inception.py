"""The Inception-v3 behind FID: trained in TensorFlow in 2015, which pools and resizes in its own way.

Modules have the names that torchvision gives them, so that the weights commonly passed around fit. Three
things differ from torchvision's network: averages leave padding out, the last block's pooling branch takes
the maximum, and there are 1008 classes.

Source: Szegedy et al. 2015, arXiv:1512.00567, Section 6; as used by Heusel et al. 2017, arXiv:1706.08500.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

NUM_FEATURES, NUM_CLASSES = 2048, 1008
SIDE = 299  # pixels of the input
WIDE, TALL = (1, 7), (7, 1)


class Conv(nn.Module):
    """Convolution, batch normalisation, rectifier."""

    def __init__(
        self, in_width: int, width: int, size: int | tuple[int, int], stride: int = 1, pad: bool = True
    ) -> None:
        super().__init__()
        height_width = (size, size) if isinstance(size, int) else size
        padding = (height_width[0] // 2, height_width[1] // 2) if pad else (0, 0)
        self.conv = nn.Conv2d(in_width, width, height_width, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(width, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


def _average(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


def _halve(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, stride=2)


class MixedA(nn.Module):
    """1x1, 5x5 and two 3x3 side by side, at 35x35."""

    def __init__(self, in_width: int, pool_width: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(in_width, 64, 1)
        self.branch5x5_1 = Conv(in_width, 48, 1)
        self.branch5x5_2 = Conv(48, 64, 5)
        self.branch3x3dbl_1 = Conv(in_width, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3)
        self.branch3x3dbl_3 = Conv(96, 96, 3)
        self.branch_pool = Conv(in_width, pool_width, 1)

    def forward(self, x: Tensor) -> Tensor:
        fives = self.branch5x5_2(self.branch5x5_1(x))
        threes = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), fives, threes, self.branch_pool(_average(x))], dim=1)


class MixedB(nn.Module):
    """From 35x35 to 17x17."""

    def __init__(self, in_width: int) -> None:
        super().__init__()
        self.branch3x3 = Conv(in_width, 384, 3, stride=2, pad=False)
        self.branch3x3dbl_1 = Conv(in_width, 64, 1)
        self.branch3x3dbl_2 = Conv(64, 96, 3)
        self.branch3x3dbl_3 = Conv(96, 96, 3, stride=2, pad=False)

    def forward(self, x: Tensor) -> Tensor:
        threes = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), threes, _halve(x)], dim=1)


class MixedC(nn.Module):
    """7x7 taken apart into rows and columns, at 17x17."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.branch1x1 = Conv(in_width, 192, 1)
        self.branch7x7_1 = Conv(in_width, width, 1)
        self.branch7x7_2 = Conv(width, width, WIDE)
        self.branch7x7_3 = Conv(width, 192, TALL)
        self.branch7x7dbl_1 = Conv(in_width, width, 1)
        self.branch7x7dbl_2 = Conv(width, width, TALL)
        self.branch7x7dbl_3 = Conv(width, width, WIDE)
        self.branch7x7dbl_4 = Conv(width, width, TALL)
        self.branch7x7dbl_5 = Conv(width, 192, WIDE)
        self.branch_pool = Conv(in_width, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        sevens = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), sevens, double, self.branch_pool(_average(x))], dim=1)


class MixedD(nn.Module):
    """From 17x17 to 8x8."""

    def __init__(self, in_width: int) -> None:
        super().__init__()
        self.branch3x3_1 = Conv(in_width, 192, 1)
        self.branch3x3_2 = Conv(192, 320, 3, stride=2, pad=False)
        self.branch7x7x3_1 = Conv(in_width, 192, 1)
        self.branch7x7x3_2 = Conv(192, 192, WIDE)
        self.branch7x7x3_3 = Conv(192, 192, TALL)
        self.branch7x7x3_4 = Conv(192, 192, 3, stride=2, pad=False)

    def forward(self, x: Tensor) -> Tensor:
        threes = self.branch3x3_2(self.branch3x3_1(x))
        sevens = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([threes, sevens, _halve(x)], dim=1)


class MixedE(nn.Module):
    """Rows and columns of 3 side by side, at 8x8.

    Args:
        takes_maximum: of the pooling branch, in the very last block, where the others average.
    """

    def __init__(self, in_width: int, takes_maximum: bool) -> None:
        super().__init__()
        self.branch1x1 = Conv(in_width, 320, 1)
        self.branch3x3_1 = Conv(in_width, 384, 1)
        self.branch3x3_2a = Conv(384, 384, (1, 3))
        self.branch3x3_2b = Conv(384, 384, (3, 1))
        self.branch3x3dbl_1 = Conv(in_width, 448, 1)
        self.branch3x3dbl_2 = Conv(448, 384, 3)
        self.branch3x3dbl_3a = Conv(384, 384, (1, 3))
        self.branch3x3dbl_3b = Conv(384, 384, (3, 1))
        self.branch_pool = Conv(in_width, 192, 1)
        self.takes_maximum = takes_maximum

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = functional.max_pool2d(x, 3, stride=1, padding=1) if self.takes_maximum else _average(x)
        branches = [
            self.branch1x1(x),
            self.branch3x3_2a(single),
            self.branch3x3_2b(single),
            self.branch3x3dbl_3a(double),
            self.branch3x3dbl_3b(double),
            self.branch_pool(pooled),
        ]
        return torch.cat(branches, dim=1)


class FidInception(nn.Module):
    """(N, 3, H, W) float on the scale 0 ... 255 to features (N, 2048)."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Conv(3, 32, 3, stride=2, pad=False)
        self.Conv2d_2a_3x3 = Conv(32, 32, 3, pad=False)
        self.Conv2d_2b_3x3 = Conv(32, 64, 3)
        self.Conv2d_3b_1x1 = Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = Conv(80, 192, 3, pad=False)
        self.Mixed_5b = MixedA(192, 32)
        self.Mixed_5c = MixedA(256, 64)
        self.Mixed_5d = MixedA(288, 64)
        self.Mixed_6a = MixedB(288)
        self.Mixed_6b = MixedC(768, 128)
        self.Mixed_6c = MixedC(768, 160)
        self.Mixed_6d = MixedC(768, 160)
        self.Mixed_6e = MixedC(768, 192)
        self.Mixed_7a = MixedD(768)
        self.Mixed_7b = MixedE(1280, takes_maximum=False)
        self.Mixed_7c = MixedE(2048, takes_maximum=True)
        self.fc = nn.Linear(NUM_FEATURES, NUM_CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        x = (resize_as_tensorflow(images, SIDE) - 128) / 128
        x = _halve(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
        x = _halve(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean(dim=(2, 3))

    def class_probs(self, features: Tensor) -> Tensor:
        """Features (N, 2048) to probabilities (N, 1008); the inception score leaves the bias out."""
        return (features @ self.fc.weight.T).softmax(dim=1)


def resize_as_tensorflow(images: Tensor, side: int) -> Tensor:
    """Bilinear (N, C, H, W) to (N, C, side, side) as TensorFlow 1 did it.

    Output pixel i reads at i * size / side, so that the first pixels coincide and the grid is not centred;
    today's `interpolate` would read half a pixel further on.
    """
    rows, columns = (_reading_matrix(size, side).to(images) for size in images.shape[2:])
    return rows @ images @ columns.T


def _reading_matrix(size: int, side: int) -> Tensor:
    """(side, size) weights of the two inputs that each output reads."""
    place = torch.arange(side, dtype=torch.float64) * size / side
    low = place.floor().long()
    high = (low + 1).clamp(max=size - 1)
    share = place - low
    matrix = torch.zeros(side, size, dtype=torch.float64)
    output = torch.arange(side)
    matrix.index_put_((output, low), 1 - share, accumulate=True)
    matrix.index_put_((output, high), share, accumulate=True)
    return matrix
