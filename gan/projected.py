"""Files of projected latents (`projected_w.npz`), and the images that a network makes of them."""

import time
import zipfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from extract.atomic import replace_file
from extract.progress import Progress, no_progress
from gan.errors import GanError
from gan.generate import GenerateSummary
from gan.images import channels_last, prepare_outdir, save_png
from gan.sampling import check_sampling, open_sampler
from vendor.stylegan2_ada import Generator

MAX_FILE_BYTES = 2**30


def write_projected_w(path: Path, ws: np.ndarray) -> None:
    """Write `w` (n, num_ws, w_dim) float32, as the official projector does."""
    with replace_file(path) as temporary, open(temporary, "wb") as handle:
        np.savez(handle, w=ws.astype(np.float32))


def read_projected_w(path: Path, generator: Generator) -> Tensor:
    """The latents `w` (n, num_ws, w_dim) float32 of a file, held against the network's sizes.

    Nothing in the file is executed: arrays of objects, which are pickles, are refused.

    Raises:
        GanError: if the file holds no such array.
    """
    expected = f"an array 'w' of shape (n, {generator.num_ws}, {generator.mapping.w_dim})"
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise GanError(f"{path}: expected {expected}, got a file of {path.stat().st_size:,} bytes")
        with np.load(path, allow_pickle=False) as arrays:
            names = list(arrays) if isinstance(arrays, np.lib.npyio.NpzFile) else []
            if "w" not in names:
                raise GanError(f"{path}: expected {expected}, got {', '.join(names) or 'no named arrays'}")
            ws = arrays["w"]
    except (ValueError, EOFError, zipfile.BadZipFile, FileNotFoundError, KeyError) as error:
        raise GanError(
            f"{path}: expected {expected} in an .npz file as `gan project` writes it, got {error}"
        ) from error
    if ws.ndim != 3 or not len(ws) or ws.shape[1:] != (generator.num_ws, generator.mapping.w_dim):
        raise GanError(
            f"{path}: expected {expected}, got {ws.shape}; it was projected with a network of another size"
        )
    if ws.dtype.kind not in "fiu" or not np.isfinite(ws).all():
        raise GanError(f"{path}: expected finite numbers in 'w', got {ws.dtype} with NaN or others")
    return torch.from_numpy(ws.astype(np.float32))


def generate_projected_png_files(
    network: Path,
    projected_w: Path,
    outdir: Path,
    *,
    noise_mode: str = "const",
    batch_size: int = 32,
    device: str = "cpu",
    precision: str | None = None,
    progress: Progress = no_progress,
    overwrite: bool = False,
) -> GenerateSummary:
    """Make the images of projected latents: `proj00.png`, `proj01.png`, ..., named as officially.

    A class does not matter: it acts on w, which is given.

    Raises:
        SettingsError: for a wrong noise mode or batch size.
        GanError: if the latents do not fit the network, or a picture exists and may not be overwritten.
    """
    started = time.monotonic()
    check_sampling([0], noise_mode, batch_size)
    sampler = open_sampler(network, device=device, precision=precision, several_classes=True)
    ws = read_projected_w(projected_w, sampler.generator)
    names = [f"proj{number:02d}.png" for number in range(len(ws))]
    prepare_outdir(outdir, names, overwrite)
    for start in range(0, len(ws), batch_size):
        images = sampler.synthesize(ws[start : start + batch_size], noise_mode, batch_size)
        for number, pixels in enumerate(images, start):
            save_png(outdir / names[number], channels_last(pixels))
        progress(start + len(images), len(ws), "images made")
    return GenerateSummary(
        outdir, len(ws), sampler.snapshot.path, sampler.snapshot.sha256, "", time.monotonic() - started
    )
