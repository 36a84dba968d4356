"""What `verify` found, as plain values that other programs can read."""

from typing import Any

from extract.archive import Archive
from extract.duplicates import DuplicateGroup, describe_pair
from extract.json_values import json_value
from extract.split_table import tabulate_split
from extract.verify import Verification

FORMAT = "synthlabel-findings-1"


def findings_json(archive: Archive, found: Verification) -> dict[str, Any]:
    """Everything of a `Verification` but the thumbnails; files are named as in the archive."""
    files = archive.manifest["file"].tolist()

    def group(item: DuplicateGroup) -> dict[str, Any]:
        return {
            "files": [files[row] for row in item.rows],
            "sources": [archive.manifest["source"].iat[row] for row in item.rows],
            "subjects": item.subjects,
            "classes": item.labels,
            "pairs": [
                {
                    "files": [files[pair.row], files[pair.other]],
                    "likeness": round(pair.likeness, 4),
                    "difference": describe_pair(pair),
                }
                for pair in item.pairs
            ],
        }

    mixed = found.mixed
    content = {
        "format": FORMAT,
        "archive": archive.path.name,
        "archive_sha256": archive.sha256,
        "is_sound": not found.errors,
        "num_images": found.num_images,
        "num_subjects": found.num_subjects,
        "errors": found.errors,
        "warnings": found.warnings,
        "remarks": found.remarks,
        "classes": [vars(line) for line in found.counts],
        "identical": [group(item) for item in found.identical],
        "min_likeness": found.min_likeness,
        "near_duplicates": None if found.alike is None else [group(item) for item in found.alike],
        "confounds": [vars(item) | {"strength": item.strength} for item in found.confounds],
        "odd_brightness": [
            {"file": files[item.row], "kind": item.kind, "reason": item.reason} for item in found.outliers
        ],
        "mixed_subjects": None
        if mixed is None
        else {
            "num_several": mixed.num_several,
            "num_mixed": mixed.num_mixed,
            "expected": mixed.expected,
            "is_suspicious": mixed.is_suspicious,
            "subjects": {subject: dict(counts) for subject, counts in mixed.subjects},
        },
        "split": None
        if found.split is None
        else {
            "sha256": found.split.sha256,
            "parts": [vars(line) for line in tabulate_split(found.split, archive)],
        },
    }
    plain: dict[str, Any] = json_value(content)
    return plain
