"""Audits that somebody may still be reading: who sees what the model said first is no blind reader."""

from pathlib import Path

from semisup.audit import read_audit
from semisup.audit_key import read_keys
from semisup.audit_reading import list_exports, reader_sheets


def unfinished_audits(study_dir: Path) -> list[str]:
    """The exports of a study that nobody has read to the end, or that somebody else is in the middle of.

    Sheets in the study's own `audits/` are looked at as they are now; of exports that were handed out there
    is what was imported.

    Raises:
        StudyError: if a key or `audit.json` is damaged.
    """
    study_dir = Path(study_dir)
    found = read_audit(study_dir) or {}
    readers = found.get("readers") or []
    num_read = min((int(reader["num_answered"]) for reader in readers), default=0)
    sheets = {export.export: reader_sheets(export) for export in list_exports(study_dir)}
    unfinished = []
    for key in read_keys(study_dir):
        begun = sheets.get(key["export"], [])
        is_imported = key["export"] == found.get("export") and num_read >= len(key["pictures"])
        is_read = all(sheet.is_complete for sheet in begun) if begun else is_imported
        if not is_read:
            unfinished.append(str(key["export"]))
    return unfinished
