"""What each picture of a folder is: its class, its subject, and the part that it came in."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from extract.errors import ExtractError, SettingsError, name_some
from extract.subjects import (
    LABEL_COLUMNS,
    SUBJECT_COLUMNS,
    FileTable,
    compile_pattern,
    match_path,
    match_subject,
    read_file_table,
)

LAYOUTS = ("auto", "classes", "parts")
PART_NAMES = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


@dataclass(frozen=True)
class SubjectRule:
    """Where subjects, classes and parts come from; one of table, pattern and tag gives the subjects."""

    table: Path | None = None  # of subjects, and of classes where there is a label column
    pattern: str | None = None  # subject in the path
    file_column: str | None = None
    subject_column: str | None = None
    label_column: str | None = None  # None = the folder is the class
    tag: str | None = None  # subject in a DICOM file, such as PatientID
    labels: Path | None = None  # a table of classes of its own
    label_pattern: str | None = None  # class in the path
    part_column: str | None = None
    layout: str = "auto"  # classes: CLASS/...; parts: train|val|test/CLASS/...; auto: by the folders' names
    class_names: Mapping[str, str] = field(default_factory=dict)  # class as found -> class as written

    def __post_init__(self) -> None:
        if sum(given is not None for given in (self.table, self.pattern, self.tag)) != 1:
            raise SettingsError(
                "give either --subjects TABLE or --subject-pattern REGEX (or --subject-tag, for DICOM), so "
                "that images of one person stay on one side of a split (where each image is another person: "
                "--subject-pattern '.*')"
            )
        if self.table is None and self.subject_column:
            raise SettingsError("--subject-column needs --subjects TABLE")
        for given, flag in (
            (self.file_column, "--file-column"),
            (self.label_column, "--label-column"),
            (self.part_column, "--part-column"),
        ):
            if given and self.table is None and self.labels is None:
                raise SettingsError(
                    f"{flag} needs --subjects TABLE or --labels TABLE: it names a column there"
                )
        if self.label_pattern is not None and (self.labels is not None or self.label_column is not None):
            raise SettingsError("give --label-pattern, or classes by a table, not both")
        if self.layout not in LAYOUTS:
            raise SettingsError(f"--layout must be one of {', '.join(LAYOUTS)}, got {self.layout!r}")
        for pattern, flag in ((self.pattern, "--subject-pattern"), (self.label_pattern, "--label-pattern")):
            if pattern is not None:
                compile_pattern(pattern, flag)


@dataclass(frozen=True)
class PictureTask:
    """One picture and what the manifest will say of it."""

    file: str  # below the source folder
    subject: str
    label: str
    part: str = ""  # train, val or test, as it came; kept as provenance, not as a split


@dataclass(frozen=True)
class PicturePlan:
    """All pictures of a folder in the order of their paths, and what should be looked at."""

    tasks: tuple[PictureTask, ...]
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> list[str]:
        return sorted({task.label for task in self.tasks})


def plan_pictures(source: Path, files: Sequence[str], rule: SubjectRule) -> PicturePlan:
    """Find class, subject and part of each picture.

    Args:
        files: paths below `source`, with slashes.

    Raises:
        ExtractError: for a picture without a class or a subject, or folders that mix parts and classes.
        SettingsError: for a class in `class_names` that does not occur.
    """
    notes: list[str] = []
    subjects, labels, parts = _from_tables(files, rule, notes)
    has_labels = labels is not None or rule.label_pattern is not None
    if _has_parts(files, rule.layout, has_labels):
        folders = [PurePosixPath(file).parts[0] for file in files]
        parts = parts or [PART_NAMES[folder.lower()] for folder in folders]
        inner = [file.split("/", 1)[1] for file in files]
        notes.append(
            f"the folders {', '.join(sorted(set(folders)))} were taken for parts of a ready-made division: "
            "kept in the column part, but `extract split` divides anew, by subject"
        )
    else:
        inner = list(files)
    if rule.label_pattern is not None:
        pattern = compile_pattern(rule.label_pattern, "--label-pattern")
        labels = [match_path(pattern, file, "label", "--label-pattern") for file in files]
    if labels is None:
        labels = [_class_folder(file, path) for file, path in zip(files, inner, strict=True)]
    if rule.pattern is not None:
        compiled = compile_pattern(rule.pattern)
        subjects = [match_subject(compiled, file) for file in files]
    elif rule.tag is not None:
        from extract.dicom_picture import read_subject_tag

        subjects = [read_subject_tag(source / file, rule.tag) for file in files]
    assert subjects is not None
    labels = _rename(labels, rule.class_names)
    tasks = tuple(
        PictureTask(file, subject, label, part)
        for file, subject, label, part in zip(
            files, subjects, labels, parts or [""] * len(files), strict=True
        )
    )
    return PicturePlan(tasks, (*notes, *_alike_classes(set(labels)), *_several_parts(tasks)))


def _from_tables(
    files: Sequence[str], rule: SubjectRule, notes: list[str]
) -> tuple[list[str] | None, list[str] | None, list[str] | None]:
    """Subjects, classes and parts that the tables give; notes grows."""
    found: dict[str, list[str]] = {}
    tables: list[FileTable] = []
    if rule.table is not None:
        has_own = rule.labels is not None
        tables.append(
            read_file_table(
                rule.table, rule.file_column, subject_column=rule.subject_column or SUBJECT_COLUMNS,
                label_column=None if has_own else rule.label_column,
                part_column=None if has_own else rule.part_column,
            )
        )  # fmt: skip
    if rule.labels is not None:
        tables.append(
            read_file_table(
                rule.labels, rule.file_column, label_column=rule.label_column or LABEL_COLUMNS,
                part_column=rule.part_column,
            )
        )  # fmt: skip
    for table in tables:
        names = table.match(files)
        notes += table.notes
        num_without = table.num_rows - len(names)
        if num_without:
            notes.append(f"{num_without} of {table.num_rows} rows of {table.path.name} have no picture")
        for what, values in table.columns.items():
            found[what] = [values[name] for name in names]
    parts = found.get("part")
    if parts is not None:
        parts = [PART_NAMES.get(part.lower(), part) for part in parts]
    return found.get("subject"), found.get("label"), parts


def _has_parts(files: Sequence[str], layout: str, has_labels: bool) -> bool:
    """Whether the first folders are parts.

    Raises:
        ExtractError: if only some are and nobody said which it is, or if they should be and are not.
    """
    if layout == "classes":
        return False
    depth = 1 if has_labels else 2  # folders above a picture: its part, and its class
    folders = {PurePosixPath(file).parts[0] if "/" in file else "" for file in files}
    parts = sorted(folder for folder in folders if folder.lower() in PART_NAMES)
    others = sorted(repr(folder) if folder else "the source folder itself" for folder in folders - set(parts))
    if parts and not others:
        shallow = next((file for file in files if file.count("/") < depth), None)
        if shallow is not None:
            raise ExtractError(
                f"{shallow}: expected a picture at PART/CLASS/..., got one without a class folder; give its "
                "class with --labels, or say --layout classes if these folders are the classes"
            )
        return True
    if layout == "parts":
        raise ExtractError(
            f"expected folders {', '.join(sorted(set(PART_NAMES)))} (--layout parts), got "
            f"{name_some(others)}; move them away, or leave --layout out"
        )
    if parts:
        raise ExtractError(
            f"expected folders of classes, or of parts such as train and test, got both: {name_some(parts)} "
            f"beside {name_some(others)}; name one of them as --source, or say --layout classes if all are "
            "classes"
        )
    return False


def _class_folder(file: str, inner: str) -> str:
    folder, slash, _ = inner.partition("/")
    if not slash:
        raise ExtractError(
            f"{file}: expected a picture in a folder named by its class, got one directly in the source "
            "folder; sort the pictures into class folders, or give --labels, --label-pattern, or --subjects "
            "with --label-column"
        )
    return folder


def _rename(labels: list[str], names: Mapping[str, str]) -> list[str]:
    unknown = sorted(set(names) - set(labels))
    if unknown:
        raise SettingsError(
            f"--class-name {unknown[0]}={names[unknown[0]]}: no picture has the class {unknown[0]!r}, there "
            f"are {name_some(sorted(set(labels)))}"
        )
    return [names.get(label, label) for label in labels]


def _alike_classes(labels: set[str]) -> list[str]:
    """A note where two classes are most likely one, written in two ways."""
    ways: dict[str, list[str]] = defaultdict(list)
    for label in sorted(labels):
        ways[" ".join(label.casefold().replace("_", " ").replace("-", " ").split())].append(label)
    return [
        f"the classes {' and '.join(map(repr, alike))} look like one; "
        f"--class-name '{alike[0]}={alike[1]}' joins them"
        for alike in ways.values()
        if len(alike) > 1
    ]


def _several_parts(tasks: Sequence[PictureTask]) -> list[str]:
    """A note where a subject stands on two sides of the division that the pictures came in."""
    seen: dict[str, set[str]] = defaultdict(set)
    for task in tasks:
        if task.part:
            seen[task.subject].add(task.part)
    torn = sorted(subject for subject, parts in seen.items() if len(parts) > 1)
    if not torn:
        return []
    example = f"{torn[0]} in {' and '.join(sorted(seen[torn[0]]))}"
    return [
        f"{len(torn)} of {len(seen)} subjects stand in several parts of that division (for instance "
        f"{example}): results on it are too good; use a split by `extract split`"
    ]
