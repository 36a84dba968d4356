"""A trained classifier, in memory and as a folder; loading one executes nothing from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import nn

from classifier.batches import predict_batch
from classifier.calibration import scale_logits
from classifier.config import ClassifierConfig
from classifier.data import ImageTable
from classifier.description import DESCRIPTION, FORMAT, WEIGHTS, read_run_description
from classifier.errors import ClassifierError
from classifier.losses import log_probability_scores
from classifier.models import build_model, choose_device
from classifier.precision import autocast
from classifier.preprocess import Preprocessing
from classifier.usual import UsualInputs
from classifier.views import views_of
from extract.atomic import replace_file, write_text
from extract.json_values import json_value

RECORDED_VERSIONS = ("torch", "timm", "fastai", "numpy")
HISTORY = "history.csv"


@dataclass(frozen=True)
class Provenance:
    """Where the training images came from; empty where a classifier was trained on plain arrays."""

    archive_sha256: str = ""
    split_sha256: str = ""
    fold: int | None = None
    fraction: float | None = None
    preparation: Mapping[str, Any] | None = None  # settings that made the images, see `kept_settings`


class Classifier:
    """A network with everything its use needs: classes, preprocessing, temperature, and whom it has seen."""

    def __init__(
        self,
        model: nn.Module,
        classes: Sequence[str],
        config: ClassifierConfig,
        preprocessing: Preprocessing,
        *,
        temperature: float = 1.0,
        history: pd.DataFrame | None = None,
        train_subjects: Sequence[str] = (),
        val_subjects: Sequence[str] = (),
        provenance: Provenance | None = None,
        usual: UsualInputs | None = None,
    ) -> None:
        self.model = model.eval()
        self.classes = tuple(classes)
        self.config = config
        self.preprocessing = preprocessing
        self.temperature = temperature
        self.history = pd.DataFrame() if history is None else history  # one row a look at the validation part
        self.train_subjects = tuple(train_subjects)
        self.val_subjects = tuple(val_subjects)  # chose the checkpoint and the temperature
        self.provenance = provenance or Provenance()
        self.usual = usual  # how the training images look; None = not measured

    @property
    def preparation(self) -> Mapping[str, Any] | None:
        """Settings that made the training images; None where unknown."""
        return self.provenance.preparation

    def predict_logits(self, images: ImageTable, batch_size: int | None = None) -> np.ndarray:
        """Score every image: (N, C) float32 logits, uncalibrated, in the order of the table."""
        logits = np.empty((len(images), len(self.classes)), dtype=np.float32)
        for rows, batch in self.prepared_batches(images, batch_size):
            with torch.inference_mode():
                logits[rows] = self.network_output(batch).cpu().numpy()
        return logits

    def prepared_batches(
        self, images: ImageTable, batch_size: int | None = None
    ) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
        """Rows of the table and the network's input for them, in order, the network in inference mode."""
        self.model.eval()
        device = next(self.model.parameters()).device
        batch_size = batch_size or predict_batch(device)
        for start in range(0, len(images), batch_size):
            rows = np.arange(start, min(start + batch_size, len(images)))
            with torch.inference_mode():
                batch = self.preprocessing.to_batch(images.gather(rows), device)
            yield rows, batch

    def network_output(self, batch: torch.Tensor) -> torch.Tensor:
        """Logits (N, C) float32 of a prepared batch (N, c, h, w), the mean over views where there are any."""
        config = self.config
        views = views_of(batch, config.tta, config.mirror, config.seed) if config.tta else iter((batch,))
        with autocast(batch.device, config.precision):
            scores = [log_probability_scores(self.model(view).float(), config.loss) for view in views]
        return scores[0] if len(scores) == 1 else torch.stack(scores).mean(dim=0)

    def predict_probs(self, images: ImageTable) -> np.ndarray:
        """Calibrated probabilities softmax(logits / temperature), (N, C) float64; rows sum to 1."""
        return scale_logits(self.predict_logits(images), self.temperature)

    def save(self, run_dir: Path, *, flush: bool = True) -> None:
        """Write model.safetensors, history.csv and, last, model.json, which completes the run.

        Args:
            flush: wait until they are on the disk; not for a model that is soon removed again.
        """
        run_dir = Path(run_dir)
        tensors = {
            name: tensor.detach().cpu().contiguous() for name, tensor in self.model.state_dict().items()
        }
        with replace_file(run_dir / WEIGHTS, flush=flush) as temporary:
            temporary.write_bytes(save(tensors))  # by Python, whose OSError tells a full disk
            # What an earlier run says of itself (whom it saw) must never stand beside these weights.
            (run_dir / DESCRIPTION).unlink(missing_ok=True)
        write_text(run_dir / HISTORY, self.history.to_csv(index=False), flush=flush)
        write_text(run_dir / DESCRIPTION, json.dumps(self._description(), indent=2) + "\n", flush=flush)

    def _description(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "arch": self.config.arch,
            "classes": list(self.classes),
            "preprocessing": self.preprocessing.to_json(),
            "temperature": self.temperature,
            **json_value(asdict(self.provenance)),
            "subjects": {"train": list(self.train_subjects), "val": list(self.val_subjects)},
            "config": json_value(asdict(self.config)),
            "versions": {name: version(name) for name in RECORDED_VERSIONS},
            "usual_inputs": None if self.usual is None else self.usual.to_json(),
        }


def load_classifier(run_dir: Path, device: str = "auto") -> Classifier:
    """Read a classifier run back; "auto" puts it on CUDA where there is one.

    Raises:
        ClassifierError: if a file is missing or damaged, or was written in a later format.
    """
    run_dir = Path(run_dir)
    description = read_run_description(run_dir / DESCRIPTION, "classifier", "classifier train", FORMAT)
    try:
        preprocessing = Preprocessing.from_json(description["preprocessing"])
        known = {field.name for field in fields(ClassifierConfig)}
        config = ClassifierConfig(
            **{key: value for key, value in description["config"].items() if key in known}
        )
        description.setdefault("preparation", None)  # of runs from before it was recorded
        provenance = Provenance(**{field.name: description[field.name] for field in fields(Provenance)})
        classes, temperature = list(description["classes"]), float(description["temperature"])
        train_subjects, val_subjects = description["subjects"]["train"], description["subjects"]["val"]
        ranges = description.get("usual_inputs")  # of runs from before they were measured: none
        usual = None if ranges is None else UsualInputs.from_json(ranges)
    except (KeyError, TypeError, ValueError) as error:
        raise ClassifierError(
            f"{run_dir / DESCRIPTION}: an entry is missing or malformed ({error}); "
            "restore the file or train again"
        ) from error
    model = build_model(
        config.arch,
        len(classes),
        preprocessing.input_channels,
        preprocessing.input_size,
        head=config.head,
        dropout=config.dropout,
    )
    _load_weights(model, run_dir / WEIGHTS)
    model.to(choose_device(device))
    history_path = run_dir / HISTORY
    return Classifier(
        model,
        classes,
        config,
        preprocessing,
        temperature=temperature,
        history=pd.read_csv(history_path) if history_path.exists() else None,
        train_subjects=train_subjects,
        val_subjects=val_subjects,
        provenance=provenance,
        usual=usual,
    )


def _load_weights(model: nn.Module, path: Path) -> None:
    try:
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise ClassifierError(f"{path} does not exist: the run is incomplete, train it again") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise ClassifierError(
            f"{path}: the weights cannot be read ({error}); restore the file or train again"
        ) from error
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ClassifierError(
            f"{path}: the weights do not fit the architecture in {DESCRIPTION} beside it; "
            "the two files come from different runs"
        ) from error
