"""Which versions the runs of a study were made with: a study that goes on after an update has several."""

from collections import Counter

from semisup.records import StudyRecords


def version_lists(records: StudyRecords) -> list[tuple[str, int | None]]:
    """Lists of versions, each with the number of finished runs made with it, the most frequent first.

    None stands for the list that was written when the study began, where runs do not say their own.
    """
    counts = Counter(_text(run.info["versions"]) for run in records.runs if run.info.get("versions"))
    if not counts:
        begun = _text(records.study.get("versions") or {})
        return [(begun, None)] if begun else []
    return [(text, number) for text, number in counts.most_common()]


def _text(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items())
