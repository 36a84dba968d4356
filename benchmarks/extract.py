"""Time the slicing of volumes against the way that notebooks do it, on the same planes in the same run.

    python -m benchmarks.extract --out benchmarks/results/extract.json

The notebook turns the whole volume with scipy.ndimage.rotate for each angle (its default, order 3, and the
cheaper order 1), writes each slice with matplotlib.pyplot.imsave, opens it again, resizes it with Pillow's
LANCZOS filter and saves it a second time. Ours is `extract volumes`: reading, surveying, sampling and packing
into an archive. Each variant takes turns in a process of its own, on volumes with noise. On smooth volumes
both write the same planes, and the pictures are compared pixel by pixel: `agreement`. `memory` is what ours
takes for one volume beyond the interpreter and its libraries, as a multiple of the volume's voxels.
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

from benchmarks.extract_worker import make_volume
from benchmarks.machine import processor, write_result
from extract.archive import open_archive
from extract.nrrd_writer import write_nrrd

ROOT = Path(__file__).parent.parent
WINDOW = "values:0,700"
NOISE = 20.0  # standard deviation, the head is about 550 bright
SMOOTH, NOISY = "smooth", "noisy"


def main() -> None:
    options = _parse()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        _make(work, options)
        spec = _spec(options)
        result: dict[str, Any] = {
            "machine": _machine(options),
            "command": shlex.join(["python", "-m", "benchmarks.extract", *sys.argv[1:]]),
            "settings": {**spec, "volumes": options.volumes, "voxels": [options.side] * 3, "type": "int16"},
            "agreement": _compare_pictures(work, spec, options),
            "memory": _measure_memory(work, spec, options),
        }
        write_result(options.out, result)
        result |= _compare_speed(work, spec, options)
    write_result(options.out, result)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--side", type=int, default=243, help="Voxels along each axis, 1 mm each; odd.")
    parser.add_argument("--size", type=int, default=256, help="Pixels a side.")
    parser.add_argument("--angles", default="-21,-14,-7,0,7,14,21")
    parser.add_argument("--step-mm", type=int, default=3)
    parser.add_argument("--volumes", type=int, default=8, help="That ours slices; the notebook slices one.")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="Processes of ours.")
    parser.add_argument(
        "--notebook-angles", type=int, default=2, help="So many of the angles are timed the notebook way."
    )
    parser.add_argument("--rounds", type=int, default=3, help="Turns that each variant takes.")
    parser.add_argument("--out", type=Path, help="JSON file to write.")
    return parser.parse_args()


def _make(work: Path, options: argparse.Namespace) -> None:
    affine = np.eye(4)
    affine[:3, 3] = -(options.side - 1) / 2
    for seed in range(options.volumes):
        write_nrrd(work / NOISY / f"v{seed}.nrrd", make_volume(options.side, NOISE, seed), affine)
    write_nrrd(work / SMOOTH / "v0.nrrd", make_volume(options.side, 0.0, 0), affine)
    (work / "one").mkdir()
    (work / "one" / "v0.nrrd").symlink_to(work / NOISY / "v0.nrrd")


def _spec(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "planes": ["sagittal", "coronal"], "angles": [float(angle) for angle in options.angles.split(",")],
        "size": options.size, "step_mm": options.step_mm, "fov_mm": float(options.side), "window": WINDOW,
    }  # fmt: skip


def _planes_of(path: Path, side: int) -> list[list[Any]]:
    """[plane, angle, voxel index] of each slice: ours lie at whole voxels, because the head is centered."""
    with open_archive(path) as archive:
        table = archive.manifest
        indices = table["position_mm"].astype(float) + (side - 1) / 2
        assert np.abs(indices - indices.round()).max() < 1e-3, "the head is off the middle of its cube"
        return [
            [plane, float(angle), int(index)]
            for plane, angle, index in zip(table["plane"], table["angle_deg"], indices.round(), strict=True)
        ]


def _compare_pictures(work: Path, spec: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Mean absolute difference of the pictures' interior, in gray levels, on a smooth volume."""
    from PIL import Image

    ours = work / "smooth.zip"
    _run({"variant": "ours", "source": f"{work / SMOOTH}", "dest": f"{ours}", "workers": 1, **spec})
    wanted = _planes_of(ours, options.side)
    found = {}
    for order in (1, 3):
        folder = work / f"pictures{order}"
        _run({"variant": "notebook", "source": f"{work / SMOOTH}", "dest": f"{folder}", "volumes": 1,
              "order": order, "wanted": wanted, **spec})  # fmt: skip
        means, worst = [], 0.0
        with open_archive(ours) as archive:
            for number, (plane, angle, index) in enumerate(wanted):
                mine = archive.read_image(number)[0].astype(float)
                theirs = np.asarray(Image.open(folder / f"v0-{plane}-{angle:g}-{index}.png"), float)
                edge = options.size // 16  # the rim, where a turned volume shows what lies outside
                off = np.abs(mine - theirs)[edge:-edge, edge:-edge]
                means.append(float(off.mean()))
                worst = max(worst, float(off.max()))
        found[f"order {order}"] = {
            "slices": len(wanted), "mean_gray_levels": statistics.fmean(means),
            "worst_slice_mean": max(means), "worst_pixel": worst,
        }  # fmt: skip
        print(f"agreement with order {order}: {found[f'order {order}']}", file=sys.stderr, flush=True)
    return found


def _measure_memory(work: Path, spec: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    done = _run(
        {"variant": "ours", "source": f"{work / 'one'}", "dest": f"{work / 'm.zip'}", "workers": 1, **spec}
    )
    voxels = options.side**3 * 2
    return {
        "peak_bytes": done["memory_bytes"],
        "volume_bytes": voxels,
        "times_the_volume": done["memory_bytes"] / voxels,
    }


def _compare_speed(work: Path, spec: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    ours = {"variant": "ours", "source": f"{work / NOISY}", "dest": f"{work / 'a.zip'}", **spec}
    variants: dict[str, dict[str, Any]] = {
        f"ours, {options.workers} processes": {**ours, "workers": options.workers},
        "ours, 1 process": {**ours, "workers": 1},
    }
    angles = spec["angles"][: options.notebook_angles]  # each costs as much as the other
    wanted = [item for item in _planes_of(work / "m.zip", options.side) if item[1] in angles]
    for order in (3, 1):
        variants[f"notebook, order {order}"] = {
            "variant": "notebook", "source": f"{work / NOISY}", "dest": f"{work / 'pictures'}", "volumes": 1,
            "order": order, "wanted": wanted, **spec, "angles": angles,
        }  # fmt: skip
    rates: dict[str, list[float]] = {name: [] for name in variants}
    costs: dict[str, list[float]] = {name: [] for name in variants}
    sizes: dict[str, float] = {}
    for turn in range(options.rounds):
        for name, settings in variants.items():
            done = _run(settings)
            rates[name].append(done["slices"] / done["seconds"])
            if "cpu_seconds" in done:
                costs[name].append(1000 * done["cpu_seconds"] / done["slices"])
            if "archive_bytes" in done:
                sizes[name] = done["archive_bytes"] / done["slices"]
            print(f"turn {turn}: {name} {rates[name][-1]:.1f} slices a second", file=sys.stderr, flush=True)
    summary = {
        name: {
            "slices_per_sec": {
                "median": statistics.median(several),
                "best": max(several),
                "num": len(several),
            }
        }
        for name, several in rates.items()
    }
    for name, several in costs.items():
        if several:  # of one process; hardly changed by what else runs on the machine
            summary[name]["cpu_ms_per_slice"] = {"median": statistics.median(several), "best": min(several)}
    for name, size in sizes.items():
        summary[name]["bytes_per_slice"] = {"mean": size}
    speedup = {
        mine: {
            other: {
                which: summary[mine]["slices_per_sec"][which] / summary[other]["slices_per_sec"][which]
                for which in ("median", "best")
            }
            for other in summary
            if other.startswith("notebook")
        }
        for mine in summary
        if mine.startswith("ours")
    }
    return {"variants": summary, "speedup": speedup}


def _run(settings: dict[str, Any]) -> dict[str, Any]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.extract_worker", json.dumps(settings)],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise SystemExit(f"{settings['variant']} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def _machine(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_before": os.getloadavg()[0],
        "system": platform.system(),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", "scipy", "matplotlib", "pillow")},
        },
    }


if __name__ == "__main__":
    main()
