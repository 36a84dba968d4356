"""One measurement of `benchmarks.classifier`, in a process of its own.

Takes a JSON object as its only argument, prints a JSON object as its last line.
"""

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from classifier.config import ClassifierConfig
from classifier.data import ImageTable, LabeledImages
from classifier.models import build_model
from classifier.preprocess import Preprocessing, fit_preprocessing
from classifier.run import Classifier
from classifier.training import train_classifier
from extract.archive import open_archive
from extract.cache import open_images

MODEL_SEED = 3


def measure_folder(spec: dict[str, Any]) -> dict[str, Any]:
    """fastai as its tutorials use it: `ImageDataLoaders.from_folder`, one cycle, `get_preds`."""
    from fastai.vision.all import (
        CrossEntropyLossFlat,
        ImageDataLoaders,
        Learner,
        Normalize,
        PILImage,
        PILImageBW,
        Resize,
        aug_transforms,
        get_image_files,
    )

    mean, std = np.array(spec["mean"]), np.array(spec["std"])
    transforms = aug_transforms(
        do_flip=False, max_rotate=8.0, max_zoom=1.1, max_lighting=0.2, max_warp=0.0, size=spec["size"]
    )
    loaders = ImageDataLoaders.from_folder(
        spec["folder"],
        train="train",
        valid="val",
        bs=spec["batch"],
        img_cls=PILImageBW if spec["channels"] == 1 else PILImage,
        item_tfms=None if spec["picture_size"] == spec["size"] else Resize(spec["size"]),
        batch_tfms=[*transforms, Normalize.from_stats(mean.tolist(), std.tolist(), cuda=False)],
        num_workers=spec["workers"],
        seed=0,
    )
    classes = [str(name) for name in loaders.vocab]
    model = _network(spec, len(classes))
    learner = Learner(loaders, model, loss_func=CrossEntropyLossFlat())
    learner.remove_cb(learner.progress)
    started = time.perf_counter()
    learner.fit_one_cycle(spec["epochs"], spec["lr"])
    training = time.perf_counter() - started
    num_trained = spec["epochs"] * len(loaders.train) * spec["batch"]

    learner.model.load_state_dict(_network(spec, len(classes)).state_dict())
    files = sorted(get_image_files(Path(spec["folder"]) / "test"))
    started = time.perf_counter()
    probs, _ = learner.get_preds(dl=loaders.test_dl(files, num_workers=spec["workers"]))
    inference = time.perf_counter() - started
    return {
        "training_images_per_sec": num_trained / training,
        "inference_images_per_sec": len(files) / inference,
        "probs": {
            str(file.relative_to(spec["folder"])): row
            for file, row in zip(files, probs.tolist(), strict=True)
        },
    }


def measure_ours(spec: dict[str, Any]) -> dict[str, Any]:
    """The same from the archive: decoding it, which is done once for all runs, is told apart."""
    started = time.perf_counter()
    with open_archive(Path(spec["archive"])) as archive:
        images = open_images(archive)
        classes = archive.classes
        parts = {part: _labeled(archive, images, np.array(rows)) for part, rows in spec["rows"].items()}
    opening = time.perf_counter() - started
    config = ClassifierConfig(
        steps=spec["epochs"] * (len(parts["train"]) // spec["batch"]),
        validate_every=len(parts["train"]) // spec["batch"],
        batch_size=spec["batch"],
        lr=spec["lr"],
        calibrate=False,
        device="cpu",
        precision=spec["precision"],
    )
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # imports more of torch, once a process
    started = time.perf_counter()
    train_classifier(parts["train"], parts["val"], classes, config)
    training = time.perf_counter() - started

    preprocessing = fit_preprocessing(parts["train"].images)
    preprocessing = Preprocessing(
        **{**vars(preprocessing), "mean": tuple(spec["mean"]), "std": tuple(spec["std"])}
    )
    classifier = Classifier(_network(spec, len(classes)), classes, config, preprocessing)
    started = time.perf_counter()
    probs = classifier.predict_probs(parts["test"].images)
    inference = time.perf_counter() - started

    many = ImageTable(images, np.arange(spec["many"]) % len(images))
    started = time.perf_counter()
    classifier.predict_probs(many)
    scoring = time.perf_counter() - started
    return {
        "opening_sec": opening,
        "training_images_per_sec": config.steps * spec["batch"] / training,
        "inference_images_per_sec": len(parts["test"]) / inference,
        "scoring_sec": scoring,
        "probs": dict(zip(spec["test_files"], probs.tolist(), strict=True)),
    }


def _labeled(archive: Any, images: np.ndarray, rows: np.ndarray) -> LabeledImages:
    return LabeledImages(
        images=ImageTable(images, rows),
        labels=archive.labels[rows],
        subjects=archive.subjects[rows],
        origin=np.full(len(rows), "real"),
        is_pseudo=np.zeros(len(rows), dtype=bool),
    )


def _network(spec: dict[str, Any], num_classes: int) -> nn.Module:
    size = (spec["size"], spec["size"])
    return build_model(spec["arch"], num_classes, spec["channels"], size, seed=MODEL_SEED).eval()


def main() -> None:
    spec = json.loads(sys.argv[1])
    torch.set_num_threads(spec["threads"])
    measured = measure_ours(spec) if spec["variant"] == "ours" else measure_folder(spec)
    measured["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
