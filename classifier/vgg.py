"""VGG16 as a detector: the features of its second dense layer, and a perceptual distance.

Modules have torchvision's names. Source: Simonyan and Zisserman 2014, arXiv:1409.1556, configuration D.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
SIDE = 224  # pixels of the input of the dense layers
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, on the scale 0 ... 1


class Vgg16(nn.Module):
    """(N, 3, H, W) float on the scale 0 ... 255 to features (N, 4096)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        self.stage_ends = []  # layer numbers of the last rectifier before each pooling
        for stage in WIDTHS:
            for wider in stage:
                layers += [nn.Conv2d(width, wider, 3, padding=1), nn.ReLU()]
                width = wider
            self.stage_ends.append(len(layers) - 1)
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU(),
            nn.Dropout(), nn.Linear(4096, 1000),
        )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        x = functional.interpolate(images, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        x = self.features(imagenet_scaled(x)).flatten(1)
        return self.classifier[:5](x)

    def squared_distances(self, first: Tensor, second: Tensor) -> Tensor:
        """Distances (N,) of two sets of images on the scale 0 ... 255, at their own size.

        The five stages' activations are scaled to unit length at each place; their squared differences are
        averaged over places and added up. LPIPS (Zhang et al. 2018, arXiv:1801.03924, Equation 1) does so
        with learned weights for each channel, so this is not LPIPS and its figures are others.
        """
        x, y = imagenet_scaled(first), imagenet_scaled(second)
        total = torch.zeros(len(x), dtype=torch.float64, device=x.device)
        for number, layer in enumerate(self.features):
            x, y = layer(x), layer(y)
            if number in self.stage_ends:
                difference = functional.normalize(x, dim=1, eps=1e-10) - functional.normalize(
                    y, dim=1, eps=1e-10
                )
                total += difference.double().square().sum(dim=1).mean(dim=(1, 2))
            if number == self.stage_ends[-1]:
                break
        return total


def imagenet_scaled(images: Tensor) -> Tensor:
    """0 ... 255 to the scale that networks trained on ImageNet take."""
    mean = torch.tensor(MEAN, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(1, 3, 1, 1)
    return (images / 255 - mean) / std
