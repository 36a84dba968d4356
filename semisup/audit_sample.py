"""Which pseudo-labels an expert is to see: all of a study's, in strata, and a random draw from each."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from extract.errors import SettingsError
from extract.file_hash import file_sha256
from extract.seeds import derive_seed
from semisup.arms import ARMS
from semisup.audit_statistics import Stratum
from semisup.folders import RUN_JSON, read_json
from semisup.ledger import LEDGER_FILE, read_ledger
from semisup.select import SELECTED

NUM_BANDS = 3  # of confidence, with about as many pseudo-labels in each
LETTERS = (
    "BCDFGHJKLMNPQRSTVWXZ"  # no vowels: no words, and no dates or numbers that a spreadsheet would "mend"
)
CODE_LENGTH = 6


@dataclass(frozen=True)
class Population:
    """The pseudo-labels that an audit is about."""

    rows: (
        pd.DataFrame
    )  # run, ledger_row, arm, fraction, round_index, archive_sha256, image, predicted, confidence
    ledgers: dict[str, str]  # hash of each ledger by run
    runs: tuple[str, ...]  # keys of all runs that were looked at, those without a pseudo-label too


@dataclass(frozen=True)
class Draw:
    """What was drawn from a population."""

    rows: np.ndarray  # (M,) int, of the population
    strata: tuple[Stratum, ...]
    stratum: np.ndarray  # (M,) int
    band_edges: tuple[float, ...]  # confidence between two bands


def read_population(
    study_dir: Path,
    study: dict[str, Any],
    *,
    arms: Collection[str] = (),
    fractions: Collection[float] = (),
    rounds: Collection[int] = (),
) -> Population:
    """All selected rows of the ledgers of finished runs; empty filters let everything pass.

    Raises:
        SettingsError: if a filter names what the study does not have, or nothing is left.
    """
    _check_filters(study, arms, fractions)
    tables, ledgers, runs = [], {}, []
    for path in sorted(study_dir.glob(f"runs/[!.]*/{RUN_JSON}")):
        info = read_json(path)
        arm, fraction = str(info.get("arm")), float(info.get("fraction") or 0)
        if info.get("status") != "done" or not _has_pool(arm) or (arms and arm not in arms):
            continue
        if fractions and not any(np.isclose(fraction, wanted) for wanted in fractions):
            continue
        runs.append(path.parent.name)
        ledger_path = path.parent / LEDGER_FILE
        if not ledger_path.exists():
            continue
        ledger = read_ledger(ledger_path)
        chosen = ledger["decision"].to_numpy() == SELECTED
        if rounds:
            chosen &= ledger["round_index"].isin(list(rounds)).to_numpy()
        if "pseudo_label" in ledger:  # where labels are kept, they need not be the predicted ones
            ledger["predicted"] = ledger["predicted"].where(~chosen, ledger["pseudo_label"])
        kept = ledger.loc[chosen, ["round_index", "archive_sha256", "image", "predicted", "confidence"]]
        kept.insert(0, "ledger_row", np.flatnonzero(chosen))
        kept.insert(0, "fraction", fraction)
        kept.insert(0, "arm", arm)
        kept.insert(0, "run", path.parent.name)
        tables.append(kept)
        ledgers[path.parent.name] = file_sha256(ledger_path)
    rows = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    if rows.empty:
        raise SettingsError(
            f"{study_dir}: expected pseudo-labels of finished runs to draw from, got none with these "
            "--arm, --fraction and --round"
        )
    return Population(rows, ledgers, tuple(runs))


def _has_pool(arm: str) -> bool:
    return arm not in ARMS or ARMS[arm].pseudo_labels


def audited_arms(study: dict[str, Any]) -> list[str]:
    """The arms of a study that have pseudo-labels."""
    return [str(arm) for arm in study.get("arms") or [] if _has_pool(arm)]


def _check_filters(study: dict[str, Any], arms: Collection[str], fractions: Collection[float]) -> None:
    known = audited_arms(study)
    for arm in arms:
        if arm not in known:
            raise SettingsError(
                f"--arm {arm}: expected an arm of the study with pseudo-labels ({', '.join(known) or 'none'})"
            )
    shares = [float(value) for value in study.get("fractions") or []]
    for fraction in fractions:
        if not any(np.isclose(fraction, share) for share in shares):
            raise SettingsError(
                f"--fraction {fraction:g}: expected a fraction of the study "
                f"({', '.join(f'{share:g}' for share in shares)})"
            )


@dataclass(frozen=True)
class Strata:
    """Pseudo-labels of one kind each: arm, fraction, class and confidence band."""

    numbers: np.ndarray  # (N,) int, stratum of each pseudo-label
    names: tuple[tuple[str, float, int, int], ...]
    sizes: np.ndarray  # (H,) int
    band_edges: tuple[float, ...]


def stratify(population: pd.DataFrame, num_bands: int = NUM_BANDS) -> Strata:
    """Sort pseudo-labels into strata, with about as many in each of the bands of confidence."""
    edges = np.quantile(population["confidence"], np.arange(1, num_bands) / num_bands)
    bands = np.searchsorted(edges, population["confidence"].to_numpy(), side="right")  # (N,)
    keys = pd.MultiIndex.from_arrays(
        [population["arm"], population["fraction"], population["predicted"], bands]
    )
    numbers, names = keys.factorize(sort=True)  # (N,), one number a stratum
    listed = tuple((str(a), float(f), int(k), int(band)) for a, f, k, band in names)
    return Strata(numbers, listed, np.bincount(numbers), tuple(float(edge) for edge in edges))


def draw_sample(population: pd.DataFrame, num: int, seed: int, num_bands: int = NUM_BANDS) -> Draw:
    """Draw `num` pseudo-labels at random within strata of arm, fraction, class and confidence band.

    A stratum gets a part in proportion to the square root of its size, at least one and at most all of it: a
    compromise between the error of the whole, which asks for large strata, and those of the rare classes.

    Source: power allocation, Bankier 1988, The American Statistician 42(3), with power 1/2.

    Raises:
        SettingsError: if there are more strata than pseudo-labels to draw.
    """
    found = stratify(population, num_bands)
    numbers, sizes = found.numbers, found.sizes
    if num < len(sizes):
        raise SettingsError(
            f"--num {num}: expected at least {len(sizes)}, one for each stratum (arm, fraction, class and "
            "confidence band); draw more, or limit it with --arm, --fraction and --round"
        )
    counts = allocate(sizes, num)
    rng = np.random.default_rng(derive_seed("audit sample", seed))
    rows, stratum = [], []
    for h, count in enumerate(counts):
        rows.append(np.sort(rng.choice(np.flatnonzero(numbers == h), size=count, replace=False)))
        stratum.append(np.full(count, h))
    strata = tuple(Stratum(*name, int(sizes[h]), int(counts[h])) for h, name in enumerate(found.names))
    return Draw(np.concatenate(rows), strata, np.concatenate(stratum), found.band_edges)


def allocate(sizes: np.ndarray, num: int) -> np.ndarray:
    """Share `num` among strata by the square root of their (H,) sizes: each gets 1 to its size."""
    num = min(num, int(sizes.sum()))
    counts = np.ones(len(sizes), dtype=np.int64)
    roots = np.sqrt(sizes)
    while counts.sum() < num:  # to whom it is farthest below its part; small numbers, so one by one
        need = np.where(counts < sizes, roots / (counts + 0.5), -1.0)
        counts[int(need.argmax())] += 1
    return counts


def make_codes(num: int, seed: int, purpose: str = "") -> list[str]:
    """Different random codes in alphabetical order, to be dealt out at random.

    Args:
        purpose: what they are for: other pictures get other codes from the same seed, so that a sheet tells
            which export it belongs to.
    """
    rng = np.random.default_rng(derive_seed("audit codes", seed, purpose))
    codes: set[str] = set()
    while len(codes) < num:
        codes.add("".join(LETTERS[k] for k in rng.integers(0, len(LETTERS), CODE_LENGTH)))
    return sorted(codes)
