"""A pretrained encoder as two files: what it weighs, and whom it saw.

A classifier run whose `model.safetensors` another training starts from is held to the same rule.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifier.errors import ClassifierError
from extract.atomic import replace_file, write_text
from extract.errors import name_some
from extract.file_hash import file_sha256

if TYPE_CHECKING:
    from classifier.autoencoder import Encoder
    from extract.archive import Archive
    from extract.split import Split

ENCODER, RECORD = "encoder.safetensors", "encoder.json"
FORMAT = "synthlabel-encoder-1"


RUN_WEIGHTS, RUN_RECORD = "model.safetensors", "model.json"  # of a classifier run, see `classifier.run`


@dataclass(frozen=True)
class WeightsRecord:
    """What is known of weights that were trained here, as far as a reuse must know it."""

    path: Path  # of the weights
    is_encoder: bool  # of `classifier pretrain`; otherwise a whole classifier
    archive_sha256: str
    subjects: tuple[str, ...]  # who took part in the training; of an encoder those held out, too
    choosers: tuple[str, ...]  # of a classifier: who validated it
    content: dict[str, Any]  # everything the record says

    @property
    def noun(self) -> str:
        return "the encoder" if self.is_encoder else "the classifier"


def write_encoder(folder: Path, encoder: Encoder, facts: dict[str, Any]) -> None:
    """Write the weights and then, completing the run, the record with `facts`.

    Args:
        facts: must hold `archive_sha256` and `subjects` (`train` and `held_out`).
    """
    from safetensors.torch import save

    # Named as in the classifiers of `backbone_heads`, whose body they fill.
    tensors = {
        f"encoder.{name}": tensor.detach().cpu().contiguous() for name, tensor in encoder.state_dict().items()
    }
    with replace_file(folder / ENCODER) as temporary:
        temporary.write_bytes(save(tensors, metadata={"format": FORMAT}))
        (folder / RECORD).unlink(missing_ok=True)  # never an earlier record beside these weights
    record = {
        "format": FORMAT,
        "weights_sha256": file_sha256(folder / ENCODER),
        "channels": encoder.channels,
        "widths": list(encoder.widths),
        **facts,
    }
    write_text(folder / RECORD, json.dumps(record, indent=2) + "\n")


def read_record(weights: Path) -> WeightsRecord:
    """Read the record beside an encoder's weights, and check that the two belong together.

    Raises:
        ClassifierError: if one of the files is missing, damaged, or of another run.
    """
    weights = Path(weights)
    path = weights.with_suffix(".json")
    if not weights.is_file():
        raise ClassifierError(
            f"{weights}: expected the weights of an encoder, got nothing there; give the {ENCODER} that "
            "`synthlabel classifier pretrain` wrote"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"the format {content['format']!r}")
        record = WeightsRecord(
            weights,
            True,
            str(content["archive_sha256"]),
            tuple(str(name) for part in ("train", "held_out") for name in content["subjects"][part]),
            (),
            content,
        )
    except FileNotFoundError as error:
        raise ClassifierError(
            f"{path}: expected the record of {weights.name} beside it, got nothing there; without it nobody "
            "knows whom the encoder has seen: copy both files together"
        ) from error
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ClassifierError(
            f"{path}: expected the record of an encoder ({FORMAT}), got a fault at {error}; copy it anew or "
            "pretrain again"
        ) from error
    if content.get("weights_sha256") != file_sha256(weights):
        raise ClassifierError(
            f"{path}: expected the record of {weights}, got one of other weights (SHA-256 differs); copy "
            "both files together"
        )
    return record


def find_record(weights: Path | None) -> WeightsRecord | None:
    """The record of weights that were trained here, or None for others (published ones have no record).

    Raises:
        ClassifierError: if the file is an encoder's and its record is missing or damaged.
    """
    if weights is None:
        return None
    weights = Path(weights)
    if _is_encoder(weights):
        return read_record(weights)
    return _read_run(weights) if weights.name == RUN_WEIGHTS else None


def _read_run(weights: Path) -> WeightsRecord | None:
    """Whom a classifier run has seen; None where no run stands beside the weights (a hub's file, say)."""
    path = weights.with_name(RUN_RECORD)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        train, val = (tuple(map(str, content["subjects"][part])) for part in ("train", "val"))
        return WeightsRecord(weights, False, str(content["archive_sha256"]), train, val, content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def seen_by_weights(weights: Path | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Whom weights that were trained here have seen, for the record of what starts from them.

    Returns:
        Subjects who took part in their training, and who validated it; none of published weights.
    """
    record = find_record(weights)
    return (record.subjects, record.choosers) if record else ((), ())


def refuse_seen_by_weights(
    record: WeightsRecord,
    judges: Sequence[str],
    part: str,
    where: str,
    *,
    archive_sha256: str,
    known_subjects: Collection[str],
    allow_other_archive: bool = False,
) -> None:
    """Refuse to judge anything on subjects that the weights depend on, labels or not.

    Args:
        judges: subjects whom nothing may have been learned from.
        part: "val" or "test"; who only validated the weights may validate again.
        where: for the error, for instance "fold 0".
        archive_sha256: of the archive that holds them.
        known_subjects: all subjects of that archive. Weights of another archive pass where all whom they saw
            have a name here, so that none of them can be a judge.
        allow_other_archive: accept strangers on the user's word that they are other people.

    Raises:
        ClassifierError: naming the subjects seen, or why it cannot be known whether any was.
    """
    what = f"the {part} part of {where}"
    met = {*record.subjects, *(record.choosers if part == "test" else ())}
    seen = sorted(met & set(judges))
    if seen:
        raise ClassifierError(
            f"{record.path}: {record.noun} was trained on {len(seen)} of the {len(set(judges))} subjects of "
            f"{what} ({name_some(seen)}); results on them would be too good. Train it on the training part "
            "of this fold alone (--split, --fold)"
        )
    if record.archive_sha256 == archive_sha256 or allow_other_archive:
        return
    strangers = sorted(met - set(known_subjects))
    if strangers:
        raise ClassifierError(
            f"{record.path}: {record.noun} was trained on another archive (SHA-256 "
            f"{record.archive_sha256[:12]}), {len(strangers)} of whose subjects are not in this one "
            f"({name_some(strangers)}), so it cannot be checked whether they are people of {what}; train it "
            "on this archive's training part, or pass --allow-other-archive if you know that they differ"
        )


def check_weights_for_fold(
    weights: Path | None, archive: Archive, split: Split, fold: int, *, allow_other_archive: bool = False
) -> WeightsRecord | None:
    """Refuse weights that saw a validation or test subject of the fold, at any labeled fraction.

    Returns:
        Their record, or None where `weights` is None or was not trained here.

    Raises:
        ClassifierError: as `refuse_seen_by_weights`.
    """
    record = find_record(weights)
    if record is None:
        return None
    for part in ("test", "val"):
        refuse_seen_by_weights(
            record,
            split.subjects(fold, part),  # at fraction 1: all who judge at any fraction
            part,
            f"fold {fold}",
            archive_sha256=archive.sha256,
            known_subjects=set(archive.subjects.tolist()),
            allow_other_archive=allow_other_archive,
        )
    return record


def _is_encoder(weights: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    if weights.suffix != ".safetensors" or not weights.is_file():
        return False
    try:
        with safe_open(weights, framework="np") as opened:
            return (opened.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError, ValueError):
        return False  # whoever loads it says what is wrong with it
