"""StyleGAN2 with adaptive discriminator augmentation: networks, operators, augmentation pipe.

Our own implementation from the papers; parameter names and numerics are those of the official one, so that
its weights can be used. See vendor/README.md.
"""

from .augment import AugmentPipe
from .discriminator import Discriminator
from .generator import Generator

__all__ = ["AugmentPipe", "Discriminator", "Generator"]
