"""The ledger: one row a pool image and round, with everything that led to its pseudo-label or to none."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from extract.atomic import replace_file
from semisup.choosing import PoolScores
from semisup.errors import StudyError
from semisup.select import NEGATIVE, SELECTED, TOO_UNCERTAIN, Negatives, decisions

LEDGER_FILE = "ledger.parquet"
VERSION_KEY = b"synthlabel_ledger_version"  # in the file's metadata; a ledger without it has version 1
# 2: gate, uncertainty, uncertainty_method; 3: gate_value, gate_nearest. Versions only add columns, each empty
# where nothing is known.
VERSION = 3
LATER_COLUMNS: dict[str, str | float] = {
    "gate": "", "uncertainty": np.nan, "uncertainty_method": "", "gate_value": np.nan, "gate_nearest": "",
}  # fmt: skip


@dataclass(frozen=True)
class PoolIdentity:
    """Where each of the N pool images comes from; nothing of it is seen by the rule."""

    archive_sha256: str | np.ndarray  # of all images, or (N,) str
    images: np.ndarray  # (N,) str, entry names
    image_sha256: np.ndarray  # (N,) str
    snapshot_sha256: np.ndarray  # (N,) str, empty for real images
    seeds: np.ndarray  # (N,) int64, -1 for real images
    truncation_psi: np.ndarray  # (N,) float64, NaN for real images

    @staticmethod
    def of_rows(manifest: pd.DataFrame, rows: np.ndarray, archive_sha256: str) -> "PoolIdentity":
        """Read it from the rows of an archive's manifest (strings as written)."""
        chosen = manifest.iloc[rows]
        return PoolIdentity(
            archive_sha256,
            chosen["file"].to_numpy(str),
            chosen["sha256"].to_numpy(str),
            chosen["snapshot_sha256"].to_numpy(str),
            np.array([int(seed) if seed else -1 for seed in chosen["seed"]], dtype=np.int64),
            np.array([float(psi) if psi else np.nan for psi in chosen["truncation_psi"]], dtype=np.float64),
        )

    @staticmethod
    def concat(first: "PoolIdentity", second: "PoolIdentity") -> "PoolIdentity":
        """The images of two pools, one after the other."""
        parts = (first, second)

        def joined(name: str) -> np.ndarray:
            return np.concatenate([getattr(part, name) for part in parts])

        archives = [np.full(len(part.images), part.archive_sha256) for part in parts]
        return PoolIdentity(
            np.concatenate(archives),
            joined("images"),
            joined("image_sha256"),
            joined("snapshot_sha256"),
            joined("seeds"),
            joined("truncation_psi"),
        )


def ledger_rows(
    identity: PoolIdentity,
    scores: PoolScores,
    *,
    round_index: int,
    teacher_sha256: str,
    rule: str,
    threshold: float | np.ndarray,
    weight: float,
    keeps_labels: bool = False,
) -> pd.DataFrame:
    """The (N,) rows of one round, in pool order.

    Args:
        threshold: the one in force, or (C,) by predicted class; inf (NaN in the ledger) where none qualified.
        weight: of a selected image in the loss, before its own relative weight.
        keeps_labels: labels of earlier rounds may stand, so that the column `pseudo_label` says each.
    """
    selection, judged = scores.selection, scores.judged_probs
    n, c = scores.probs.shape
    predicted = judged.argmax(axis=1)  # (N,)
    to_reach = np.broadcast_to(np.asarray(threshold, dtype=np.float64), c)[predicted]  # (N,)
    weights = np.zeros(n, dtype=np.float32)
    weights[selection.indices] = weight if selection.weights is None else weight * selection.weights
    aligned = {} if selection.aligned_probs is None else {f"aligned_p_{k}": judged[:, k] for k in range(c)}
    gated, doubt = scores.gated, scores.doubt
    words = decisions(judged, threshold, selection)
    if doubt is not None:
        words[~doubt.is_certain & ~np.isin(words.astype(str), (SELECTED, NEGATIVE))] = TOO_UNCERTAIN
    more: dict[str, np.ndarray] = {}
    if keeps_labels:
        more["pseudo_label"] = np.full(n, -1, dtype=np.int32)
        more["pseudo_label"][selection.indices] = selection.labels
    if selection.negatives is not None:
        weights[selection.negatives.indices] = weight
        more["excluded"] = _named_classes(selection.negatives, n)
    if gated is not None:
        words = np.where(gated.passes, words, gated.reason).astype(object)
    return pd.DataFrame(
        {
            "round_index": np.full(n, round_index, dtype=np.int32),
            "image": identity.images,
            "archive_sha256": identity.archive_sha256,
            "image_sha256": identity.image_sha256,
            "snapshot_sha256": identity.snapshot_sha256,
            "seed": identity.seeds,
            "truncation_psi": identity.truncation_psi,
            "teacher_sha256": teacher_sha256,
            **{f"raw_p_{k}": scores.raw_probs[:, k] for k in range(c)},
            **{f"p_{k}": scores.probs[:, k] for k in range(c)},
            **aligned,
            "confidence": judged.max(axis=1),
            "predicted": predicted.astype(np.int32),
            "rule": rule,
            "threshold": np.where(np.isfinite(to_reach), to_reach, np.nan),
            "decision": words,
            "weight": weights,
            "gate": np.full(n, "") if gated is None else gated.reason,
            "uncertainty": np.full(n, np.nan) if doubt is None else doubt.uncertainty,
            "uncertainty_method": "" if doubt is None else doubt.method,
            "gate_value": np.full(n, np.nan) if gated is None else gated.value,
            "gate_nearest": np.full(n, "") if gated is None else gated.nearest_file,
            **more,
        }
    )


def _named_classes(negatives: Negatives, num_images: int) -> np.ndarray:
    """(N,) str, the numbers of the classes that each image was taught not to be, such as "0 2"."""
    named = np.full(num_images, "", dtype=object)
    for row, excluded in zip(negatives.indices.tolist(), negatives.excluded, strict=True):
        named[row] = " ".join(str(label) for label in np.flatnonzero(excluded))
    return named.astype(str)


def write_ledger(rounds: Sequence[pd.DataFrame], path: Path) -> None:
    """Write the rows of all rounds of a run to one Parquet file, whole or not at all."""
    table = pa.Table.from_pandas(pd.concat(rounds, ignore_index=True), preserve_index=False)
    metadata = {**(table.schema.metadata or {}), VERSION_KEY: str(VERSION).encode()}
    with replace_file(path) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary)


def read_ledger(path: Path) -> pd.DataFrame:
    """Read a run's ledger; columns as in docs/architecture.md, those that an older one lacks empty.

    Raises:
        StudyError: if it is damaged.
    """
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise StudyError(_damaged(path, error)) from error
    for name, empty in LATER_COLUMNS.items():
        if name not in table:
            table[name] = empty
    return table


def count_rows(path: Path) -> int:
    """How many rows a ledger has, without reading them; 0 where there is none.

    Raises:
        StudyError: if it is damaged.
    """
    if not path.exists():
        return 0
    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, ValueError) as error:
        raise StudyError(_damaged(path, error)) from error


def ledger_images(path: Path) -> set[str]:
    """The hashes of all images that a ledger speaks of.

    Raises:
        StudyError: if it is damaged.
    """
    try:
        return set(pq.read_table(path, columns=["image_sha256"])["image_sha256"].unique().to_pylist())
    except (OSError, ValueError) as error:
        raise StudyError(_damaged(path, error)) from error


def ledger_version(path: Path) -> int:
    """The version of a ledger's columns; a newer one than `VERSION` reads as well, for versions only add.

    Raises:
        StudyError: if it is damaged.
    """
    try:
        return int((pq.read_schema(path).metadata or {}).get(VERSION_KEY, b"1"))
    except (OSError, ValueError) as error:
        raise StudyError(_damaged(path, error)) from error


def _damaged(path: Path, error: Exception) -> str:
    return (
        f"{path}: expected a ledger, got a file that cannot be read ({' '.join(str(error).split())}); "
        "remove this run's folder and run the study again"
    )
