"""Time training and inference of a classifier against fastai's ordinary pipeline over a folder of pictures.

    python -m benchmarks.classifier --out benchmarks/results/classifier.json

The same files (phantom brain planes, as large as the network's input and larger), the same network with the
same initial weights, the same batch, passes and kinds of augmentation. `folder` is
`ImageDataLoaders.from_folder` with `fit_one_cycle` and `get_preds`, with fastai's own number of workers and
with none; `ours` brings the folder into an archive (`packing_sec`, once for all time), decodes that into the
cache (`opening_sec`, once a machine) and reads from there. Imports are made before a clock starts. Variants
take turns, each in a process of its own. Both must give the same probabilities for the same weights:
`largest_difference`, which for pictures that are made smaller includes that Pillow and we do so by different
filters. A ratio is that of the medians, against the faster `folder`.
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import processor, write_result
from extract.archive import open_archive
from extract.split import PARTS

ROOT = Path(__file__).parent.parent
MANY = 16_000  # images of a pool


def main() -> None:
    options = _parse()
    result: dict[str, Any] = {
        "machine": _machine(options),
        "command": shlex.join(["python", "-m", "benchmarks.classifier", *sys.argv[1:]]),
        "pictures": {},
    }
    for picture_size in map(int, options.picture_sizes.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            result["pictures"][f"{picture_size} px"] = _compare(Path(folder), picture_size, options)
        write_result(options.out, result)


def _compare(work: Path, picture_size: int, options: argparse.Namespace) -> dict[str, Any]:
    spec, packing = _prepare(work, picture_size, options)
    variants: dict[str, dict[str, Any]] = {
        f"folder, {workers} workers": {"variant": "folder", "workers": workers}
        for workers in sorted({0, min(16, os.cpu_count() or 1)})
    }
    for precision in options.precisions.split(","):
        variants[f"ours, {precision}"] = {"variant": "ours", "precision": precision}
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    for _ in range(options.rounds):
        for name, changes in variants.items():
            measured[name].append(_run({**spec, **changes}, work))
    shown = ("arch", "size", "channels", "batch", "epochs", "many")
    return {
        "settings": {name: spec[name] for name in shown}
        | {"images": {part: len(rows) for part, rows in spec["rows"].items()}},
        "packing_sec": packing,
        **_summarise(measured),
    }


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, default=64, help="Pixels a side of the network's input.")
    parser.add_argument("--picture-sizes", default="64,256", help="Pixels a side of the files.")
    parser.add_argument("--subjects", type=int, default=16, help="Phantoms.")
    parser.add_argument("--arch", default="small_resnet")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--precisions", default="fp32,bf16", help="Of ours.")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3, help="Turns that each variant takes.")
    parser.add_argument("--out", type=Path, help="JSON file to write.")
    return parser.parse_args()


def _prepare(work: Path, picture_size: int, options: argparse.Namespace) -> tuple[dict[str, Any], float]:
    """The folder of pictures, and the archive made from it with the seconds that took."""
    planes, split, folder, data = (work / name for name in ("planes.zip", "split.json", "folder", "ours.zip"))
    _synthlabel("extract", "phantom", "--out", work / "phantoms", "--subjects", options.subjects)
    _synthlabel(
        "extract", "volumes", "--source", work / "phantoms", "--dest", planes, "--size", picture_size,
        "--planes", "sagittal,coronal,axial", "--angles", "-21:21:7", "--slices-per-plane", 12,
    )  # fmt: skip
    _synthlabel("extract", "split", "--data", planes, "--dest", split, "--folds", 4, "--fractions", 1)
    _synthlabel("extract", "unpack", "--data", planes, "--dest", folder, "--split", split)
    started = time.perf_counter()
    _synthlabel(
        "extract", "images", "--source", folder, "--dest", data, "--size", options.size, "--layout", "parts",
        "--subject-pattern", r"([^/]*)_[0-9]*[.]png",
    )  # fmt: skip
    packing = time.perf_counter() - started
    with open_archive(data) as archive:
        part, source = (archive.manifest[name].to_numpy(str) for name in ("part", "source"))
        rows = {name: np.flatnonzero(part == name) for name in PARTS}
        channels, size, _ = archive.image_shape
        sample = np.stack([archive.read_image(int(row)) for row in rows["train"][:500]]) / 255
    return {
        "folder": str(folder), "archive": str(data), "picture_size": picture_size, "size": size,
        "channels": channels, "arch": options.arch, "test_files": source[rows["test"]].tolist(),
        "rows": {name: found.tolist() for name, found in rows.items()},
        "mean": sample.mean(axis=(0, 2, 3)).tolist(), "std": sample.std(axis=(0, 2, 3)).tolist(),
        "batch": options.batch, "epochs": options.epochs, "lr": 5e-3, "threads": options.threads,
        "many": MANY,
    }, packing  # fmt: skip


def _synthlabel(*arguments: object) -> None:
    command = [sys.executable, "-m", "scripts.cli", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)} failed:\n{done.stderr}")


def _run(spec: dict[str, Any], work: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.classifier_worker", json.dumps(spec)]
    environment = {
        **os.environ,
        "SYNTHLABEL_CACHE": str(work / "cache"),
        "OMP_NUM_THREADS": str(spec["threads"]),
    }
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"a measurement failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def _summarise(measured: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    reference = next(runs for name, runs in measured.items() if name.startswith("folder"))[0]["probs"]
    ours = [name for name in measured if name.startswith("ours")]
    result: dict[str, Any] = {"largest_difference": {}, "variants": {}, "ratios": {}}
    for name in ours:
        probs = measured[name][0]["probs"]
        assert probs.keys() == reference.keys(), "the variants scored different pictures"
        differences = [np.abs(np.subtract(probs[file], reference[file])).max() for file in reference]
        result["largest_difference"][name] = float(max(differences))
    for name, runs in measured.items():
        figures = [key for key in runs[0] if key != "probs"]
        result["variants"][name] = {
            figure: {
                "median": statistics.median(run[figure] for run in runs),
                "all": [round(run[figure], 3) for run in runs],
            }
            for figure in figures
        }
    for figure in ("training_images_per_sec", "inference_images_per_sec"):
        median = {name: values[figure]["median"] for name, values in result["variants"].items()}
        fastest = max(value for name, value in median.items() if name.startswith("folder"))
        result["ratios"][figure] = {name: round(median[name] / fastest, 2) for name in ours}
    return result


def _machine(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "processor": processor(), "threads": options.threads, "python": platform.python_version(),
        "torch": version("torch"), "fastai": version("fastai"), "pillow": version("pillow"),
    }  # fmt: skip


if __name__ == "__main__":
    main()
