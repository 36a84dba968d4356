"""Lines of the leakage sheet about archive and split, computed from the files as they lie there now."""

import hashlib
import json
from collections import Counter
from contextlib import suppress
from typing import Any

import numpy as np

from extract.archive import Archive
from extract.language import Message, Percent
from extract.split import PARTS
from semisup.checks import Check, Material, brief, name_few, no_data, no_split


def split_checks(material: Material) -> list[Check]:
    """Archive and split: the same files, nobody and no picture on two sides."""
    return [
        _check_same_files(material),
        _check_disjoint(material),
        _check_tested_once(material),
        _check_same_pictures(material),
        _check_near_duplicates(material),
        _check_promises(material),
    ]


def _check_same_files(material: Material) -> Check:
    study = material.records.study
    what = Message("Archive and split are the files that the study was planned with")
    wanted = str(study.get("archive_sha256", "")), str(study.get("split_sha256", ""))
    if material.split_text is None or (material.archive is None and not material.shelf.data_was_replaced):
        missing = material.shelf.data_problem or material.split_problem
        return Check("same files", what, "unknown", Message("one of them is not there"), brief(missing))
    now = hashlib.sha256(material.split_text.encode("utf-8")).hexdigest()
    changed = [
        name
        for name, is_other in (("archive", material.shelf.data_was_replaced), ("split", now != wanted[1]))
        if is_other
    ]
    if changed:
        found = Message(
            "changed since: {files}; lines below that need them speak of other files",
            files=", ".join(changed),
        )
        return Check(
            "same files",
            what,
            "failed",
            found,
            Message("split SHA-256 {now}, planned {planned}", now=now[:12], planned=wanted[1][:12]),
        )
    evidence = f"SHA-256 {wanted[0][:12]}, {wanted[1][:12]}"
    return Check("same files", what, "passed", Message("the same to the byte"), evidence)


def _check_disjoint(material: Material) -> Check:
    what = Message("No subject is on two sides of a fold (training, validation, test)")
    if material.sides is None:
        return Check("subjects disjoint", what, "unknown", no_split(material))
    crossing = [
        f"{subject} ({first} / {second}, fold {number})"
        for number, sides in enumerate(material.sides)
        for first, second in (("train", "val"), ("train", "test"), ("val", "test"))
        for subject in sorted(sides[first] & sides[second])
    ]
    subjects = set().union(*(side for sides in material.sides for side in sides.values()))
    evidence = Message(
        "folds: {folds}, subjects: {subjects}, on two sides: {crossing}",
        folds=len(material.sides),
        subjects=len(subjects),
        crossing=len(crossing),
    )
    if crossing:
        found = Message("on two sides: {subjects}", subjects=name_few(crossing))
        return Check("subjects disjoint", what, "failed", found, evidence, vetoes=True)
    return Check("subjects disjoint", what, "passed", Message("counted anew from the split"), evidence)


def _check_tested_once(material: Material) -> Check:
    what = Message("No subject is tested in two folds")
    if material.sides is None:
        return Check("tested once", what, "unknown", no_split(material))
    times = Counter(subject for sides in material.sides for subject in sides["test"])
    twice = sorted(subject for subject, count in times.items() if count > 1)
    evidence = Message(
        "subjects tested: {tested}, of them twice: {twice}", tested=len(times), twice=len(twice)
    )
    if twice:
        return Check(
            "tested once",
            what,
            "failed",
            Message("twice: {subjects}", subjects=name_few(twice)),
            evidence,
            True,
        )
    return Check("tested once", what, "passed", Message("counted anew from the split"), evidence)


def _check_same_pictures(material: Material) -> Check:
    what = Message("No picture is on two sides of a fold")
    if material.sides is None or material.archive is None:
        return Check("pictures disjoint", what, "unknown", no_data(material))
    owners = _owners(material.archive)
    crossing = [
        f"{digest[:12]} ({' / '.join(sorted(touched))}, fold {number})"
        for number, sides in enumerate(material.sides)
        for digest, subjects in owners.items()
        if len(touched := {part for part in PARTS if subjects & sides[part]}) > 1
    ]
    num_shared = sum(len(subjects) > 1 for subjects in owners.values())
    evidence = Message(
        "different pictures: {pictures}, of several subjects: {shared}, on two sides: {crossing}",
        pictures=len(owners),
        shared=num_shared,
        crossing=len(crossing),
    )
    if crossing:
        found = Message("on two sides: {pictures}", pictures=name_few(crossing))
        return Check("pictures disjoint", what, "failed", found, evidence, vetoes=True)
    found = Message("compared by the hashes of all pictures; see the next line for near duplicates")
    return Check("pictures disjoint", what, "passed", found, evidence)


def _owners(archive: Archive) -> dict[str, set[str]]:
    """Subjects by the hash of each of their real pictures."""
    owners: dict[str, set[str]] = {}
    rows = np.flatnonzero(archive.is_real)
    for digest, subject in zip(
        archive.manifest["sha256"].to_numpy(str)[rows], archive.subjects[rows], strict=True
    ):
        owners.setdefault(digest, set()).add(str(subject))
    return owners


def _check_near_duplicates(material: Material) -> Check:
    what = Message("Subjects that share near duplicates are kept on one side")
    if material.split_text is None:
        return Check("near duplicates", what, "unknown", no_split(material))
    content: dict[str, Any] = {}
    with suppress(ValueError):
        content = json.loads(material.split_text)
    groups = [set(map(str, group)) for group in content.get("linked_subjects") or ()]
    if not content.get("links_alike"):
        found = Message(
            "not searched for: the split was made without --link-near; identical pictures alone were compared"
        )
        return Check(
            "near duplicates", what, "unknown", found, Message("groups linked: {groups}", groups=len(groups))
        )
    torn = [
        name_few(sorted(group), 3)
        for sides in material.sides or ()
        for group in groups
        if sum(bool(group & side) for side in sides.values()) > 1
    ]
    evidence = Message("groups linked: {groups}, torn apart: {torn}", groups=len(groups), torn=len(torn))
    if torn:
        found = Message("on two sides: {subjects}", subjects="; ".join(torn[:3]))
        return Check("near duplicates", what, "failed", found, evidence, vetoes=True)
    return Check("near duplicates", what, "passed", Message("searched for when the split was made"), evidence)


def _check_promises(material: Material) -> Check:
    what = Message("The split keeps its other promises: nested fractions, every class in every part")
    split, problem = material.shelf.split()
    if material.archive is None or material.split_text is None:
        return Check("split", what, "unknown", no_data(material))
    if split is None:
        return Check("split", what, "failed", Message("it does not; see the evidence"), brief(problem))
    found = Message(
        "labeled {fractions} of the training subjects", fractions=tuple(map(Percent, split.fractions))
    )
    return Check(
        "split",
        what,
        "passed",
        found,
        Message("seed {seed}, validation {share}", seed=str(split.seed), share=Percent(split.val_share)),
    )
