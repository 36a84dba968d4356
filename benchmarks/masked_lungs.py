"""Compare classifiers on chest X-rays with those on the lungs alone, and on all but the lungs.

    python -m benchmarks.masked_lungs --data chest128.zip --split chest128.split.json --model runs/lungs \
        --work masked-lungs --out benchmarks/results/masked-lungs.json

The same classifier is trained on the same images of the same subjects for the same number of steps with the
same seeds; only the masking differs. Every arm is measured on the whole validation part of the fold. Nothing
is chosen on that part: the last weights are kept, at a number of steps that was fixed before. The test part
stays closed. Differences are paired: subjects are drawn again, the same for both arms, and the variance
between seeds is added (`semisup.statistics`). What is done already in --work is not done twice.
"""

import argparse
import json
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import processor, write_result
from classifier.config import ClassifierConfig
from classifier.data import real_part
from classifier.lung_pixels import ApplyConfig
from classifier.segment_apply import apply_to_archive
from classifier.segmenter import load_segmenter
from classifier.training import train_classifier
from extract.archive import open_archive
from extract.atomic import replace_file, write_text
from extract.cache import open_images
from extract.preprocessing import PreprocessConfig
from extract.progress import Progress
from extract.split import read_split
from semisup.statistics import (
    Estimate,
    RunCounts,
    SubjectBootstrap,
    class_strata,
    count_predictions,
    recall_per_class,
)

WHOLE = "whole"
ARMS = {
    WHOLE: None,
    "lungs": ApplyConfig(),
    "lungs_mean": ApplyConfig(outside="mean"),
    "lungs_cropped": ApplyConfig(crop=True),
    "surroundings": ApplyConfig(keep="surroundings"),
}


def main() -> None:
    options = _parse()
    options.work.mkdir(parents=True, exist_ok=True)
    arms = options.arms.split(",")
    fractions = [float(fraction) for fraction in options.fractions.split(",")]
    masked = {arm: _masked(options, arm) for arm in arms if arm != WHOLE}
    counts: dict[tuple[str, float], list[RunCounts]] = {}
    for seed in range(options.seeds):
        for fraction in fractions:
            for arm in arms:
                counts.setdefault((arm, fraction), []).append(_train(options, arm, fraction, seed))
    result: dict[str, Any] = {
        "machine": processor(),
        "versions": {name: version(name) for name in ("torch", "fastai", "numpy")},
        "command": _command(),
        "settings": {
            "arch": options.arch, "steps": options.steps, "size": options.size, "fold": options.fold,
            "seeds": options.seeds, "part": "val at fraction 1.0, nothing chosen on it",
        },
        "masked": masked,
        "results": [_compare(counts, arms, fraction) for fraction in fractions],
    }  # fmt: skip
    write_result(options.out, result)


def _command() -> str:
    """As it was given, without the folders of this machine."""
    given = [Path(argument).name if "/" in argument else argument for argument in sys.argv[1:]]
    return shlex.join(["python", "-m", "benchmarks.masked_lungs", *given])


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="Archive of whole images.")
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="Run of `classifier segment train`.")
    parser.add_argument("--work", type=Path, required=True, help="Folder for archives and predictions.")
    parser.add_argument("--arms", default="whole,lungs", help=f"Of {', '.join(ARMS)}.")
    parser.add_argument("--fractions", default="0.2,1.0")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--arch", default="small_resnet")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--size", type=int, default=64, help="Side of the classifier's input.")
    parser.add_argument("--out", type=Path, help="JSON file to write.")
    return parser.parse_args()


def _paths(options: argparse.Namespace, arm: str) -> tuple[Path, Path]:
    if arm == WHOLE:
        return options.data, options.split
    return options.work / f"{arm}.zip", options.work / f"{arm}.split.json"


def _masked(options: argparse.Namespace, arm: str) -> dict[str, Any]:
    """Make the arm's archive where it is not there, and say what was found."""
    path, split_path = _paths(options, arm)
    config = ARMS[arm]
    assert config is not None
    about = options.work / f"{arm}.json"
    if not (path.exists() and split_path.exists() and about.exists()):
        with open_archive(options.data) as archive:
            summary = apply_to_archive(
                load_segmenter(options.model, "cpu"), archive, path, config,
                split=read_split(options.split, archive), overwrite=True, progress=_report(arm),
            )  # fmt: skip
        told = {
            "num_images": summary.num_images,
            "num_implausible": len(summary.implausible),
            "by_class": {name: list(pair) for name, pair in summary.num_by_class.items()},
            "num_lungs": summary.num_lungs,
            "lung_share": summary.mean_share,
        }
        write_text(about, json.dumps(told) + "\n")
    return json.loads(about.read_text(encoding="utf-8"))


def _train(options: argparse.Namespace, arm: str, fraction: float, seed: int) -> RunCounts:
    """Predictions of one training on the validation part, from the folder where they are there."""
    path, split_path = _paths(options, arm)
    stored = options.work / f"{arm}-f{fraction:g}-s{seed}-{options.arch}-{options.steps}-{options.size}.npz"
    with open_archive(path) as archive:
        if not stored.exists():
            split = read_split(split_path, archive)
            images = open_images(archive)
            config = ClassifierConfig(
                arch=options.arch, steps=options.steps, seed=seed, keep="last", calibrate=False, device="cpu",
                preprocessing=PreprocessConfig(size=options.size), validate_every=options.steps,
            )  # fmt: skip
            val = real_part(archive, images, split, options.fold, "val", 1.0)
            classifier = train_classifier(
                real_part(archive, images, split, options.fold, "train", fraction), val, archive.classes,
                config, progress=_report(f"{arm}, {fraction:.0%} labels, seed {seed}"),
            )  # fmt: skip
            predicted = classifier.predict_logits(val.images).argmax(axis=1)
            with replace_file(stored) as temporary, open(temporary, "wb") as handle:
                np.savez(handle, subjects=val.subjects, labels=val.labels, predicted=predicted)
        with np.load(stored, allow_pickle=False) as found:
            return count_predictions(
                options.fold, seed, found["subjects"], found["labels"], found["predicted"],
                len(archive.classes),
            )  # fmt: skip


def _compare(
    counts: dict[tuple[str, float], list[RunCounts]], arms: list[str], fraction: float
) -> dict[str, Any]:
    runs = {arm: counts[arm, fraction] for arm in arms}
    bootstrap = SubjectBootstrap(class_strata([run for found in runs.values() for run in found]))
    drawn = {arm: bootstrap.draw(found) for arm, found in runs.items()}
    told: dict[str, Any] = {
        "fraction": fraction,
        "balanced_accuracy": {},
        "sensitivity": {},
        "minus_whole": {},
    }
    for arm, draws in drawn.items():
        told["balanced_accuracy"][arm] = _estimate(bootstrap.estimate(draws))
        pooled = np.mean([recall_per_class(run.counts.sum(axis=0)) for run in runs[arm]], axis=0)
        told["sensitivity"][arm] = [round(float(value), 4) for value in pooled]
        if arm != WHOLE and WHOLE in drawn:
            told["minus_whole"][arm] = _estimate(bootstrap.difference(draws, drawn[WHOLE]))
    return told


def _estimate(found: Estimate) -> dict[str, Any]:
    return {
        "value": round(found.value, 4),
        "interval_95": [round(found.low, 4), round(found.high, 4)],
        "num_subjects": found.num_subjects,
        "num_images": found.num_images,
    }


def _report(what: str) -> Progress:
    def report(done: int, total: int, message: str) -> None:
        if done == total:
            print(f"{what}: {done}/{total} {message}", file=sys.stderr, flush=True)

    return report


if __name__ == "__main__":
    main()
