"""Classifiers over image archives: data, preprocessing, models, training, calibration and evaluation.

The only home of fastai and timm. Importing this package costs nothing; its modules import torch and fastai
where they need them.
"""

from typing import TYPE_CHECKING, Any

from classifier.torchvision_cpu import install_torchvision_guard

if TYPE_CHECKING:
    from classifier.config import ClassifierConfig as ClassifierConfig
    from classifier.image_classifier import ImageClassifier as ImageClassifier

__all__ = ["ClassifierConfig", "ImageClassifier"]

install_torchvision_guard()  # before anything below imports torchvision, in spawned workers too


def __getattr__(name: str) -> Any:
    if name == "ImageClassifier":
        from classifier.image_classifier import ImageClassifier

        return ImageClassifier
    if name == "ClassifierConfig":
        from classifier.config import ClassifierConfig

        return ClassifierConfig
    raise AttributeError(f"module 'classifier' has no attribute {name!r}")
