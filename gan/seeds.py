"""Seeds: how they are written on the command line, and the latents that they stand for."""

from collections.abc import Sequence

import numpy as np

from extract.errors import SettingsError

MAX_NUM_SEEDS = 10_000_000


def latents(seeds: Sequence[int], z_dim: int) -> np.ndarray:
    """(N, z_dim) float32: normal draws of a legacy NumPy generator a seed, as in the official tools."""
    return np.concatenate([np.random.RandomState(seed).randn(1, z_dim) for seed in seeds]).astype(np.float32)


def parse_seeds(text: str, flag: str = "--seeds") -> list[int]:
    """`a-b` (inclusive) or a comma-separated list of numbers and such ranges.

    Args:
        flag: named in the error.

    Raises:
        SettingsError: for anything else.
    """
    example = "0-1999" if flag == "--seeds" else "0-6"
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise SettingsError(
                f"{flag} must be a range such as {example} or a list such as 3,7,12, got '{text}' (at "
                f"'{part}')"
            )
        start, stop = int(first), int(last if dash else first) + 1
        if len(seeds) + stop - start > MAX_NUM_SEEDS:  # before they fill the memory
            raise SettingsError(f"{flag} must name at most {MAX_NUM_SEEDS:,} seeds a call, got '{text}'")
        seeds.extend(range(start, stop))
    return seeds
