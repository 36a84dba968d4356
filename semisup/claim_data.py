"""Answers of the CLAIM checklist about data, reference standard and partitions."""

from collections.abc import Mapping

from extract.language import Message, Number
from semisup.claim_facts import Answer, ClaimFacts, line_found, list_settings, percents


def _sources(facts: ClaimFacts) -> list[Message]:
    answers = [line_found(facts, "source")]
    if facts.data.num_images:
        answers.append(
            Message(
                "{images} images of {subjects} subjects in the archive with SHA-256 {sha256}",
                images=facts.data.num_images,
                subjects=facts.data.num_subjects,
                sha256=str(facts.study.get("archive_sha256", ""))[:12],
            )
        )
    return [answer for answer in answers if answer]


def _excluded(facts: ClaimFacts) -> list[Message]:
    line = line_found(facts, "left out")
    return [Message("left out because unreadable: {found}", found=line)] if line else []


def _preprocessing(facts: ClaimFacts) -> list[Message]:
    source, check = facts.check("source"), facts.check("preprocessing")
    answers = (
        [Message("at extraction: {settings}", settings=source.evidence)] if source and source.evidence else []
    )
    steps = (facts.study.get("classifier") or {}).get("preprocessing")
    if steps:
        answers.append(Message("before the network: {settings}", settings=list_settings(steps)))
    answers.append(Message("then each channel is standardised"))
    if check and check.outcome == "passed":
        answers.append(Message("fitted on training images alone (checked)"))
    return answers


def _subsets(facts: ClaimFacts) -> list[Message]:
    return [
        Message(
            "labeled subsets of the training subjects, drawn by subject, each within the next: {fractions}",
            fractions=percents(facts.study.get("fractions") or ()),
        )
    ]


def _missing(facts: ClaimFacts) -> list[Message]:
    return [
        Message(
            "images without a label train, validate and test nothing; runs that failed: {failed}, runs not "
            "there: {missing}",
            failed=len(facts.summary.failures),
            missing=len(facts.summary.missing),
        )
    ]


def _reference(facts: ClaimFacts) -> list[Message]:
    return [
        Message("the labels of the archive, as given: {classes}", classes=", ".join(facts.summary.classes))
    ]


def _test_labels(facts: ClaimFacts) -> list[Message]:
    check = facts.check("test labels")
    if not check or check.outcome != "passed":
        return []
    return [Message("the archive's labels for all parts alike; no pseudo-label in the test part (checked)")]


def _assigned(facts: ClaimFacts) -> list[Message]:
    split = facts.check("split")
    folds = sorted({part.fold for part in facts.data.parts})
    answers = []
    if folds:
        answers.append(
            Message(
                "subjects drawn at random, once, before anything was trained; folds: {number}, used "
                "here: {folds}; numbers in the table of the parts",
                number=facts.data.num_folds or len(folds),
                folds=", ".join(map(str, folds)),
            )
        )
    if facts.data.held_out:
        answers = [Message("the test part is decided by {column}", column=facts.data.held_out)]
    if split and split.outcome == "passed":
        answers.append(Message("split of the study: {evidence}", evidence=split.evidence))
    return answers


def _level(facts: ClaimFacts) -> list[Message]:
    check, alike = facts.check("subjects disjoint"), facts.check("near duplicates")
    if not check:
        return []
    answers = [Message("subjects; {evidence}", evidence=check.evidence)]
    if alike:
        answers.append(Message("near duplicates: {found}", found=alike.found))
    return answers


def _sample_size(facts: ClaimFacts) -> list[Message]:
    primary = facts.summary.primary
    if primary is None:
        return []
    half = 100 * (primary.difference.high - primary.difference.low) / 2
    return [
        Message(
            "{subjects} test subjects with {images} images; with these the interval of the primary "
            "difference reaches {half} points to either side",
            subjects=primary.difference.num_subjects,
            images=primary.difference.num_images,
            half=Number(half, 1),
        )
    ]


def _numbers(facts: ClaimFacts) -> list[Message]:
    return [
        *_sources(facts)[1:],
        *_excluded(facts),
        Message("subjects and images of each part and class are in the table of the parts"),
    ]


def _parts(facts: ClaimFacts) -> list[Message]:
    return [Message("classes in each part are in the table of the parts; the archive knows no more")]


DATA_ANSWERS: Mapping[int, Answer] = {
    7: _sources,
    8: _excluded,
    9: _preprocessing,
    10: _subsets,
    12: _missing,
    14: _reference,
    17: _test_labels,
    19: _assigned,
    20: _level,
    21: _sample_size,
    35: _numbers,
    36: _parts,
}
