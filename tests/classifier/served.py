"""Untrained classifiers over toy images: enough to follow an image through every use."""

import numpy as np
import pandas as pd
import torch
from torch import nn

from classifier.config import ClassifierConfig
from classifier.data import ImageTable
from classifier.models import build_model
from classifier.preprocess import fit_preprocessing
from classifier.run import Classifier, Provenance
from classifier.usual import measure_usual
from extract.preprocessing import PLAIN, PreprocessConfig
from tests.classifier.toys import CLASSES, toy_pixels


def toy_table(num_images: int = 6, size: int = 32, channels: int = 1) -> ImageTable:
    pixels = toy_pixels(np.arange(num_images) % 3, size, seed=0)
    return ImageTable(np.repeat(pixels, channels, axis=1))


def untrained(
    images: ImageTable,
    arch: str = "small_resnet",
    *,
    steps: PreprocessConfig = PLAIN,
    model: nn.Module | None = None,
    provenance: Provenance | None = None,
    temperature: float = 1.4,
    **settings: object,
) -> Classifier:
    """A network with random weights, whose preprocessing and moments of batches are those of the images.

    Without these moments all images would come out nearly alike, and any comparison would hold.
    """
    preprocessing = fit_preprocessing(images, steps)
    if model is None:
        model = build_model(
            arch, len(CLASSES), preprocessing.input_channels, preprocessing.input_size, seed=3
        )
    moments = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in moments:
        module.momentum = 1.0
    if moments:
        model.train()
        with torch.no_grad():
            model(preprocessing.to_batch(images.gather(np.arange(len(images)))))
    return Classifier(
        model,
        CLASSES,
        ClassifierConfig(arch=arch, preprocessing=steps, **settings),
        preprocessing,
        temperature=temperature,
        history=pd.DataFrame({"step": [1]}),
        provenance=provenance,
        usual=measure_usual(images),
    )
