"""Lines of the leakage sheet about where a study's images came from, as their archive says."""

from typing import Any

from extract.language import Message, Number
from semisup.checks import Check, Material, name_few


def data_checks(material: Material) -> list[Check]:
    """Source, images left out, and what may give a class away without looking at the anatomy."""
    archive = material.archive
    if archive is None:
        found = Message("the archive is not there")
        return [Check("source", Message("Where the archive came from"), "unknown", found)]
    made = archive.preparation
    return [_source(made), _subjects(material), _left_out(made), _shape_clue(made)]


def _source(made: dict[str, Any]) -> Check:
    what = Message("Where the archive came from")
    if not made:
        return Check("source", what, "unknown", Message("the archive does not say how it was made"))
    settings = ", ".join(
        f"{name} {_text(value)}"
        for name, value in made.items()
        if name not in ("kind", "left_out", "shape_clue", "cleaning") and value not in (None, [], {})
    )
    kinds = {"volumes": Message("sliced from volumes"), "images": Message("made of single pictures"),
             "phantom": Message("drawn: phantoms, no patients")}  # fmt: skip
    kind = str(made.get("kind", ""))
    return Check("source", what, "noted", kinds.get(kind, Message("made otherwise")), settings)


def _subjects(material: Material) -> Check:
    what = Message("Every real image has a subject")
    archive = material.archive
    assert archive is not None
    num_images = int(archive.is_real.sum())
    without = int((archive.is_real & (archive.subjects == "")).sum())
    num_subjects = len(set(archive.subjects[archive.is_real].tolist()))
    evidence = Message("images: {images}, subjects: {subjects}", images=num_images, subjects=num_subjects)
    if without:
        found = Message("{number} images have none", number=without)
        return Check("subjects known", what, "failed", found, evidence, vetoes=True)
    if num_subjects == int(archive.is_real.sum()):
        found = Message(
            "each image has its own subject: true where a person gave one image, otherwise a leak"
        )
        return Check("subjects known", what, "noted", found, evidence)
    found = Message("as named at extraction; whether two names are one person, no file can say")
    return Check("subjects known", what, "passed", found, evidence)


def _left_out(made: dict[str, Any]) -> Check:
    what = Message("Images left out at extraction")
    if "left_out" not in made:
        return Check("left out", what, "unknown", Message("the archive does not say"))
    files = [str(name).replace("\\", "/").rsplit("/", 1)[-1] for name in made["left_out"] or ()]
    if not files:
        return Check("left out", what, "passed", Message("none"), Message("files: {files}", files=0))
    found = Message("unreadable: {files}", files=name_few(files))
    return Check("left out", what, "noted", found, Message("files: {files}", files=len(files)))


def _shape_clue(made: dict[str, Any]) -> Check:
    what = Message("Size, shape and kind of the original files do not give the class away")
    if made.get("kind") == "volumes":
        return Check("size and shape", what, "noted", Message("does not apply: slices of volumes"))
    if "shape_clue" not in made:
        return Check("size and shape", what, "unknown", Message("not measured when the archive was made"))
    clue = made["shape_clue"]
    if clue is None:
        return Check("size and shape", what, "unknown", Message("too few subjects to measure"))
    evidence = Message(
        "balanced accuracy {value} % [{low}; {high}], by chance {chance} %",
        value=Number(100 * clue["balanced_accuracy"], 1),
        low=Number(100 * clue["low"], 1),
        high=Number(100 * clue["high"], 1),
        chance=Number(100 * clue["chance"], 1),
    )
    if clue.get("is_alarming"):
        found = Message(
            "they do, {strongest} most: a classifier may have learned that, in all arms alike",
            strongest=str(clue["strongest"]),
        )
        return Check("size and shape", what, "failed", found, evidence)
    return Check("size and shape", what, "passed", Message("not beyond chance, or by little"), evidence)


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
