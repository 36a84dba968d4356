"""Audits that somebody may still be reading: who sees what the model said first is no blind reader."""

from pathlib import Path

from semisup.audit import read_audit
from semisup.audit_key import read_keys


def unfinished_audits(study_dir: Path) -> list[str]:
    """The exports of a study that no imported sheet answers for every picture.

    Raises:
        StudyError: if a key or `audit.json` is damaged.
    """
    found = read_audit(study_dir) or {}
    readers = found.get("readers") or []
    num_read = min((int(reader["num_answered"]) for reader in readers), default=0)
    return [
        str(key["export"])
        for key in read_keys(study_dir)
        if key["export"] != found.get("export") or num_read < len(key["pictures"])
    ]
