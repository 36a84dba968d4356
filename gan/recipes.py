"""Recipes: what an image was asked for, so that it can be made again and written down. Needs no torch."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from extract.errors import SettingsError

REPEATABLE_NOISE = ("const", "none")  # modes in which a recipe always gives the same image
MAX_SEED = 2**32 - 1
COARSE_STYLES, MIDDLE_STYLES = range(0, 4), range(4, 8)  # 4 to 8 px, 16 to 32 px; finer ones come after


@dataclass(frozen=True)
class Recipe:
    """One image of a generator: a seed, or two that are mixed or lie at the ends of a walk."""

    seed: int
    truncation_psi: float = 1.0  # 1 = as far from the average w as in training, 0 = the average image
    class_name: str = ""  # of a conditional generator
    noise_mode: str = "const"
    second_seed: int | None = None  # whose styles are mixed in, or that the walk leads to
    second_styles: tuple[int, ...] = ()  # style inputs taken from the second seed, sorted
    walk_share: float | None = None  # of the way from the seed to the second, along the sphere of z

    def __post_init__(self) -> None:
        seeds = [self.seed] if self.second_seed is None else [self.seed, self.second_seed]
        if not all(0 <= seed <= MAX_SEED for seed in seeds):
            raise SettingsError(f"a seed must be between 0 and {MAX_SEED}, got {seeds}")
        if not math.isfinite(self.truncation_psi):
            raise SettingsError(f"truncation psi must be a number such as 0.7, got {self.truncation_psi}")
        if self.noise_mode not in REPEATABLE_NOISE:
            raise SettingsError(
                f"the noise must be one of {', '.join(REPEATABLE_NOISE)}, so that the image can be made "
                f"again, got '{self.noise_mode}'"
            )
        if self.second_seed is None and (self.second_styles or self.walk_share is not None):
            raise SettingsError("a mix or a walk needs a second seed, got none")
        if self.second_seed is not None and bool(self.second_styles) == (self.walk_share is not None):
            raise SettingsError("a second seed needs either the styles to take from it or a share of the way")
        if self.walk_share is not None and not 0 <= self.walk_share <= 1:
            raise SettingsError(f"a share of the way must be in [0, 1], got {self.walk_share}")
        if list(self.second_styles) != sorted(set(self.second_styles)):
            raise SettingsError(f"styles must be sorted and different, got {self.second_styles}")

    @property
    def is_plain(self) -> bool:
        """Whether it is what `gan generate` makes: one seed and nothing else."""
        return self.second_seed is None


def style_groups(num_ws: int) -> dict[str, tuple[int, ...]]:
    """Style inputs of a network as coarse, middle and fine, the groups of the paper's Figure 3.

    Groups that a small network does not have are left out.

    Args:
        num_ws: style inputs that the network has.

    Source: Karras et al. 2018, arXiv:1812.04948, Section 3.1.
    """
    groups = {
        "coarse": tuple(style for style in COARSE_STYLES if style < num_ws),
        "middle": tuple(style for style in MIDDLE_STYLES if style < num_ws),
        "fine": tuple(range(MIDDLE_STYLES.stop, num_ws)),
    }
    return {name: styles for name, styles in groups.items() if styles}


def mixed_with(first: Recipe, second_seed: int, styles: Sequence[int]) -> Recipe:
    """The recipe with these styles of a second seed; without any, or with its own seed, it stays plain."""
    if not styles or second_seed == first.seed:
        return plain(first, first.seed)
    return Recipe(
        first.seed,
        first.truncation_psi,
        first.class_name,
        first.noise_mode,
        second_seed,
        tuple(sorted(styles)),
    )


def plain(like: Recipe, seed: int) -> Recipe:
    """The image of one seed, all else as in another recipe."""
    return Recipe(seed, like.truncation_psi, like.class_name, like.noise_mode)


def mixing_steps(first: Recipe, second_seed: int, num_ws: int) -> tuple[Recipe, ...]:
    """From the first seed's image to the second's, two more style inputs each time, the finest first."""
    mixes = [mixed_with(first, second_seed, range(start, num_ws)) for start in range(num_ws, 0, -2)]
    return tuple(dict.fromkeys([*mixes, plain(first, second_seed)]))


def walk_steps(first: Recipe, second_seed: int, count: int) -> tuple[Recipe, ...]:
    """`count` images at even steps from the first seed to the second, both included, as `gan video` goes."""
    if second_seed == first.seed:
        return (plain(first, first.seed),)
    between = [
        Recipe(
            first.seed, first.truncation_psi, first.class_name, first.noise_mode, second_seed,
            walk_share=round(step / (count - 1), 6),
        )
        for step in range(1, count - 1)
    ]  # fmt: skip
    return (plain(first, first.seed), *between, plain(first, second_seed))
