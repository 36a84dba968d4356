"""A trained segmenter, in memory and as a folder; loading one executes nothing from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from classifier.description import read_run_description
from classifier.errors import ClassifierError
from classifier.mask_cleaning import CleanedMask, CleaningConfig, clean_mask
from classifier.models import choose_device
from classifier.preprocess import Preprocessing
from classifier.segment_config import SegmentConfig
from classifier.segment_frame import Frame
from classifier.unet import build_unet
from extract.atomic import replace_file, write_text
from extract.file_hash import picture_hash

FORMAT = 1
RECORDED_VERSIONS = ("torch", "numpy", "scipy", "opencv-python-headless")
WEIGHTS, DESCRIPTION = "model.safetensors", "segmenter.json"


@dataclass(frozen=True)
class PairProvenance:
    """What a segmenter learned from; empty where it was trained on plain arrays."""

    data_sha256: str = ""  # names and contents of all pairs
    num_pairs: Mapping[str, int] = field(default_factory=dict)  # by part
    subjects: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by part


class Segmenter:
    """A network with everything its use needs: preprocessing, size, threshold, cleaning, whom it has seen."""

    def __init__(
        self,
        model: nn.Module,
        config: SegmentConfig,
        preprocessing: Preprocessing,
        *,
        cleaning: CleaningConfig | None = None,
        provenance: PairProvenance | None = None,
        weights_sha256: str = "",
    ) -> None:
        self.model = model.eval()
        self.config = config
        self.preprocessing = preprocessing
        self.cleaning = cleaning or CleaningConfig()
        self.provenance = provenance or PairProvenance()
        self.weights_sha256 = weights_sha256  # of the file it was read from or written to

    def predict(self, pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Probability of lung for each pixel: one (H, W) float32 a picture, as large as the picture.

        Args:
            pictures: gray, (H, W) uint8, of any sizes; one batch for the network.
        """
        return list(self._predict_each(pictures))

    def _predict_each(self, pictures: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """One after the other, so that of large pictures only one lies in memory as floats."""
        frames = [Frame(picture.shape[0], picture.shape[1], self.config.size) for picture in pictures]
        squares = np.stack([frame.put(picture) for frame, picture in zip(frames, pictures, strict=True)])
        probabilities = self.predict_squares(squares[:, None])[:, 0]
        for frame, square in zip(frames, probabilities, strict=True):
            yield frame.take_back(square)

    def predict_squares(self, squares: np.ndarray) -> np.ndarray:
        """The same for pictures that fill the network's square: (N, 1, size, size) uint8 to float32."""
        self.model.eval()
        device = next(self.model.parameters()).device
        with torch.inference_mode():
            batch = self.preprocessing.to_batch(squares, device)
            return torch.sigmoid(self.model(batch).float()).cpu().numpy()

    def segment(self, pictures: Sequence[np.ndarray]) -> list[CleanedMask]:
        """Cleaned masks of gray pictures, each as large as its picture."""
        return [
            clean_mask(probability >= self.config.threshold, self.cleaning)
            for probability in self._predict_each(pictures)
        ]

    def save(self, run_dir: Path) -> None:
        """Write model.safetensors and, last, segmenter.json, which completes the run."""
        run_dir = Path(run_dir)
        data = save(
            {name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()}
        )
        with replace_file(run_dir / WEIGHTS) as temporary:
            temporary.write_bytes(data)
            # What an earlier run says of itself (whom it saw) must never stand beside these weights.
            (run_dir / DESCRIPTION).unlink(missing_ok=True)
        self.weights_sha256 = picture_hash(data)
        write_text(run_dir / DESCRIPTION, json.dumps(self._description(), indent=2) + "\n")

    def _description(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "weights_sha256": self.weights_sha256,
            "preprocessing": self.preprocessing.to_json(),
            "cleaning": asdict(self.cleaning),
            **asdict(self.provenance),
            "config": asdict(self.config),
            "versions": {name: version(name) for name in RECORDED_VERSIONS},
        }


def load_segmenter(run_dir: Path, device: str = "auto") -> Segmenter:
    """Read a segmenter back; "auto" puts it on CUDA where there is one.

    Raises:
        ClassifierError: if a file is missing or damaged, the weights are not those that segmenter.json
            describes, or it was written in a later format.
    """
    run_dir = Path(run_dir)
    description = read_run_description(run_dir / DESCRIPTION, "segmenter", "classifier segment train", FORMAT)
    try:
        preprocessing = Preprocessing.from_json(description["preprocessing"])
        config = SegmentConfig(**_known(SegmentConfig, description["config"]))
        cleaning = CleaningConfig(**_known(CleaningConfig, description["cleaning"]))
        provenance = PairProvenance(**{f.name: description[f.name] for f in fields(PairProvenance)})
        expected = str(description["weights_sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise ClassifierError(
            f"{run_dir / DESCRIPTION}: an entry is missing or malformed ({error}); "
            "restore the file or train again"
        ) from error
    model = build_unet(1, config.width, config.depth, config.norm, seed=0)
    _load_weights(model, run_dir / WEIGHTS, expected)
    model.to(choose_device(device))
    return Segmenter(
        model,
        config,
        preprocessing,
        cleaning=cleaning,
        provenance=provenance,
        weights_sha256=expected,
    )


def _known(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    names = {f.name for f in fields(kind)}
    return {name: value for name, value in values.items() if name in names}


def _load_weights(model: nn.Module, path: Path, expected: str) -> None:
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ClassifierError(f"{path} does not exist: the run is incomplete, train it again") from error
    if picture_hash(data) != expected:
        raise ClassifierError(
            f"{path}: the weights are not those that {DESCRIPTION} beside it describes (their SHA-256 "
            "differs); the two files come from different runs, or one is damaged"
        )
    try:
        model.load_state_dict(load(data))
    except (SafetensorError, RuntimeError, ValueError) as error:
        raise ClassifierError(
            f"{path}: the weights do not fit the network in {DESCRIPTION} beside it ({error}); "
            "restore the files or train again"
        ) from error
