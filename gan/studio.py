"""A generator that makes single images on demand, each once: what leafing through its images takes."""

import math
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from extract.errors import SettingsError
from gan.metrics import slerp
from gan.recipes import Recipe
from gan.sampling import Sampler, open_sampler
from gan.seeds import latents

BATCH = 4  # every image is computed among so many, so that it does not depend on which are asked for
MAX_KEPT_BYTES = 64 * 2**20


class Studio:
    """Makes the images of recipes, and keeps the latest as long as there is room. For one thread at a time.

    A seed's image is that of `gan generate --batch 4` to the bit; see there for other batch sizes.
    """

    def __init__(self, sampler: Sampler, max_kept_bytes: int = MAX_KEPT_BYTES) -> None:
        self.sampler, self.snapshot = sampler, sampler.snapshot
        self.snapshot_sha256 = sampler.snapshot.sha256  # of the file that was loaded, whatever comes later
        self.num_ws: int = sampler.generator.num_ws
        self._kept: OrderedDict[Recipe, np.ndarray] = OrderedDict()
        self._max_kept = max(BATCH, max_kept_bytes // math.prod(self.snapshot.image_shape))

    def check(self, recipe: Recipe) -> None:
        """Raise SettingsError for a recipe that this network cannot make."""
        classes = self.snapshot.classes
        if classes and recipe.class_name not in classes:
            raise SettingsError(f"the class must be one of {', '.join(classes)}, got '{recipe.class_name}'")
        if not classes and recipe.class_name:
            raise SettingsError(f"a network without classes was asked for the class '{recipe.class_name}'")
        if (
            recipe.second_styles
            and not 0 <= recipe.second_styles[0] <= recipe.second_styles[-1] < self.num_ws
        ):
            raise SettingsError(
                f"styles must be between 0 and {self.num_ws - 1}, which this network has, got "
                f"{', '.join(map(str, recipe.second_styles))}"
            )

    def images(self, recipes: Sequence[Recipe]) -> np.ndarray:
        """The images (N, C, H, W) uint8 of recipes.

        Raises:
            SettingsError: for a class or styles that the network does not have.
        """
        made: dict[Recipe, np.ndarray] = {}
        for recipe in dict.fromkeys(recipes):
            if recipe in self._kept:
                self._kept.move_to_end(recipe)
                made[recipe] = self._kept[recipe]
            else:
                self.check(recipe)
        missing = [recipe for recipe in dict.fromkeys(recipes) if recipe not in made]
        by_setting: dict[tuple[float, str], list[Recipe]] = {}
        for recipe in missing:
            by_setting.setdefault((recipe.truncation_psi, recipe.noise_mode), []).append(recipe)
        for alike in by_setting.values():
            for start in range(0, len(alike), BATCH):
                part = alike[start : start + BATCH]
                filled = part + [part[-1]] * (BATCH - len(part))
                made |= zip(part, self._synthesize(filled), strict=False)
        for recipe in missing:
            self._kept[recipe] = made[recipe]
        while len(self._kept) > self._max_kept:
            self._kept.popitem(last=False)
        return np.stack([made[recipe] for recipe in recipes])

    @torch.no_grad()
    def _synthesize(self, recipes: Sequence[Recipe]) -> np.ndarray:
        """Images (BATCH, C, H, W) of recipes with one psi and noise mode."""
        ws = self._map(recipes, [recipe.seed for recipe in recipes])
        if not all(recipe.is_plain for recipe in recipes):
            seconds = [
                recipe.seed if recipe.second_seed is None else recipe.second_seed for recipe in recipes
            ]
            others = self._map(recipes, seconds)
            ws = ws.clone()
            for place, recipe in enumerate(recipes):
                ws[place, list(recipe.second_styles)] = others[place, list(recipe.second_styles)]
        return self.sampler.synthesize(ws, recipes[0].noise_mode, BATCH)

    def _map(self, recipes: Sequence[Recipe], seeds: Sequence[int]) -> Tensor:
        """(BATCH, num_ws, w_dim), of a walk's recipes at their share of the way."""
        z_dim = self.sampler.generator.z_dim
        z = latents(seeds, z_dim)
        for place, recipe in enumerate(recipes):
            if recipe.walk_share is not None:
                assert recipe.second_seed is not None
                ends = latents([recipe.seed, recipe.second_seed], z_dim)
                z[place] = slerp(ends[0], ends[1], recipe.walk_share) * math.sqrt(z_dim)
        classes = self.snapshot.classes
        numbers = [classes.index(recipe.class_name) for recipe in recipes] if classes else None
        mapped = self.sampler.generator.mapping(
            torch.from_numpy(z).to(self.sampler.device),
            self.sampler.labels(len(z), numbers),
            truncation_psi=recipes[0].truncation_psi,
        )
        return mapped  # type: ignore[no-any-return]


def open_studio(network: Path, *, device: str = "cpu") -> Studio:
    """The studio of a snapshot, or of the newest one of a run folder.

    Raises:
        GanError: if it cannot be used; an official pickle is never read, the error says how to convert it.
    """
    return Studio(open_sampler(network, device=device, several_classes=True))
