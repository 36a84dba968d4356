"""The generator of the page, loaded once in the background, and the real images that it is compared with.

The page stays with the network that it began with, also where a training goes on: the same seed is to give
the same image as long as somebody looks at it.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from extract.errors import SynthlabelError
from gan.recipes import Recipe
from scripts.app.closing import in_background, run_in, stop_if_closing
from scripts.app.models import at_work
from scripts.app.settings import AppSettings

if TYPE_CHECKING:
    from gan.likeness import Comparison, Likeness, NearReal
    from gan.network_card import NetworkCard
    from gan.studio import Studio

NUM_SHOWN = 12  # images on a page
NUM_MADE_FIRST = 4  # before anybody asks
NUM_NEAREST = 4  # real images shown with one, of as many people
LATER = 10  # niceness of what can wait
MAX_KNOWN = 2000  # images whose likeness is remembered

_lock = threading.Lock()
_networks: dict[Path, Future[OpenNetwork]] = {}
_comparisons: dict[tuple[Path | None, ...], ComparisonJob] = {}


@dataclass(frozen=True)
class OpenNetwork:
    """A generator that is ready."""

    studio: Studio
    card: NetworkCard

    def images(self, recipes: Sequence[Recipe]) -> np.ndarray:
        """(N, C, H, W) uint8, one visitor at a time."""
        with at_work:
            return self.studio.images(recipes)


@dataclass
class ComparisonJob:
    """The real images on their way, and what was found with them."""

    result: Future[Comparison] = field(default_factory=Future)  # the nearest can be named
    rule: Future[bool] = field(default_factory=Future)  # and copies be told
    done: int = 0  # of what is at work now
    total: int = 0
    _known: OrderedDict[tuple[Recipe, bool], Likeness] = field(default_factory=OrderedDict)

    @property
    def share(self) -> float:
        """Of what is at work now, in [0, 1]."""
        return min(self.done / self.total, 1.0) if self.total else 0.0

    def look(self, network: OpenNetwork, recipes: Sequence[Recipe]) -> list[Likeness]:
        """How much like real images these are; only where `result` is there."""
        comparison, is_final = self.result.result(), self.rule.done()
        with at_work:
            missing = [recipe for recipe in dict.fromkeys(recipes) if (recipe, is_final) not in self._known]
            if missing:
                found = comparison.look(network.images(missing), NUM_NEAREST)
                self._known |= {(recipe, is_final): one for recipe, one in zip(missing, found, strict=True)}
            told = [self._known[recipe, is_final] for recipe in recipes]
            while len(self._known) > MAX_KNOWN:
                self._known.popitem(last=False)
        return told

    def pixels(self, near: NearReal) -> np.ndarray:
        """The real image (C, H, W) uint8."""
        with at_work:
            return self.result.result().pixels(near)


def begin_network(network: Path) -> Future[OpenNetwork]:
    """Load a generator in the background, once, and make the first images, which take longest."""
    with _lock:
        if network not in _networks:
            _networks[network] = in_background(lambda: _load(network))
        return _networks[network]


def begin_comparison(settings: AppSettings) -> ComparisonJob:
    """Look at the real images in the background, once: those of `--archive`, else what the run recorded."""
    assert settings.network is not None
    network, fold = settings.network, settings.fold
    key = network, settings.archive, settings.split, Path(f"{fold}")
    with _lock:
        if key in _comparisons:
            return _comparisons[key]
        _comparisons[key] = job = ComparisonJob()

    def report(done: int, total: int, message: str) -> None:
        stop_if_closing()
        job.done, job.total = done, total

    def look() -> Comparison:
        from gan.likeness import find_reals, open_comparison
        from gan.network_card import recorded_archive

        snapshot = begin_network(network).result().studio.snapshot
        archive = settings.archive or recorded_archive(snapshot.path.parent)
        try:
            reals = find_reals(snapshot, settings.archive, settings.split, fold)
            found = open_comparison(snapshot, reals, progress=report)
        except SynthlabelError as error:  # where the archive lies is nobody's business but the command's
            text = f"{error}" if archive is None else f"{error}".replace(f"{archive.parent}/", "")
            raise SynthlabelError(text) from error
        job.done = job.total = 0
        run_in(job.rule, calibrate)
        return found

    def calibrate() -> bool:
        _give_way()
        job.result.result().calibrate(report)
        return True

    run_in(job.result, look)
    return job


def _give_way() -> None:
    """Let this thread come after those that a visitor waits for, where the system can."""
    if sys.platform == "linux":  # elsewhere the number of a thread means nothing to it
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LATER)


def first_recipe(network: OpenNetwork) -> Recipe:
    """What the page begins with: the first class, psi 1."""
    classes = network.card.classes
    return Recipe(0, class_name=classes[0] if classes else "")


def _load(network: Path) -> OpenNetwork:
    from gan.network_card import network_card
    from gan.recipes import plain
    from gan.studio import open_studio

    studio = open_studio(network)
    opened = OpenNetwork(studio, network_card(studio.snapshot))
    opened.images([plain(first_recipe(opened), seed) for seed in range(NUM_MADE_FIRST)])
    return opened
