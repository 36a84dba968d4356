"""Snapshots: weights in a safetensors file whose header says how, on what and on whom they were trained."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from extract.archive import file_sha256
from extract.atomic import replace_file
from extract.errors import name_some
from gan.errors import GanError
from gan.networks import build_generator, use_channels_last
from vendor.stylegan2_ada import Generator

HEADER_KEY = "synthlabel"
FORMAT = "synthlabel-snapshot-1"
SNAPSHOT_PATTERN = "network-snapshot-*.safetensors"
IMPORTED_PREFIX = "imported:"  # and the hash of a foreign file: in place of the hash of an unknown archive
BEST_NAME = "best.json"  # in a run folder: which of its snapshots is best by a measure
BEST_FORMAT = "synthlabel-best-1"
_FIELDS: dict[str, type | tuple[type, ...]] = {
    "config": dict,
    "kimg": (int, float),
    "classes": list,
    "archive_sha256": str,
    "split_sha256": (str, type(None)),
    "fold": (int, type(None)),
    "part": str,
    "subjects": list,
    "seed": int,
    "image_shape": list,
}


@dataclass(frozen=True)
class Snapshot:
    """What a snapshot says about itself; the weights stay on disk."""

    config: dict[str, Any]  # network settings: G, D, augment
    kimg: float  # thousands of real images shown; 0 where unknown (imported)
    classes: tuple[str, ...]  # of a conditional generator, else empty
    archive_sha256: str  # trained on; `IMPORTED_PREFIX` and more where unknown
    split_sha256: str | None  # None = no split
    fold: int | None
    part: str  # "train", or "all" without a split; "unknown" where imported
    subjects: tuple[str, ...]  # seen in training, by the weights it started from as well, sorted
    seed: int
    image_shape: tuple[int, int, int]  # (C, H, W)
    path: Path
    earlier_archives: tuple[str, ...] = ()  # others that the weights it started from were trained on

    @cached_property
    def sha256(self) -> str:
        """Hash of the file's bytes: what synthetic images and ledgers know the generator by."""
        return file_sha256(self.path)


def write_snapshot(path: Path, modules: Mapping[str, nn.Module | None], header: Mapping[str, Any]) -> None:
    """Write `G_ema.*`, `G.*`, `D.*` and `augment_pipe.p` in float32, whole or not at all."""
    tensors: dict[str, Tensor] = {}
    for prefix, module in modules.items():
        if prefix == "augment_pipe":
            if module is not None:
                tensors["augment_pipe.p"] = module.state_dict()["p"].detach().cpu().clone()
            continue
        assert module is not None
        for name, tensor in module.state_dict().items():
            tensors[f"{prefix}.{name}"] = tensor.detach().cpu().contiguous().clone()
    write_tensors(path, tensors, {"format": FORMAT, **header})


def write_tensors(path: Path, tensors: dict[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors with a JSON header, whole or not at all."""
    content = save(tensors, metadata={HEADER_KEY: json.dumps(header)})
    with replace_file(path) as temporary:
        temporary.write_bytes(content)  # by Python, whose OSError tells a full disk from other faults


def read_snapshot(path: Path) -> Snapshot:
    """Read a snapshot's header, or that of the newest snapshot in a run folder.

    Raises:
        GanError: if it is no whole snapshot of ours.
    """
    path = find_snapshot(path)
    header = read_header(path, FORMAT, "a GAN snapshot")
    for name, kinds in _FIELDS.items():
        if not isinstance(header.get(name), kinds):
            raise GanError(
                f"{path}: expected '{name}' in the snapshot's header, got {header.get(name)!r}; "
                "the file was changed or made by another version"
            )
    return Snapshot(
        config=header["config"],
        kimg=float(header["kimg"]),
        classes=tuple(header["classes"]),
        archive_sha256=header["archive_sha256"],
        split_sha256=header["split_sha256"],
        fold=header["fold"],
        part=header["part"],
        subjects=tuple(header["subjects"]),
        seed=header["seed"],
        image_shape=tuple(header["image_shape"]),
        path=path,
        earlier_archives=tuple(header.get("earlier_archives", ())),
    )


def read_header(path: Path, expected_format: str, what: str) -> dict[str, Any]:
    """The JSON in the header of one of our safetensors files, once its format is what is expected."""
    if path.suffix.lower() in (".pkl", ".pickle", ".pt", ".pth"):
        raise GanError(
            f"{path}: expected {what} (.safetensors), got a pickle, which would run whatever code it "
            f"carries; turn an official network into a snapshot, safely, with: synthlabel gan import {path} "
            f"{path.with_suffix('.safetensors').name}"
        )
    try:
        with safe_open(path, framework="pt") as opened:
            metadata = opened.metadata() or {}
    except FileNotFoundError as error:
        raise GanError(f"{path}: expected {what}, got nothing there") from error
    except (SafetensorError, OSError) as error:
        raise GanError(
            f"{path}: expected {what}, got a file that is none or is cut short ({error}); take another one"
        ) from error
    try:
        header = json.loads(metadata.get(HEADER_KEY, "null"))
    except json.JSONDecodeError as error:
        raise GanError(f"{path}: expected JSON in the header '{HEADER_KEY}', got {error}") from error
    if not isinstance(header, dict) or header.get("format") != expected_format:
        found = header.get("format") if isinstance(header, dict) else "no such header"
        raise GanError(f"{path}: expected {what} of format {expected_format}, got {found}")
    return header


def find_snapshot(path: Path) -> Path:
    """The file itself, the newest snapshot of a run folder, or the one that a run's `best.json` names.

    Raises:
        GanError: if there is none.
    """
    path = Path(path)
    if path.name == BEST_NAME:
        return _marked_snapshot(path)
    if not path.is_dir():
        return path
    snapshots = sorted(path.glob(SNAPSHOT_PATTERN))
    if not snapshots:
        within = sorted({found.parent.name for found in path.glob(f"*/{SNAPSHOT_PATTERN}")})
        meant = f"; did you mean {path / within[-1]}?" if within else ""
        raise GanError(
            f"{path}: expected a snapshot or a run folder, got a folder without {SNAPSHOT_PATTERN}{meant}"
        )
    return snapshots[-1]


def read_mark(path: Path) -> dict[str, Any]:
    """What `best.json` says: the best snapshot of a run, by which measure, and its value.

    Raises:
        GanError: if it is none.
    """
    try:
        marked = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise GanError(
            f"{path}: expected the mark of a run's best snapshot, got nothing there; train with --metrics, "
            f"or name a snapshot"
        ) from error
    except (OSError, ValueError) as error:
        raise GanError(f"{path}: expected the mark of a run's best snapshot, got {error}") from error
    if not isinstance(marked, dict) or marked.get("format") != BEST_FORMAT:
        raise GanError(
            f"{path}: expected the mark of a run's best snapshot ({BEST_FORMAT}), got another file"
        )
    return marked


def _marked_snapshot(path: Path) -> Path:
    marked = read_mark(path)
    snapshot = path.parent / Path(str(marked.get("snapshot"))).name
    if not snapshot.is_file() or file_sha256(snapshot) != marked.get("snapshot_sha256"):
        raise GanError(
            f"{path}: expected {snapshot.name} beside it as it was when it was measured, got "
            f"{'another file' if snapshot.is_file() else 'none'}; name another snapshot"
        )
    return snapshot


def load_weights(path: Path) -> dict[str, Tensor]:
    """All tensors of a snapshot by name, on the CPU."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise GanError(f"{path}: expected a whole snapshot, got {error}") from error


def load_generator(
    path: Path, device: str | torch.device = "cpu", precision: str | None = None
) -> tuple[Generator, Snapshot]:
    """The averaged generator `G_ema` in evaluation mode, and the snapshot's header.

    Args:
        precision: `fp32`, `bf16` or `fp16`; None = float32 on a CPU, elsewhere what it was trained in.
    """
    snapshot = read_snapshot(path)
    device = torch.device(device)
    if precision is None and device.type == "cpu":
        precision = "fp32"
    try:
        generator = build_generator(snapshot.config, precision)
    except (TypeError, ValueError, KeyError) as error:
        raise GanError(
            f"{snapshot.path}: expected network settings in the header, got {error!r}; the file was changed "
            "or made by another version"
        ) from error
    prefix = "G_ema."
    weights = {
        name.removeprefix(prefix): tensor
        for name, tensor in load_weights(snapshot.path).items()
        if name.startswith(prefix)
    }
    missing = sorted(set(generator.state_dict()) - set(weights))
    if missing:
        raise GanError(
            f"{snapshot.path}: expected the weights that its header describes, got none for "
            f"{name_some([prefix + name for name in missing])}; take another snapshot"
        )
    damaged = sorted(name for name, tensor in weights.items() if not tensor.isfinite().all())
    if damaged:
        raise GanError(
            f"{snapshot.path}: expected finite weights, got NaN or infinite ones in "
            f"{name_some([prefix + name for name in damaged])}; the file is damaged: take another snapshot"
        )
    try:
        generator.load_state_dict(weights)
    except RuntimeError as error:
        first_line = str(error).strip().splitlines()[-1].strip()
        raise GanError(
            f"{snapshot.path}: expected the weights that its header describes, got: {first_line}"
        ) from error
    if device.type == "cpu":
        use_channels_last(generator)
    return generator.eval().requires_grad_(False).to(device), snapshot


def refuse_overlap(
    snapshot: Snapshot,
    test_subjects: Sequence[str],
    archive_sha256: str,
    what: str,
    *,
    allow_other_archive: bool = False,
) -> None:
    """Refuse to judge anything on subjects that the generator learned from.

    Args:
        test_subjects: whom nothing may have been learned from.
        archive_sha256: of the archive that holds them.
        what: named in the error, for instance "the test part of fold 0".
        allow_other_archive: accept a generator of another archive on the user's word that the subjects
            differ; subjects of the same name are refused all the same.

    Raises:
        GanError: naming the subjects seen, or why it cannot be known whether any was.
    """
    seen = sorted(set(snapshot.subjects) & set(test_subjects))
    if seen:
        raise GanError(
            f"{snapshot.path}: the generator was trained on {len(seen)} of the {len(set(test_subjects))} "
            f"subjects of {what} ({name_some(seen)}); results on them would be too good. Train it on the "
            f"training part "
            "alone: gan train --split --fold"
        )
    others = sorted({snapshot.archive_sha256, *snapshot.earlier_archives} - {archive_sha256})
    imported = [archive for archive in others if archive.startswith(IMPORTED_PREFIX)]
    if imported and not allow_other_archive:
        raise GanError(
            f"{snapshot.path}: the generator, or a snapshot it started from, was imported from an official "
            f"network file (SHA-256 {imported[0].removeprefix(IMPORTED_PREFIX)[:12]}), which does not say on "
            f"whom it was trained, so it cannot be checked whether it saw {what}; use one whose origin is "
            "recorded, or allow it explicitly if you know that the data differ"
        )
    if others and not allow_other_archive:
        raise GanError(
            f"{snapshot.path}: the generator, or a snapshot it started from, was trained on another archive "
            f"(SHA-256 {others[0][:12]}, "
            f"not {archive_sha256[:12]}), so it cannot be checked whether it saw {what} under other names; "
            "train it on this archive"
        )
    if not snapshot.subjects and not allow_other_archive:
        raise GanError(
            f"{snapshot.path}: expected the subjects seen in training, got none recorded, so it cannot be "
            f"checked whether the generator saw {what}; train it on an archive with subjects"
        )
