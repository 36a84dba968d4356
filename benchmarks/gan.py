"""Time StyleGAN2-ADA: training iterations by phase, and sampling, against peers in the same run.

    python -m benchmarks.gan --out benchmarks/results/gan.json
    python -m benchmarks.gan --train 64:16 --sample none \\
        --peer "stylegan2_pytorch=python -m benchmarks.peer_stylegan2_pytorch --path FOLDER"

The variants of a size take turns, each in a process of its own, so that all see the same load. `textbook` is
the same method written as the papers state it (benchmarks/textbook.py), which is what a port without custom
CUDA kernels does; every other peer is a command that is given the settings as JSON and prints `iteration_ms`.
A ratio is that of the medians; the best repetition is reported beside it.
"""

import argparse
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.machine import processor, write_result

ROOT = Path(__file__).parent.parent
PEER_SECONDS = 1800


def main() -> None:
    options = _parse(sys.argv[1:])
    peers = dict(_parse_peer(text) for text in options.peer)
    result: dict[str, Any] = {
        "machine": _machine(options),
        "command": shlex.join(["python", "-m", "benchmarks.gan", *sys.argv[1:]]),
        "training": [],
        "sampling": [],
    }
    for size in _sizes(options.train):
        result["training"].append(_compare_training(size, options, peers))
        write_result(options.out, result)
    for size in _sizes(options.sample):
        result["sampling"].append(_compare_sampling(size, options))
        write_result(options.out, result)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--train", default="64:16,128:8", help="Sizes as RESOLUTION:BATCH, or none.")
    parser.add_argument("--sample", default="256:8,256:1", help="Sizes as RESOLUTION:BATCH, or none.")
    parser.add_argument("--channels", default="4096:128", help="Channel base and maximum in training.")
    parser.add_argument("--sample-channels", default="16384:512", help="The same when sampling (paper256).")
    parser.add_argument("--precisions", default="fp32,bf16", help="Of ours.")
    parser.add_argument("--img-channels", type=int, default=3)
    parser.add_argument("--p", type=float, default=0.3, help="Strength of the augmentation (bgc).")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=3, help="Turns that each variant takes.")
    parser.add_argument(
        "--repetitions", type=int, default=3, help="Timed repetitions a turn, after two to warm up."
    )
    parser.add_argument("--no-textbook", action="store_true", help="Leave the textbook variant out.")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND", help="Repeatable.")
    parser.add_argument("--out", type=Path, help="JSON file to write.")
    return parser.parse_args(arguments)


def _parse_peer(text: str) -> tuple[str, list[str]]:
    name, equals, command = text.partition("=")
    if not equals:
        raise SystemExit(f"--peer: expected NAME=COMMAND, got '{text}'")
    return name, shlex.split(command)


def _sizes(text: str) -> list[tuple[int, int]]:
    if text == "none":
        return []
    pairs = [part.split(":") for part in text.split(",")]
    return [(int(resolution), int(batch)) for resolution, batch in pairs]


def _compare_training(
    size: tuple[int, int], options: argparse.Namespace, peers: dict[str, list[str]]
) -> dict[str, Any]:
    base, most = (int(number) for number in options.channels.split(":"))
    spec = _spec("training", size, base, most, options) | {"p": options.p}
    variants = _variants(options)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in [*variants, *peers]}
    for turn in range(options.rounds):
        for name, settings in variants.items():
            runs[name].append(_measure([*_worker(), json.dumps(spec | settings)], options))
            _say(spec, name, turn, statistics.median(runs[name][-1]["iteration_ms"]) / size[1], "ms an image")
        for name, command in peers.items():
            runs[name].append(_measure([*command, json.dumps(spec)], options))
            _say(spec, name, turn, statistics.median(runs[name][-1]["iteration_ms"]) / size[1], "ms an image")
    summary = {name: _training_summary(several, size[1]) for name, several in runs.items()}
    return {"settings": spec, "variants": summary, "speedup": _ratios(summary, "ms_per_image", variants)}


def _compare_sampling(size: tuple[int, int], options: argparse.Namespace) -> dict[str, Any]:
    base, most = (int(number) for number in options.sample_channels.split(":"))
    spec = _spec("sampling", size, base, most, options)
    variants = _variants(options)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in variants}
    for turn in range(options.rounds):
        for name, settings in variants.items():
            runs[name].append(_measure([*_worker(), json.dumps(spec | settings)], options))
            _say(spec, name, turn, statistics.median(runs[name][-1]["images_per_sec"]), "images a second")
    summary = {}
    for name, several in runs.items():
        rates = [rate for run in several for rate in run["images_per_sec"]]
        summary[name] = {
            "images_per_sec": _spread(rates, best=max),
            "ms_per_image": _spread([1000 / rate for rate in rates], best=min),
            "parameters": several[0]["parameters"],
            "peak_memory_gb": max(run["peak_memory_gb"] for run in several),
        }
    return {"settings": spec, "variants": summary, "speedup": _ratios(summary, "ms_per_image", variants)}


def _spec(
    kind: str, size: tuple[int, int], base: int, most: int, options: argparse.Namespace
) -> dict[str, Any]:
    return {
        "kind": kind, "resolution": size[0], "batch": size[1], "channel_base": base, "channel_max": most,
        "img_channels": options.img_channels, "threads": options.threads, "device": options.device,
        "repetitions": options.repetitions,
    }  # fmt: skip


def _variants(options: argparse.Namespace) -> dict[str, dict[str, str]]:
    ours = {f"ours {name}": {"variant": "ours", "precision": name} for name in options.precisions.split(",")}
    return (
        ours
        if options.no_textbook
        else {"textbook fp32": {"variant": "textbook", "precision": "fp32"}, **ours}
    )


def _worker() -> list[str]:
    return [sys.executable, "-m", "benchmarks.gan_worker"]


def _measure(command: list[str], options: argparse.Namespace) -> dict[str, Any]:
    environment = {
        **os.environ, "OMP_NUM_THREADS": str(options.threads), "GOMP_SPINCOUNT": "1000",
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    if command[0] == "python":
        command = [sys.executable, *command[1:]]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=PEER_SECONDS, check=False
    )
    if done.returncode != 0:
        raise SystemExit(f"{shlex.join(command)} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _training_summary(runs: list[dict[str, Any]], batch: int) -> dict[str, Any]:
    times = [time / batch for run in runs for time in run["iteration_ms"]]
    summary: dict[str, Any] = {"ms_per_image": _spread(times, best=min), "parameters": runs[0]["parameters"]}
    if "phases_ms" in runs[0]:
        phases = runs[0]["phases_ms"]
        summary["phases_ms"] = {
            name: _spread([time for run in runs for time in run["phases_ms"][name]], best=min)
            for name in phases
        }
        summary["peak_memory_gb"] = max(run["peak_memory_gb"] for run in runs)
        summary["losses_of_first_iteration"] = runs[0]["losses_of_first_iteration"]
    return summary


def _spread(values: list[float], best: Any) -> dict[str, float]:
    return {"median": statistics.median(values), "best": best(values), "num": len(values)}


def _ratios(
    summary: dict[str, Any], key: str, ours: dict[str, Any]
) -> dict[str, dict[str, dict[str, float]]]:
    """How many times as fast each of ours is as each other variant."""
    others = [name for name in summary if not name.startswith("ours")]
    return {
        name: {
            other: {
                which: summary[other][key][which] / summary[name][key][which] for which in ("median", "best")
            }
            for other in others
        }
        for name in ours
        if name.startswith("ours")
    }


def _machine(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": options.threads,
        "device": options.device,
        "system": platform.system(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy")},
        },
    }


def _say(spec: dict[str, Any], name: str, turn: int, value: float, unit: str) -> None:
    print(
        f"{spec['kind']} {spec['resolution']}px turn {turn}: {name} {value:.2f} {unit}",
        file=sys.stderr,
        flush=True,
    )


if __name__ == "__main__":
    main()
