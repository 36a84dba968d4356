"""Answers of the CLAIM checklist about design, model, training and evaluation."""

from collections.abc import Mapping

from extract.language import Message, Percent
from semisup.claim_facts import Answer, ClaimFacts, list_settings, list_values, percents
from semisup.summary import CONTROLS
from semisup.verdict import METRIC_PHRASES


def _title(facts: ClaimFacts) -> list[Message]:
    return [Message("deep learning: image classification from few labels with pseudo-labels")]


def _aims(facts: ClaimFacts) -> list[Message]:
    primary = facts.study.get("primary")
    if not primary:
        return []
    return [
        Message(
            "primary comparison, named in the plan before the first run: {arm} against {baseline} at "
            "{fraction} of the labels, by {metric}",
            arm=primary["arm"],
            baseline=primary["baseline"],
            fraction=Percent(primary["fraction"]),
            metric=METRIC_PHRASES.get(primary["metric"], primary["metric"]),
        )
    ]


def _model(facts: ClaimFacts) -> list[Message]:
    section = facts.study.get("classifier") or {}
    if not section.get("arch"):
        return []
    shape = facts.data.image_shape
    size = "×".join(map(str, shape)) if shape else "?"
    return [
        Message(
            "{arch}; input {size} (channels, height, width); output a probability for each of {classes} "
            "classes, scaled by a temperature; one model a run in runs/*/model",
            arch=section["arch"],
            size=size,
            classes=len(facts.summary.classes),
        )
    ]


def _software(facts: ClaimFacts) -> list[Message]:
    versions = facts.study.get("versions") or {}
    text = ", ".join(f"{name} {version}" for name, version in versions.items())
    return [Message("versions: {settings}", settings=text)] if text else []


def _initial(facts: ClaimFacts) -> list[Message]:
    section = facts.study.get("classifier") or {}
    if section.get("weights"):
        return [
            Message(
                "weights of an encoder that was trained before; its subjects were checked against the split"
            )
        ]
    if section.get("pretrained"):
        return [Message("published weights of {arch}", arch=section.get("arch", "?"))]
    return [Message("random, from the seeds {seeds}", seeds=list_values(facts.study.get("seeds") or ()))]


def _trained(facts: ClaimFacts) -> list[Message]:
    answers = []
    for section, what in (
        ("classifier", Message("classifier")),
        ("pseudo", Message("pseudo-labels")),
        ("gan", Message("generator")),
        ("pool", Message("synthetic images")),
    ):
        settings = list_settings(facts.study.get(section) or {})
        needed = section not in ("gan", "pool") or facts.summary.generators
        if settings and needed:
            answers.append(Message("{what}: {settings}", what=what, settings=settings))
    answers.append(
        Message(
            "classifiers trained: {number}, of all arms; see the budget",
            number=sum(budget.trainings for budget in facts.summary.budgets),
        )
    )
    return answers


def _selected(facts: ClaimFacts) -> list[Message]:
    keeps_best = (facts.study.get("classifier") or {}).get("keep", "best") == "best"
    within = (
        Message("within a training the state that is best on the real validation part")
        if keeps_best
        else Message("the last state of each training")
    )
    return [
        within,
        Message(
            "of a run's rounds the best on the real validation part, round 0 without pseudo-labels included"
        ),
        Message("the test part was opened after that"),
    ]


def _ensembles(facts: ClaimFacts) -> list[Message]:
    return [Message("none in the results: they are those of single models, averaged over seeds")]


def _metrics(facts: ClaimFacts) -> list[Message]:
    return [
        Message(
            "{metric} decides; besides accuracy, macro-F1, MCC, AUROC, sensitivity and specificity of each "
            "class, ECE, Brier score, NLL",
            metric=METRIC_PHRASES.get(facts.summary.metric, facts.summary.metric),
        )
    ]


def _uncertainty(facts: ClaimFacts) -> list[Message]:
    return [
        Message(
            "95 % intervals over test subjects ({draws} bootstrap draws of whole subjects) and over "
            "trainings; differences are paired; p-values of all but the primary comparison corrected by Holm",
            draws=facts.summary.num_draws,
        )
    ]


def _robustness(facts: ClaimFacts) -> list[Message]:
    answers = [
        Message(
            "repeated over seeds ({seeds}), folds ({folds}) and shares of the labels ({fractions})",
            seeds=len(facts.study.get("seeds") or ()),
            folds=len(facts.study.get("folds") or ()),
            fractions=percents(facts.study.get("fractions") or ()),
        )
    ]
    controls = sorted({result.arm for result in facts.summary.arms if result.arm in CONTROLS})
    if controls:
        answers.append(Message("control arms: {arms}", arms=", ".join(controls)))
    return answers


def _explained(facts: ClaimFacts) -> list[Message]:
    return [Message("none in this report")]


def _internal(facts: ClaimFacts) -> list[Message]:
    if facts.data.held_out:
        return []
    return [
        Message(
            "test parts of the same source: subjects: {subjects}, folds: {folds}",
            subjects=facts.summary.num_subjects,
            folds=len(facts.study.get("folds") or ()),
        )
    ]


def _external(facts: ClaimFacts) -> list[Message]:
    if facts.data.held_out:
        return [Message("the test part was held out by {column}", column=facts.data.held_out)]
    return [Message("none: all parts come from the same archive")]


def _registered(facts: ClaimFacts) -> list[Message]:
    if not facts.plan_sha256:
        return []
    return [
        Message(
            "the plan was fixed before the first run and is kept as study.yaml, SHA-256 {sha256}",
            sha256=facts.plan_sha256[:12],
        )
    ]


def _protocol(facts: ClaimFacts) -> list[Message]:
    return [Message("study.yaml, and the command that repeats the study, at the end of the report")]


def _available(facts: ClaimFacts) -> list[Message]:
    versions = facts.study.get("versions") or {}
    return [
        Message(
            "software: synthlabel {version}; trained models, pseudo-labels and predictions in the study's "
            "folder",
            version=str(versions.get("synthlabel", "")),
        )
    ]


METHOD_ANSWERS: Mapping[int, Answer] = {
    1: _title,
    4: _aims,
    22: _model,
    23: _software,
    24: _initial,
    25: _trained,
    26: _selected,
    27: _ensembles,
    28: _metrics,
    29: _uncertainty,
    30: _robustness,
    31: _explained,
    32: _internal,
    33: _external,
    34: _registered,
    42: _protocol,
    43: _available,
}
