"""A run as one ONNX file that other programs can compute, checked before it is left there.

The file holds everything from prepared pixels to calibrated probabilities. The steps before (crop, CLAHE,
...) are described in its metadata and done by `classifier.onnx_model`.
"""

from __future__ import annotations

import json
import warnings
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from classifier.augment import Augmentation, change_batch
from classifier.calibration import scale_logits
from classifier.data import ImageTable
from classifier.decision import read_decision
from classifier.errors import ClassifierError
from classifier.losses import log_probability_scores
from classifier.onnx_model import FORMAT, INPUT, LOGITS, METADATA_KEY, PROBABILITIES, OnnxModel
from classifier.preprocess import SMALLEST_STD, Preprocessing
from classifier.run import Classifier, load_classifier
from classifier.views import view_draws
from extract.archive import open_archive
from extract.atomic import replace_file, write_text
from extract.cache import open_images
from extract.errors import SettingsError
from extract.file_hash import file_sha256
from extract.json_values import json_value
from extract.preprocessing import PreprocessConfig

TOLERANCE = 1e-4  # largest difference of a probability between PyTorch and the exported file
NUM_CHECKED = 12  # images of each kind
OPSET = 20
RECORDED_VERSIONS = ("torch", "timm", "onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class ExportSummary:
    """What was written, and how far it is from PyTorch."""

    dest: Path
    description: Path
    num_bytes: int
    num_checked: int
    largest_difference: float  # of a probability
    largest_logit_difference: float


class ServedNetwork(nn.Module):
    """Prepared pixels (N, c, h, w) uint8 to calibrated probabilities and logits, (N, C) float32 each."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        config, preprocessing = classifier.config, classifier.preprocessing
        self.network = classifier.model
        self.loss, self.temperature = config.loss, classifier.temperature
        self.mirror, self.num_views = config.mirror, config.tta
        self.by_image = preprocessing.steps.normalize == "image"
        self.register_buffer("mean", torch.tensor(preprocessing.mean).mul(255).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std).mul(255).view(1, -1, 1, 1))
        self.register_buffer("draws", view_draws(config.tta, config.mirror, config.seed))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        batch = self._scaled(pixels)
        views = [batch]
        for view in range(self.num_views):
            draws = self.draws[:, view : view + 1].expand(-1, batch.shape[0])  # type: ignore[index]
            views.append(change_batch(batch, draws, Augmentation(mirror=self.mirror)))
        scores = [log_probability_scores(self.network(view), self.loss) for view in views]
        logits = scores[0] if len(scores) == 1 else torch.stack(scores).mean(dim=0)
        return torch.softmax(logits.double() / self.temperature, dim=1).float(), logits

    def _scaled(self, pixels: Tensor) -> Tensor:
        """As `Preprocessing.scale_prepared`; an image's own moments from whole sums, as there."""
        if not self.by_image:
            return (pixels.float() - self.mean) / self.std  # type: ignore[operator]
        whole = pixels.flatten(1).long()  # (N, c * h * w)
        count = whole.shape[1]
        mean = whole.sum(dim=1).double() / count
        squares = (whole * whole).sum(dim=1).double() / count
        std = (squares - mean * mean).clamp(min=0).sqrt().float().clamp(min=255 * SMALLEST_STD)
        return (pixels.float() - mean.float().view(-1, 1, 1, 1)) / std.view(-1, 1, 1, 1)


def export_onnx(
    run_dir: Path,
    dest: Path,
    *,
    images: ImageTable | None = None,
    tolerance: float = TOLERANCE,
    overwrite: bool = False,
) -> ExportSummary:
    """Write a run as ONNX with a description beside it (NAME.json), if it computes what PyTorch computes.

    Input `pixels` is (N, c, h, w) uint8, N free, as the preprocessing's steps leave images; outputs are
    `probabilities` (calibrated) and `logits`, (N, C) float32.

    Args:
        run_dir: folder of a finished run.
        dest: file to write, .onnx.
        images: real images to check with, beside random and smooth ones.
        tolerance: largest difference of a probability that is let pass.
        overwrite: replace files that are there.

    Raises:
        SettingsError: if `dest` does not end in .onnx.
        ClassifierError: if the packages for ONNX are missing, the network cannot be exported, or the exported
            one differs from PyTorch by more than the tolerance; nothing is written then.
    """
    dest = Path(dest)
    description_path = dest.with_suffix(".json")
    if dest.suffix.lower() != ".onnx":
        raise SettingsError(f"--dest must end in .onnx, got {dest}")
    for path in (dest, description_path):
        if path.exists() and not overwrite:
            raise ClassifierError(
                f"{path}: already exists and is left alone; name another or pass --overwrite"
            )
    _require_exporter()
    classifier = load_classifier(run_dir, "cpu")
    classifier.config = replace(classifier.config, precision="fp32")  # what the file computes in
    _refuse_old_resize(classifier.preprocessing)
    description = _describe(classifier, Path(run_dir))
    with replace_file(dest) as temporary:
        _write_model(classifier, description, temporary)
        probs, logits, num_checked = _differences(classifier, OnnxModel.load(temporary), images)
        if not probs <= tolerance:
            raise ClassifierError(
                f"{dest}: the exported network differs from PyTorch by {probs:.2g} in a probability "
                f"(tolerance {tolerance:g}) on {num_checked} images, so nothing was written: report it with "
                f"the network's name, {classifier.config.arch}"
            )
    description["check"] = {
        "num_images": num_checked,
        "largest_probability_difference": probs,
        "largest_logit_difference": logits,
        "tolerance": tolerance,
    }
    description["onnx_sha256"] = file_sha256(dest)
    write_text(description_path, json.dumps(json_value(description), indent=2) + "\n")
    return ExportSummary(dest, description_path, dest.stat().st_size, num_checked, probs, logits)


def open_table(data: Path) -> ImageTable:
    """All images of an archive, by reference."""
    with open_archive(data) as archive:
        return ImageTable(open_images(archive))


def _require_exporter() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ClassifierError(
            "the export to ONNX needs onnx, onnxscript and onnxruntime, which are not all installed; run: "
            "pip install 'synthlabel[onnx]'"
        ) from error


def _write_model(classifier: Classifier, description: dict[str, Any], path: Path) -> None:
    import onnx

    preprocessing = classifier.preprocessing
    shape = (preprocessing.input_channels, *preprocessing.input_size)
    served = ServedNetwork(classifier).eval()
    example = torch.zeros((2, *shape), dtype=torch.uint8)
    said = StringIO()  # the exporter's report; shown where it fails
    try:
        with torch.no_grad(), warnings.catch_warnings(), redirect_stdout(said), redirect_stderr(said):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                served,
                (example,),
                dynamo=True,
                input_names=[INPUT],
                output_names=[PROBABILITIES, LOGITS],
                dynamic_shapes=({0: torch.export.Dim("batch", min=1)},),
                opset_version=OPSET,
                verbose=False,
            )
        assert program is not None
        model = program.model_proto
    except Exception as error:  # the exporter raises almost anything on what it does not know
        reason = str(error).strip().splitlines()
        raise ClassifierError(
            f"{classifier.config.arch} cannot be exported to ONNX ({type(error).__name__}: "
            f"{reason[0] if reason else 'no reason given'})"
        ) from error
    entry = model.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, json.dumps(json_value(description))
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _differences(
    classifier: Classifier, exported: OnnxModel, images: ImageTable | None
) -> tuple[float, float, int]:
    """Largest difference of a probability and of a logit, and on how many images."""
    tables = [_made_up(classifier.preprocessing)]
    if images is not None:
        rows = np.unique(np.linspace(0, len(images) - 1, NUM_CHECKED).astype(np.int64))
        tables.append(images.subset(rows))
    largest_prob, largest_logit, num_checked = 0.0, 0.0, 0
    for table in tables:
        ours, theirs = classifier.predict_logits(table), exported.predict_logits(table)
        probs = scale_logits(ours, classifier.temperature)
        difference = np.abs(probs - exported.predict_probs(table)).max()
        largest_prob = max(largest_prob, float(difference))
        largest_logit = max(largest_logit, float(np.abs(ours - theirs).max()))
        num_checked += len(table)
    if not (np.isfinite(largest_prob) and np.isfinite(largest_logit)):
        raise ClassifierError("the network gives values that are not finite: it cannot be exported")
    return largest_prob, largest_logit, num_checked


def _made_up(preprocessing: Preprocessing) -> ImageTable:
    """Noise, smooth shades and a blank image of the shape that the classifier takes."""
    shape = (preprocessing.channels, preprocessing.height, preprocessing.width)
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (NUM_CHECKED // 2, *shape))
    y, x = np.mgrid[0 : shape[1], 0 : shape[2]] / max(shape[1:])
    waves = [
        127 + 127 * np.sin(2 * np.pi * (number * x + (NUM_CHECKED - number) * y) / 4)
        for number in range(NUM_CHECKED - NUM_CHECKED // 2 - 1)
    ]
    smooth = np.repeat(np.stack(waves)[:, None], shape[0], axis=1)
    return ImageTable(np.concatenate([noise, smooth, np.zeros((1, *shape))]).round().astype(np.uint8))


def _describe(classifier: Classifier, run_dir: Path) -> dict[str, Any]:
    preprocessing, rule = classifier.preprocessing, read_decision(run_dir)
    steps: PreprocessConfig = preprocessing.steps
    return {
        "format": FORMAT,
        "arch": classifier.config.arch,
        "classes": list(classifier.classes),
        "input": {
            "name": INPUT,
            "type": "uint8",
            "shape": ["N", preprocessing.input_channels, *preprocessing.input_size],
            "meaning": f"images as archives hold them, after these steps: {steps.describe()}; the scaling at "
            "the end of them is part of the file",
        },
        "outputs": {
            PROBABILITIES: "(N, C) float32, calibrated: softmax of the logits divided by the temperature",
            LOGITS: "(N, C) float32, uncalibrated"
            + (", logarithms of sigmoids" if classifier.config.loss == "binary" else ""),
        },
        "temperature": classifier.temperature,
        "views": classifier.config.tta,
        "preprocessing": preprocessing.to_json(),
        **asdict(classifier.provenance),
        "usual_inputs": None if classifier.usual is None else classifier.usual.to_json(),
        "decision": None if rule is None else {"reject_confidence": rule.reject_confidence},
        "versions": {name: version(name) for name in RECORDED_VERSIONS},
    }


def _refuse_old_resize(preprocessing: Preprocessing) -> None:
    if preprocessing.resize and (preprocessing.height, preprocessing.width) != preprocessing.input_size:
        raise ClassifierError(
            "the run resizes its images in the way of the preprocessing's first version, which is not "
            "exported: train it again (its --preprocessing takes a size)"
        )
