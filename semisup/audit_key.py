"""The key of an export: which pseudo-labels stand behind which codes. In the study, sealed by a hash."""

import hashlib
import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from extract.json_values import json_value
from semisup.audit_statistics import AuditSample, Stratum
from semisup.errors import StudyError
from semisup.folders import read_json, write_json

KEY_FORMAT = "synthlabel-audit-1"
KEY_FOLDER = "audits"


def seal_of(content: dict[str, Any]) -> str:
    """The hash of a key's content, whatever its order on disk."""
    plain = {name: value for name, value in content.items() if name != "seal"}
    return hashlib.sha256(json.dumps(json_value(plain), sort_keys=True).encode()).hexdigest()


def write_key(study_dir: Path, content: dict[str, Any]) -> Path:
    """Seal a key and write it into the study."""
    path = study_dir / KEY_FOLDER / f"{content['export']}.json"
    write_json(path, {**content, "seal": seal_of(content)})
    return path


def read_keys(study_dir: Path) -> list[dict[str, Any]]:
    """All keys of a study.

    Raises:
        StudyError: if one is damaged or was changed.
    """
    keys = []
    for path in sorted((study_dir / KEY_FOLDER).glob("[!.]*.json")):
        content = read_json(path)
        if content.get("format") != KEY_FORMAT or content.get("seal") != seal_of(content):
            raise StudyError(
                f"{path}: expected the key of an audit as it was written, got one that was changed; restore "
                "it, or remove it and export anew"
            )
        keys.append(content)
    return keys


def find_keys(keys: Collection[dict[str, Any]], codes: Collection[str]) -> list[dict[str, Any]]:
    """The key that knows most of some codes and fewest others; several where nothing tells them apart."""
    wanted = {code.upper() for code in codes}
    known = [{row["code"] for row in key["rows"]} for key in keys]
    ranks = [(len(wanted & own), -len(own - wanted)) for own in known]
    best = max(ranks, default=(0, 0))
    return [key for key, rank in zip(keys, ranks, strict=True) if rank == best and best[0] > 0]


def sample_of(key: dict[str, Any]) -> AuditSample:
    """The drawn pseudo-labels of a key, as the statistics take them."""
    rows = key["rows"]
    return AuditSample(
        tuple(key["classes"]),
        tuple(Stratum(**stratum) for stratum in key["strata"]),
        np.array([row["code"] for row in rows], dtype=str),
        np.array([row["stratum"] for row in rows], dtype=np.int64),
        np.array([row["predicted"] for row in rows], dtype=np.int64),
    )


def read_audit_sample(study_dir: Path, export: str | None = None) -> AuditSample:
    """The sample of one of a study's exports; of the only one where none is named.

    Whoever shows pictures to an expert uses its `pictures` and `classes` and nothing else.

    Raises:
        StudyError: if there is no such export, or several and none is named.
    """
    keys = {key["export"]: key for key in read_keys(Path(study_dir))}
    if export is None and len(keys) == 1:
        export = next(iter(keys))
    if export not in keys:
        raise StudyError(
            f"{study_dir}: expected an export of `audit export`{f' named {export}' if export else ''}, got "
            f"{', '.join(keys) or 'none'}"
        )
    return sample_of(keys[export])


def describe_strata(strata: Collection[Stratum]) -> list[dict[str, Any]]:
    return [asdict(stratum) for stratum in strata]
