"""Time training and inference of a classifier against fastai's ordinary pipeline over a folder of pictures.

    python -m benchmarks.classifier --out benchmarks/results/classifier.json
    python -m benchmarks.classifier --data chest64.zip --split chest64.split.json

The same pictures (phantom brain planes unless an archive is given), the same network with the same initial
weights, the same batch, passes and kinds of augmentation. `folder` is `ImageDataLoaders.from_folder` with
`fit_one_cycle` and `get_preds`, with fastai's own number of workers and with none; `ours` reads the archive.
Variants take turns, each in a process of its own. Decoding the archive into the cache is done once for all
runs and told apart (`opening_sec`). Before the timing counts, both must give the same probabilities for the
same weights: `largest_difference`. A ratio is that of the medians, against the faster of the two.
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
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.machine import processor, write_result
from extract.archive import open_archive
from extract.split import PARTS, read_split
from extract.unpack import unpack_archive

ROOT = Path(__file__).parent.parent
MANY = 16_000  # images of a pool


def main() -> None:
    options = _parse()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        data, split = (options.data, options.split) if options.data else _make_planes(work, options)
        spec = _spec(work, data, split, options)
        variants = {f"folder, {workers} workers": {"variant": "folder", "workers": workers}
                    for workers in sorted({0, min(16, os.cpu_count() or 1)})}  # fmt: skip
        variants |= {f"ours, {precision}": {"variant": "ours", "precision": precision}
                     for precision in options.precisions.split(",")}  # fmt: skip
        measured: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
        for _ in range(options.rounds):
            for name, changes in variants.items():
                measured[name].append(_run({**spec, **changes}, work))
    result = {
        "machine": _machine(options),
        "command": shlex.join(["python", "-m", "benchmarks.classifier", *sys.argv[1:]]),
        "settings": {
            **{name: spec[name] for name in ("arch", "size", "channels", "batch", "epochs")},
            "images": {part: len(rows) for part, rows in spec["rows"].items()},
            "pictures": "given" if options.data else "phantom brain planes",
        },
        **_summarise(measured),
    }
    write_result(options.out, result)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="Archive; None = phantoms.")
    parser.add_argument("--split", type=Path, help="Its split.")
    parser.add_argument("--size", type=int, default=64, help="Pixels a side of the phantoms' planes.")
    parser.add_argument("--subjects", type=int, default=16, help="Phantoms.")
    parser.add_argument("--arch", default="small_resnet")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--precisions", default="fp32,bf16", help="Of ours.")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3, help="Turns that each variant takes.")
    parser.add_argument("--out", type=Path, help="JSON file to write.")
    return parser.parse_args()


def _make_planes(work: Path, options: argparse.Namespace) -> tuple[Path, Path]:
    archive, split = work / "planes.zip", work / "planes.split.json"
    _synthlabel("extract", "phantom", "--out", work / "phantoms", "--subjects", options.subjects)
    _synthlabel(
        "extract", "volumes", "--source", work / "phantoms", "--dest", archive, "--size", options.size,
        "--planes", "sagittal,coronal,axial", "--angles", "-21:21:7", "--slices-per-plane", 12,
    )  # fmt: skip
    _synthlabel("extract", "split", "--data", archive, "--dest", split, "--folds", 4)
    return archive, split


def _spec(work: Path, data: Path, split_path: Path, options: argparse.Namespace) -> dict[str, Any]:
    folder = work / "folder"
    with open_archive(data) as archive:
        split = read_split(split_path, archive)
        rows = {part: split.rows(archive, 0, part) for part in PARTS}
        unpack_archive(archive, folder, split=split_path)
        channels, size, _ = archive.image_shape
        unpacked_as = pd.read_csv(folder / "manifest.csv", dtype=str).set_index("file")["unpacked_as"]
        test_files = [unpacked_as[archive.names[row]] for row in rows["test"]]
        sample = np.stack([archive.read_image(int(row)) for row in rows["train"][:500]]) / 255
    return {
        "folder": str(folder), "archive": str(data), "size": size, "channels": channels, "arch": options.arch,
        "rows": {part: found.tolist() for part, found in rows.items()},
        "test_files": test_files, "batch": options.batch, "epochs": options.epochs, "lr": 5e-3,
        "mean": sample.mean(axis=(0, 2, 3)).tolist(), "std": sample.std(axis=(0, 2, 3)).tolist(),
        "threads": options.threads, "many": MANY,
    }  # fmt: skip


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
