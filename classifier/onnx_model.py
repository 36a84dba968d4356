"""An exported classifier at work: the same steps as in training, then onnxruntime instead of PyTorch.

Importing this module loads no PyTorch. What it needs beside this package is the extra `onnx`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from classifier.data import ImageTable
from classifier.errors import ClassifierError
from classifier.preprocess import Preprocessing
from classifier.usual import UsualInputs

if TYPE_CHECKING:
    import onnxruntime

FORMAT = "synthlabel-onnx-1"
METADATA_KEY = "synthlabel"
RUN_BATCH = 64  # images at a time
INPUT, PROBABILITIES, LOGITS = "pixels", "probabilities", "logits"


class OnnxModel:
    """An ONNX file of `classifier export`, which answers as the run does that it was made of.

    `classifier.predict.predict_files` takes it in the place of a classifier.
    """

    def __init__(self, session: onnxruntime.InferenceSession, description: Mapping[str, Any]) -> None:
        self._session = session
        self.description = description
        self.classes = tuple(map(str, description["classes"]))
        self.temperature = float(description["temperature"])
        self.preprocessing = Preprocessing.from_json(dict(description["preprocessing"]))
        self.preparation: Mapping[str, Any] | None = description.get("preparation")
        ranges = description.get("usual_inputs")
        self.usual = None if ranges is None else UsualInputs.from_json(ranges)
        self.train_subjects: tuple[str, ...] = ()  # names of people are not exported
        self.val_subjects: tuple[str, ...] = ()

    @staticmethod
    def load(path: Path, num_threads: int | None = None) -> OnnxModel:
        """Open a file; nothing in it is executed but its network.

        Raises:
            ClassifierError: if onnxruntime is missing, or the file was not made by `classifier export`.
        """
        runtime = _require_runtime()
        options = runtime.SessionOptions()
        if num_threads is not None:
            options.intra_op_num_threads = num_threads
        options.log_severity_level = 3
        if not Path(path).is_file():
            raise ClassifierError(f"{path}: expected an .onnx file of `classifier export`, got nothing there")
        try:
            session = runtime.InferenceSession(f"{path}", options, providers=["CPUExecutionProvider"])
            text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY, "")
        except Exception as error:  # onnxruntime has an error for each kind of damage, and no common one
            raise ClassifierError(
                f"{path}: expected an ONNX network, got a file that cannot be read ({error}); export it again"
            ) from error
        try:
            description = json.loads(text)
            if description["format"] != FORMAT:
                raise ValueError(f"format {description['format']!r}, expected {FORMAT!r}")
            return OnnxModel(session, description)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ClassifierError(
                f"{path}: expected a network of `classifier export`, got one whose description is missing or "
                f"malformed ({error})"
            ) from error

    def predict_logits(self, images: ImageTable, batch_size: int | None = None) -> np.ndarray:
        """(N, C) float32, uncalibrated; images as archives hold them."""
        return self._run(images, LOGITS, batch_size)

    def predict_probs(self, images: ImageTable, batch_size: int | None = None) -> np.ndarray:
        """(N, C) float32 calibrated probabilities."""
        return self._run(images, PROBABILITIES, batch_size)

    def _run(self, images: ImageTable, output: str, batch_size: int | None) -> np.ndarray:
        batch_size = batch_size or RUN_BATCH
        found = np.empty((len(images), len(self.classes)), np.float32)
        for start in range(0, len(images), batch_size):
            rows = np.arange(start, min(start + batch_size, len(images)))
            prepared = np.ascontiguousarray(self.preprocessing.prepare(images.gather(rows)))
            found[rows] = self._session.run([output], {INPUT: prepared})[0]
        return found


def _require_runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ClassifierError(
            "ONNX files need onnxruntime, which is not installed; run: pip install 'synthlabel[onnx]'"
        ) from error
    return onnxruntime
