"""The ledger: one row a pool image and round, with everything that led to its pseudo-label or to none."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from extract.atomic import replace_file
from semisup.errors import StudyError
from semisup.rounds import PoolScores
from semisup.select import SELECTED, decisions


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
    threshold: float,
    weight: float,
) -> pd.DataFrame:
    """The (N,) rows of one round, in pool order; `weight` is what a selected image weighs in the loss."""
    decision = decisions(scores.probs, threshold, scores.selection)
    n, c = scores.probs.shape
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
            "confidence": scores.probs.max(axis=1),
            "predicted": scores.probs.argmax(axis=1).astype(np.int32),
            "rule": rule,
            "threshold": threshold,
            "decision": decision,
            "weight": np.where(decision == SELECTED, weight, 0.0).astype(np.float32),
        }
    )


def write_ledger(rounds: Sequence[pd.DataFrame], path: Path) -> None:
    """Write the rows of all rounds of a run to one Parquet file, whole or not at all."""
    with replace_file(path) as temporary:
        pd.concat(rounds, ignore_index=True).to_parquet(temporary, index=False)


def read_ledger(path: Path) -> pd.DataFrame:
    """Read a run's ledger; columns as in docs/architecture.md.

    Raises:
        StudyError: if it is damaged.
    """
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        raise StudyError(
            f"{path}: expected a ledger, got a file that cannot be read ({' '.join(str(error).split())}); "
            "remove this run's folder and run the study again"
        ) from error
