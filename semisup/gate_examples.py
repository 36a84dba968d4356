"""Pictures of what the gates turned away, each beside the training image that it was held against."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from extract.language import Message, Number
from extract.seeds import derive_seed
from semisup.examples import Picture, PictureSource, Shelf, to_uri
from semisup.gate_counts import GateCount
from semisup.records import FinishedRun, StudyRecords, run_title
from semisup.summary import RoundResult

NUM_EXAMPLES = 8  # a gate


@dataclass(frozen=True)
class Pair:
    """A synthetic image, and the real training image it was held against; None where none is known."""

    synthetic: Picture
    nearest: Picture | None


@dataclass(frozen=True)
class GateRow:
    """One gate: how many it turned away over all runs, and some of those of one run."""

    count: GateCount
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class GateSheet:
    """What the gates of one arm did, or why there are no pictures."""

    arm: str
    fraction: float
    num_runs: int
    num_asked: float  # synthetic images, mean over runs
    num_out: float
    example_of: str  # the run that the pictures are of
    rows: tuple[GateRow, ...]
    problem: str = ""


def find_gate_sheets(
    records: StudyRecords, rounds: Sequence[RoundResult], fraction: float, shelf: Shelf
) -> list[GateSheet]:
    """One sheet an arm that had gates at this fraction; gates are the same in every round of a run."""
    sheets: list[GateSheet] = []
    for result in rounds:
        is_first = all(sheet.arm != result.arm for sheet in sheets)
        if result.gates and np.isclose(result.fraction, fraction) and is_first:
            sheets.append(_sheet(result, records.select(result.arm, fraction), shelf))
    return sheets


def _sheet(result: RoundResult, runs: Sequence[FinishedRun], shelf: Shelf) -> GateSheet:
    ledger, shown = None, None
    for run in runs:
        ledger, shown = run.read_ledger(), run
        if ledger is not None and not ledger.empty:
            break
    gated = _first_round(ledger)
    pools = {sha256: shelf.find(sha256) for sha256 in dict.fromkeys(gated["archive_sha256"])}
    problem = Message("the archive of its pool is not in pools/") if None in pools.values() else ""
    sources = {sha256: PictureSource.of(archive) for sha256, archive in pools.items() if archive}
    real = PictureSource.of(shelf.data) if shelf.data else None

    def pairs(reason: str) -> tuple[Pair, ...]:
        rows = gated[(gated["gate"] == reason) & gated["archive_sha256"].isin(list(sources))]
        seed = derive_seed("gate examples", result.arm, result.fraction, reason)
        drawn = np.random.default_rng(seed).permutation(len(rows))[:NUM_EXAMPLES]
        return tuple(_pair(row, sources, real) for row in rows.iloc[np.sort(drawn)].to_dict("records"))

    return GateSheet(
        result.arm,
        result.fraction,
        result.num_runs,
        max(gate.num_asked for gate in result.gates),
        sum(gate.num_out for gate in result.gates),
        run_title({**shown.info, "fraction": shown.fraction}) if shown else "",
        tuple(GateRow(gate, pairs(gate.reason)) for gate in result.gates),
        problem,
    )


def _first_round(ledger: pd.DataFrame | None) -> pd.DataFrame:
    """The images that a gate turned away, once each."""
    if ledger is None or ledger.empty:
        return pd.DataFrame({"archive_sha256": [], "gate": []})
    first = ledger[ledger["round_index"] == ledger["round_index"].min()]
    return first[first["gate"].fillna("") != ""]


def _pair(row: dict[Any, Any], sources: dict[str, PictureSource], real: PictureSource | None) -> Pair:
    value = row.get("gate_value")
    caption = ""
    if isinstance(value, float) and np.isfinite(value):
        caption = Message("{value}", value=Number(value, 2))
    synthetic = _picture(sources[str(row["archive_sha256"])], str(row["image"]), caption)
    assert synthetic is not None, "a ledger names images of the archive whose hash it gives"
    near = str(row.get("gate_nearest") or "")
    return Pair(synthetic, _picture(real, near, Message("real")) if real and near else None)


def _picture(source: PictureSource, name: str, caption: str) -> Picture | None:
    number = source.numbers.get(name)
    return None if number is None else Picture(to_uri(source.archive.read_image(number)), caption)
