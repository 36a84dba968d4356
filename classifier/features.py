"""Networks as feature extractors: what generated images are compared with real ones by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from classifier.batches import predict_batch
from classifier.data import ImageTable
from classifier.errors import ClassifierError
from classifier.inception import FidInception
from classifier.models import choose_device
from classifier.network import penultimate
from classifier.run import WEIGHTS, Classifier, load_classifier
from classifier.vgg import Vgg16, imagenet_scaled
from classifier.weights import fill, find_weights, read_weights
from extract.archive import file_sha256
from extract.errors import SettingsError

INCEPTION_FILES = ("pt_inception-2015-12-05-6726825d.pth",)
VGG_FILES = ("vgg16-397923af.pth",)
DINO_ARCH, DINO_SIDE = "vit_small_patch14_dinov2.lvd142m", 224
DINO_FILES = (f"{DINO_ARCH}.safetensors", "dinov2_vits14_pretrain.pth")


class TaskExtractor:
    """The features that a classifier of ours decides by: the input of its last layer.

    Attributes:
        train_subjects, val_subjects: whom it learned from, and who chose its checkpoint.
        archive_sha256: the archive these subjects belong to; empty where it was trained on plain arrays.
    """

    name = "task"

    def __init__(self, classifier: Classifier, weights_sha256: str) -> None:
        self.classifier = classifier
        self.weights_sha256 = weights_sha256
        self.train_subjects = classifier.train_subjects
        self.val_subjects = classifier.val_subjects
        self.archive_sha256 = classifier.provenance.archive_sha256

    @torch.inference_mode()
    def features(self, images: np.ndarray) -> np.ndarray:
        """Images (N, C, H, W) uint8, shaped as in its training, to features (N, D) float32."""
        batch = self.classifier.preprocessing.to_batch(np.ascontiguousarray(images), self._device)
        return self._penultimate(batch).float().cpu().numpy()

    @torch.inference_mode()
    def squared_distances(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Squared distances (N,) of the features of two sets of images on the scale 0 ... 255."""
        a, b = (
            self._penultimate(self.classifier.preprocessing.scale(torch.tensor(side, device=self._device)))
            for side in (first, second)
        )
        return (a - b).double().square().sum(dim=1).cpu().numpy()

    @property
    def _device(self) -> torch.device:
        return next(self.classifier.model.parameters()).device

    def _penultimate(self, batch: Tensor) -> Tensor:
        return penultimate(self.classifier.model, batch)


def task_extractor(run_dir: Path, device: str = "auto") -> TaskExtractor:
    """The network of a finished `classifier train` run as an extractor.

    Raises:
        ClassifierError: if it is no finished run.
    """
    run_dir = Path(run_dir)
    classifier = load_classifier(run_dir, device)
    try:
        return TaskExtractor(classifier, file_sha256(run_dir / WEIGHTS))
    except FileNotFoundError as error:
        raise ClassifierError(
            f"{run_dir / WEIGHTS} does not exist: the run is incomplete, train it again"
        ) from error


def table_features(classifier: Classifier, images: ImageTable, batch_size: int | None = None) -> np.ndarray:
    """What a classifier decides by, of every image of a table: (N, D) float32, in its order."""
    extractor = TaskExtractor(classifier, "")
    batch_size = batch_size or predict_batch(next(classifier.model.parameters()).device)
    classifier.model.eval()
    starts = range(0, len(images), batch_size)
    rows = [np.arange(start, min(start + batch_size, len(images))) for start in starts]
    if not rows:
        rows = [np.zeros(0, dtype=np.int64)]
    return np.concatenate([extractor.features(images.gather(part)) for part in rows])


class InceptionExtractor:
    """FID's Inception-v3: 2048 features, and class probabilities for the inception score."""

    name = "inception"

    def __init__(self, path: Path, device: torch.device) -> None:
        with torch.device("meta"):  # its initial weights would be drawn in vain
            self.model = FidInception()
        fill(self.model, read_weights(path), path, left_out=("AuxLogits.",))
        self.model.to(device)
        self.weights_sha256 = file_sha256(path)
        self._device = device

    @torch.inference_mode()
    def features(self, images: np.ndarray) -> np.ndarray:
        """Images (N, C, H, W) uint8 to (N, 2048) float32."""
        return self.model(_in_colour(images, self._device)).cpu().numpy()

    @torch.inference_mode()
    def class_probs(self, images: np.ndarray) -> np.ndarray:
        """Images (N, C, H, W) uint8 to probabilities (N, 1008) float32."""
        return self.model.class_probs(self.model(_in_colour(images, self._device))).cpu().numpy()


class VggExtractor:
    """VGG16: 4096 features for precision and recall, and an unweighted perceptual distance."""

    name = "vgg16"

    def __init__(self, path: Path, device: torch.device) -> None:
        with torch.device("meta"):
            self.model = Vgg16()
        fill(self.model, read_weights(path), path)
        self.model.to(device)
        self.weights_sha256 = file_sha256(path)
        self._device = device

    @torch.inference_mode()
    def features(self, images: np.ndarray) -> np.ndarray:
        """Images (N, C, H, W) uint8 to (N, 4096) float32, not negative."""
        return self.model(_in_colour(images, self._device)).cpu().numpy()

    @torch.inference_mode()
    def squared_distances(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Distances (N,) of images on the scale 0 ... 255; see `Vgg16.squared_distances`."""
        a, b = (_in_colour(side, self._device) for side in (first, second))
        return self.model.squared_distances(a, b).cpu().numpy()


class DinoExtractor:
    """DINOv2, the small vision transformer: the 384 features of its class token, learned without labels.

    Source: Oquab et al. 2023, arXiv:2304.07193; Stein et al. 2023, arXiv:2306.04675, on why it suits this.
    """

    name = "dinov2"

    def __init__(self, path: Path, device: torch.device) -> None:
        import timm
        from timm.models.vision_transformer import checkpoint_filter_fn

        with torch.device("meta"):
            self.model = timm.create_model(DINO_ARCH, pretrained=False, num_classes=0, img_size=DINO_SIDE)
        # timm's filter renames the authors' tensors and fits the position table to this image size.
        renamed = checkpoint_filter_fn(read_weights(path), self.model)  # type: ignore[arg-type]
        fill(self.model, renamed, path, left_out=("mask_token", "head."))
        self.model.to(device)
        self.weights_sha256 = file_sha256(path)
        self._device = device

    @torch.inference_mode()
    def features(self, images: np.ndarray) -> np.ndarray:
        """Images (N, C, H, W) uint8 to (N, 384) float32."""
        batch = functional.interpolate(
            _in_colour(images, self._device), size=(DINO_SIDE, DINO_SIDE), mode="bicubic", antialias=True
        )
        return self.model(imagenet_scaled(batch.clamp(0, 255))).float().cpu().numpy()


def _in_colour(images: np.ndarray, device: torch.device) -> Tensor:
    """(N, C, H, W) to (N, 3, H, W) float32 on the same scale; grey is repeated."""
    batch = torch.from_numpy(np.ascontiguousarray(images)).to(device, torch.float32)
    return batch.expand(-1, 3, -1, -1) if batch.shape[1] == 1 else batch


def open_extractor(
    name: str, path: Path | None = None, device: str = "auto"
) -> TaskExtractor | InceptionExtractor | VggExtractor | DinoExtractor:
    """The extractor of that name.

    Args:
        path: `task`: the folder of a classifier run; others: the file of weights, looked for in the usual
            places where it is None.

    Raises:
        SettingsError: for an unknown name, or `task` without a run.
        ClassifierError: if the weights are not there or do not fit.
    """
    chosen = choose_device(device)
    match name:
        case "task":
            if path is None:
                raise SettingsError(
                    "--extractor task: expected the folder of a classifier run, got none; train one on the "
                    "training part (classifier train) and give --extractor task=RUN"
                )
            return task_extractor(path, device)
        case "inception":
            return InceptionExtractor(find_weights(name, path, INCEPTION_FILES, None), chosen)
        case "vgg16":
            return VggExtractor(find_weights(name, path, VGG_FILES, None), chosen)
        case "dinov2":
            return DinoExtractor(find_weights(name, path, DINO_FILES, f"timm/{DINO_ARCH}"), chosen)
    raise SettingsError(
        f"--extractor {name}: expected one of task, inception, vgg16, dinov2 or pixels, got '{name}'"
    )
