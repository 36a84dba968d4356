"""Time the archive from 10^3 to 10^5 images, against a folder of PNG files as torchvision and PIL handle it.

    python -m benchmarks.archive --out benchmarks/results/archive.json
    python -m benchmarks.archive --sizes 1000 --side 32

Each step of each way is a process of its own, so that its memory is its own; the two ways take turns. The
pixels are a smooth texture with noise, as slices have, and the same for both. The rival stores and reads what
a user would without archives: one folder a class, PIL's PNG, `ImageFolder`, and subjects in the files' names.
Reported are seconds, microseconds an image, peak memory, the ratio of the two ways, and how the cost of an
image changes from the smallest to the largest size (1 = linear).
"""

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import processor, write_result

ROOT = Path(__file__).parent.parent
CLASSES = ("glioma", "meningioma", "notumor", "pituitary")
IMAGES_PER_SUBJECT = 10
NUM_FEW = 100
NUM_RANDOM = 10_000  # images of the random access that training does


def main() -> None:
    options = _parse(sys.argv[1:])
    if options.step:
        print(json.dumps(_run_step(options)))
        return
    result: dict[str, Any] = {
        "machine": {
            "cpu": processor(), "load_at_start": round(os.getloadavg()[0], 1), "cores": os.cpu_count(),
            "python": platform.python_version(), "numpy": np.__version__,
        },
        "command": f"python -m benchmarks.archive --sizes {options.sizes} --side {options.side} --rounds "
        f"{options.rounds}",
        "side": options.side,
        "sizes": {},
    }  # fmt: skip
    sizes = [int(part) for part in options.sizes.split(",")]
    for size in sizes:
        with tempfile.TemporaryDirectory(dir=options.scratch, prefix="archive-benchmark-") as scratch:
            result["sizes"][str(size)] = _measure_size(size, Path(scratch), options)
        result["cost_of_an_image_largest_to_smallest"] = _linearity(result["sizes"], sizes)
        if options.out:
            write_result(options.out, result)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", default="1000,10000,100000", help="Numbers of images.")
    parser.add_argument("--side", type=int, default=64, help="Pixels.")
    parser.add_argument(
        "--rounds", type=int, default=3, help="Turns of each reading step; its median counts."
    )
    parser.add_argument("--scratch", type=Path, default=None, help="Folder for the files, on a real disk.")
    parser.add_argument("--out", type=Path, help="JSON file to write.")
    parser.add_argument("--step", help=argparse.SUPPRESS)  # what a process of its own does
    parser.add_argument("--num", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _measure_size(size: int, scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    for step in STEPS:
        ours, theirs = [], []
        for _ in range(1 if step in LONG and size > MANY else options.rounds):
            ours.append(_spawn(f"ours {step}", size, scratch, options))
            if f"folder {step}" in WORK:
                theirs.append(_spawn(f"folder {step}", size, scratch, options))
        measured[step] = {"ours": _summary(ours, size)}
        if theirs:
            measured[step]["folder"] = _summary(theirs, size)
            measured[step]["times_faster"] = round(
                measured[step]["folder"]["seconds"] / measured[step]["ours"]["seconds"], 2
            )
        print(f"{size:>7} {step:<28} {json.dumps(measured[step])}", file=sys.stderr)
    return measured


def _summary(runs: list[dict[str, Any]], size: int) -> dict[str, Any]:
    seconds = statistics.median(run["seconds"] for run in runs)
    return {
        "seconds": round(seconds, 4),
        "us_an_image": round(1e6 * seconds / (runs[0].get("num_images") or size), 2),
        "peak_mb": round(max(run["peak_mb"] for run in runs), 1),
        **{key: runs[0][key] for key in ("mb_on_disk",) if key in runs[0]},
    }


def _linearity(sizes: dict[str, Any], asked: list[int]) -> dict[str, float]:
    done = [str(size) for size in asked if str(size) in sizes]
    first, last = sizes[done[0]], sizes[done[-1]]
    return {
        f"{way} {step}": round(last[step][way]["us_an_image"] / first[step][way]["us_an_image"], 2)
        for step in first
        for way in ("ours", "folder")
        if way in first[step] and step not in FIXED
    }


def _spawn(step: str, size: int, scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    command = [
        sys.executable, "-m", "benchmarks.archive", "--step", step, "--num", str(size),
        "--side", str(options.side), "--place", str(scratch),
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SYNTHLABEL_CACHE": str(scratch / "cache")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{step} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def _run_step(options: argparse.Namespace) -> dict[str, Any]:
    prepare = WORK[options.step]
    work = prepare(options.place, options.num, options.side)
    started = time.perf_counter()
    extra = work() or {}
    seconds = time.perf_counter() - started
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mb": peak_mb, **extra}


Work = Callable[[], dict[str, Any] | None]
Prepare = Callable[[Path, int, int], Work]


def _pictures(num: int, side: int) -> Callable[[int], np.ndarray]:
    """Pixels of the image `index`: waves that differ, with a little noise."""
    ramp = np.linspace(0, 6, side)
    noise = np.random.default_rng(0).normal(0, 4, (64, side, side))

    def draw(index: int) -> np.ndarray:
        waves = 100 + 50 * np.sin(ramp[:, None] + index % 97) + 50 * np.cos(ramp + index / 31)
        return (waves + noise[index % 64]).clip(0, 255).astype(np.uint8)

    return draw


def _label(index: int) -> str:
    return CLASSES[index // IMAGES_PER_SUBJECT % len(CLASSES)]


def _ours_write(place: Path, num: int, side: int) -> Work:
    from extract.archive import ArchiveWriter, ImageRecord

    draw = _pictures(num, side)

    def work() -> dict[str, Any]:
        with ArchiveWriter(place / "a.zip", overwrite=True) as writer:
            for index in range(num):
                record = ImageRecord(label=_label(index), subject=f"p{index // IMAGES_PER_SUBJECT:06d}")
                writer.add(draw(index), record)
        return {"mb_on_disk": round((place / "a.zip").stat().st_size / 1e6, 2)}

    return work


def _folder_write(place: Path, num: int, side: int) -> Work:
    from PIL import Image

    draw = _pictures(num, side)
    shutil.rmtree(place / "folder", ignore_errors=True)

    def work() -> dict[str, Any]:
        for name in CLASSES:
            (place / "folder" / name).mkdir(parents=True)
        for index in range(num):
            name = f"p{index // IMAGES_PER_SUBJECT:06d}_{index:08d}.png"
            Image.fromarray(draw(index)).save(place / "folder" / _label(index) / name)
        blocks = sum(path.stat().st_blocks for path in (place / "folder").rglob("*.png"))
        return {"mb_on_disk": round(blocks * 512 / 1e6, 2)}

    return work


def _ours_open(place: Path, num: int, side: int) -> Work:
    from extract.archive import open_archive

    def work() -> None:
        with open_archive(place / "a.zip") as archive:
            assert len(archive) == num and len(archive.classes) == len(CLASSES)

    return work


def _folder_open(place: Path, num: int, side: int) -> Work:
    folder = _image_folder()

    def work() -> None:
        assert len(folder(place / "folder")) == num

    return work


def _ours_identify(place: Path, num: int, side: int) -> Work:
    shutil.rmtree(place / "cache" / "hashes", ignore_errors=True)
    return _ours_identify_again(place, num, side)


def _ours_identify_again(place: Path, num: int, side: int) -> Work:
    from extract.archive import open_archive

    archive = open_archive(place / "a.zip")
    return lambda: {"sha256": archive.sha256}


def _ours_split(place: Path, num: int, side: int) -> Work:
    from extract.archive import open_archive
    from extract.split import make_split

    archive = open_archive(place / "a.zip")

    def work() -> None:
        make_split(archive, num_folds=5, fractions=(0.2, 0.5), val_share=0.15, seed=0)

    return work


def _folder_split(place: Path, num: int, side: int) -> Work:
    from sklearn.model_selection import StratifiedGroupKFold

    data = _image_folder()(place / "folder")

    def work() -> None:
        subjects = [Path(path).name.split("_")[0] for path, _ in data.samples]
        folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
        assert len(list(folds.split(data.targets, data.targets, subjects))) == 5

    return work


def _few(num: int) -> list[int]:
    return np.random.default_rng(1).integers(0, num, NUM_FEW).tolist()


def _ours_open_and_read_few(place: Path, num: int, side: int) -> Work:
    from extract.archive import open_archive

    def work() -> None:
        with open_archive(place / "a.zip") as archive:
            for index in _few(num):
                archive.read_image(index)

    return work


def _folder_open_and_read_few(place: Path, num: int, side: int) -> Work:
    folder = _image_folder()

    def work() -> None:
        data = folder(place / "folder")
        for index in _few(num):
            _decode(data.samples[index][0])

    return work


def _ours_read_all(place: Path, num: int, side: int) -> Work:
    from extract.archive import open_archive

    archive = open_archive(place / "a.zip")

    def work() -> None:
        for index in range(num):
            archive.read_image(index)

    return work


def _folder_read_all(place: Path, num: int, side: int) -> Work:
    data = _image_folder()(place / "folder")

    def work() -> None:
        for path, _ in data.samples:
            _decode(path)

    return work


def _ours_decode_to_cache(place: Path, num: int, side: int) -> Work:
    from extract.archive import open_archive
    from extract.cache import open_images

    shutil.rmtree(place / "cache", ignore_errors=True)
    archive = open_archive(place / "a.zip")
    return lambda: {"num_images": len(open_images(archive))}


def _ours_random_access(place: Path, num: int, side: int) -> Work:
    from extract.archive import open_archive
    from extract.cache import open_images

    images = open_images(open_archive(place / "a.zip"))
    order = np.random.default_rng(2).integers(0, num, NUM_RANDOM)

    def work() -> dict[str, Any]:
        for index in order:
            np.array(images[index])
        return {"num_images": NUM_RANDOM}

    return work


def _folder_random_access(place: Path, num: int, side: int) -> Work:
    data = _image_folder()(place / "folder")
    order = np.random.default_rng(2).integers(0, num, NUM_RANDOM)

    def work() -> dict[str, Any]:
        for index in order:
            _decode(data.samples[index][0])
        return {"num_images": NUM_RANDOM}

    return work


def _ours_unpack(place: Path, num: int, side: int) -> Work:
    from extract.archive import open_archive
    from extract.unpack import unpack_archive

    archive = open_archive(place / "a.zip")
    shutil.rmtree(place / "unpacked", ignore_errors=True)

    def work() -> None:
        unpack_archive(archive, place / "unpacked")

    return work


def _ours_pack(place: Path, num: int, side: int) -> Work:
    from extract.pack import pack_folder

    def work() -> None:
        pack_folder(place / "unpacked", place / "packed.zip", overwrite=True)

    return work


def _image_folder() -> Callable[[Path], Any]:
    import_module("classifier")  # lets torchvision be imported beside a torch without CUDA
    from torchvision.datasets import ImageFolder

    return lambda path: ImageFolder(str(path))


def _decode(path: str) -> np.ndarray:
    from PIL import Image

    with Image.open(path) as opened:  # gray stays gray, which is quicker than the RGB of ImageFolder's loader
        return np.asarray(opened)


STEPS = (
    "write", "open", "identify", "identify again", "split", "open and read 100", "read all",
    "decode to the cache", "random access", "unpack", "pack",
)  # fmt: skip
LONG = ("write", "unpack", "pack")  # done once where there are more images than MANY
MANY = 10_000
FIXED = ("open and read 100", "random access")  # their work does not grow with the archive
WORK: dict[str, Prepare] = {
    "ours write": _ours_write,
    "folder write": _folder_write,
    "ours open": _ours_open,
    "folder open": _folder_open,
    "ours identify": _ours_identify,
    "ours identify again": _ours_identify_again,
    "ours split": _ours_split,
    "folder split": _folder_split,
    "ours open and read 100": _ours_open_and_read_few,
    "folder open and read 100": _folder_open_and_read_few,
    "ours read all": _ours_read_all,
    "folder read all": _folder_read_all,
    "ours decode to the cache": _ours_decode_to_cache,
    "ours random access": _ours_random_access,
    "folder random access": _folder_random_access,
    "ours unpack": _ours_unpack,
    "ours pack": _ours_pack,
}

if __name__ == "__main__":
    main()
