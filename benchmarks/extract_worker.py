"""One timed run of slicing, in a process of its own: ours, or the way that notebooks do it.

    python -m benchmarks.extract_worker '{"variant": "ours", "source": "FOLDER", ...}'

Prints one line of JSON. Imports are not timed; reading, slicing, resizing and writing are.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage


def main() -> None:
    spec = json.loads(sys.argv[1])
    print(json.dumps(VARIANTS[spec["variant"]](spec)))


def run_ours(spec: dict[str, Any]) -> dict[str, Any]:
    """`extract volumes` on a folder, to an archive."""
    from extract.planes import SliceConfig
    from extract.volumes import build_volume_archive

    config = SliceConfig(
        planes=tuple(spec["planes"]), angles_deg=tuple(spec["angles"]), size=spec["size"],
        step_mm=spec["step_mm"], fov_mm=spec["fov_mm"], windows=(spec["window"],),
    )  # fmt: skip
    before = _peak_bytes()
    start, start_cpu = time.perf_counter(), time.process_time()
    summary = build_volume_archive(
        Path(spec["source"]), Path(spec["dest"]), config, workers=spec["workers"], overwrite=True
    )
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    own = {"cpu_seconds": cpu_seconds} if spec["workers"] == 1 else {}  # of this process alone
    return {
        "seconds": seconds, "slices": summary.num_images, "memory_bytes": _peak_bytes() - before,
        "archive_bytes": Path(spec["dest"]).stat().st_size, **own,
    }  # fmt: skip


def run_notebook(spec: dict[str, Any]) -> dict[str, Any]:
    """Turn the whole volume for each angle, save each slice with matplotlib, open, resize and save it again.

    The slices are those of `spec["wanted"]`, which our own run chose: [plane, angle, index] each.
    """
    import matplotlib

    matplotlib.use("Agg")
    import nrrd
    from matplotlib import pyplot
    from PIL import Image

    low, high = (float(part) for part in spec["window"].partition(":")[2].split(","))
    out = Path(spec["dest"])
    out.mkdir(parents=True, exist_ok=True)
    before = _peak_bytes()
    start, start_cpu = time.perf_counter(), time.process_time()
    num_slices = 0
    for path in sorted(Path(spec["source"]).glob("*.nrrd"))[: spec["volumes"]]:
        volume, _ = nrrd.read(str(path))
        for angle in spec["angles"]:
            turned = ndimage.rotate(volume, -angle, axes=(0, 1), reshape=False, order=spec["order"])
            for plane, _, index in (item for item in spec["wanted"] if item[1] == angle):
                lines = turned[index] if plane == "sagittal" else turned[:, index]
                picture = lines[::-1, ::-1].T  # superior up; anterior, or the patient's right, on the left
                name = out / f"{path.stem}-{plane}-{angle:g}-{index}.png"
                pyplot.imsave(name, picture, cmap="gray", vmin=low, vmax=high)
                resized = Image.open(name).convert("L").resize((spec["size"],) * 2, Image.Resampling.LANCZOS)
                resized.save(name)
                num_slices += 1
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    return {
        "seconds": seconds, "cpu_seconds": cpu_seconds, "slices": num_slices,
        "memory_bytes": _peak_bytes() - before,
    }  # fmt: skip


def make_volume(side: int, noise: float, seed: int) -> np.ndarray:
    """(side, side, side) int16 up to 1000: a smooth head in the middle of a cube, with noise where "
    "asked for."""
    rng = np.random.default_rng(seed)
    ticks = np.linspace(-1, 1, side, dtype=np.float32)
    x, y, z = np.meshgrid(ticks, ticks, ticks, indexing="ij", sparse=True)
    depth = 1 - np.sqrt((x / 0.75) ** 2 + (y / 0.85) ** 2 + (z / 0.8) ** 2)
    waves = zip(rng.normal(0, 2.5, (6, 3)), rng.uniform(0, 6, 6), strict=True)
    texture = sum(
        np.cos(
            np.float32(2 * np.pi) * (np.float32(a) * x + np.float32(b) * y + np.float32(c) * z)
            + np.float32(p)
        )
        for (a, b, c), p in waves
    )
    head = np.clip(depth * 4, 0, 1) * (550 + 40 * texture)
    if noise:
        speckle = np.float32(noise) * rng.standard_normal(head.shape, dtype=np.float32)
        head = np.where(depth > 0, head + speckle, np.abs(speckle) * np.float32(0.3))
    return np.clip(head, 0, 1000).astype(np.int16)


def _peak_bytes() -> int:
    """The most memory that this process has held; `ru_maxrss` would count the parent's as well."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


VARIANTS = {"ours": run_ours, "notebook": run_notebook}

if __name__ == "__main__":
    main()
