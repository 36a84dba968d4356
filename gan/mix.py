"""Style mixing: images that take their coarse styles from one seed and some finer ones from another.

Source: Karras et al. 2018, arXiv:1812.04948, Section 3.1 and Figure 3.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from extract.errors import SettingsError
from extract.progress import Progress, no_progress
from gan.images import channels_last, prepare_outdir, save_grid, save_png
from gan.sampling import Sampler, check_sampling, open_sampler

MAX_NUM_PICTURES = 10_000
BATCH = 16


@dataclass(frozen=True)
class MixSummary:
    """What a call made."""

    outdir: Path
    grid: Path
    num_images: int  # without the grid
    styles: tuple[int, ...]  # style inputs taken from the columns, those that the network has
    num_styles: int  # of the network
    network: Path
    class_name: str  # empty = unconditional


def mix_styles(
    network: Path,
    row_seeds: Sequence[int],
    col_seeds: Sequence[int],
    outdir: Path,
    *,
    styles: Iterable[int] = range(7),
    truncation_psi: float = 1.0,
    noise_mode: str = "const",
    class_name: str | None = None,
    device: str = "cpu",
    progress: Progress = no_progress,
    overwrite: bool = False,
) -> MixSummary:
    """Mix each row seed with each column seed and write the pictures and a grid.

    Written are `<row>-<col>.png` for each pair, `<seed>-<seed>.png` for each seed alone, and `grid.png`: the
    columns' images above, the rows' on the left, black in the corner.

    Args:
        row_seeds, col_seeds: a seed given twice counts once.
        styles: style inputs, counted from 0 at 4x4, that are taken from the column's seed. Those that the
            network does not have are left out.

    Raises:
        SettingsError: for wrong seeds, styles, psi, noise mode or class.
        GanError: if the snapshot cannot be used, or a picture exists and may not be overwritten.
    """
    rows, cols = list(dict.fromkeys(row_seeds)), list(dict.fromkeys(col_seeds))
    for flag, seeds in (("--rows", rows), ("--cols", cols)):
        if not seeds:
            raise SettingsError(f"{flag} must name at least one seed, got none")
    seeds = list(dict.fromkeys(rows + cols))
    check_sampling(seeds, noise_mode, BATCH, truncation_psi)
    if len(rows) * len(cols) > MAX_NUM_PICTURES:
        raise SettingsError(
            f"--rows times --cols must be at most {MAX_NUM_PICTURES:,} pictures, got {len(rows)} x "
            f"{len(cols)}"
        )
    sampler = open_sampler(network, class_name=class_name, device=device)
    chosen = check_styles(styles, sampler.generator.num_ws)

    pairs = [(seed, seed) for seed in seeds] + [(row, col) for row in rows for col in cols if row != col]
    prepare_outdir(outdir, ["grid.png", *(f"{row}-{col}.png" for row, col in pairs)], overwrite)
    images = _mixed_images(sampler, pairs, chosen, truncation_psi, noise_mode, progress)
    for (row, col), pixels in images.items():
        save_png(outdir / f"{row}-{col}.png", channels_last(pixels))

    black = np.zeros_like(images[seeds[0], seeds[0]])
    cells = [black, *(images[col, col] for col in cols)]
    for row in rows:
        cells += [images[row, row], *(images[row, col] for col in cols)]
    save_grid(outdir / "grid.png", np.stack(cells), len(cols) + 1, len(rows) + 1)
    return MixSummary(
        outdir,
        outdir / "grid.png",
        len(images),
        chosen,
        sampler.generator.num_ws,
        sampler.snapshot.path,
        sampler.class_name,
    )


def check_styles(styles: Iterable[int], num_ws: int) -> tuple[int, ...]:
    """Sorted style inputs that a network with `num_ws` of them has.

    The default 0-6 is meant for networks of 1024 px; of smaller ones it takes what is there.

    Raises:
        SettingsError: if it has none of them.
    """
    wanted = sorted(set(styles))
    chosen = tuple(style for style in wanted if 0 <= style < num_ws)
    if not chosen:
        raise SettingsError(
            f"--styles must name style inputs between 0 and {num_ws - 1}, which this network has, got "
            f"{', '.join(map(str, wanted)) or 'none'}"
        )
    return chosen


def _mixed_images(
    sampler: Sampler,
    pairs: Sequence[tuple[int, int]],
    styles: Sequence[int],
    truncation_psi: float,
    noise_mode: str,
    progress: Progress,
) -> dict[tuple[int, int], np.ndarray]:
    """The (C, H, W) uint8 image of each (row, column); a seed with itself is its own image."""
    seeds = sorted({seed for pair in pairs for seed in pair})
    place = {seed: index for index, seed in enumerate(seeds)}
    ws = sampler.map_seeds(seeds, truncation_psi)  # (N, num_ws, w_dim)
    images: dict[tuple[int, int], np.ndarray] = {}
    for start in range(0, len(pairs), BATCH):
        part = pairs[start : start + BATCH]
        mixed = ws[[place[row] for row, _ in part]].clone()
        mixed[:, list(styles)] = ws[[place[col] for _, col in part]][:, list(styles)]
        images |= zip(part, sampler.synthesize(mixed, noise_mode, BATCH), strict=True)
        progress(len(images), len(pairs), "images mixed")
    return images
