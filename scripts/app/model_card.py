"""A model's card in words, in the visitor's language."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from classifier.card import MeasuredPart, ModelCard, model_card
from scripts.app.words import percent, say, spoken

HASH_DIGITS = 12


def card_rows(model: Path) -> list[tuple[str, str]]:
    """Names and values, as a page or sheet lists them.

    Raises:
        ClassifierError: if the model is damaged.
    """
    file = model / "model.json" if model.is_dir() else model
    return words_of(_read(f"{model}", file.stat().st_mtime_ns))


@st.cache_data(show_spinner=False, max_entries=4)
def _read(model: str, changed_ns: int) -> ModelCard:
    return model_card(Path(model))  # `changed_ns` is a part of the key: another training, another card


def words_of(card: ModelCard) -> list[tuple[str, str]]:
    """The card's rows."""
    channels, height, width = card.input_size
    kind = say("color") if channels == 3 else say("gray")
    images = f"{width} x {height}, {kind}"
    if card.made_from:
        images += f", {say(card.made_from)}"
    rows = [
        (say("Model"), f"{card.name} ({card.arch})" if card.arch else card.name),
        (say("Classes"), ", ".join(card.classes)),
        (say("Images"), images),
        (say("Preprocessing"), say(card.steps)),
        (say("Calibration"), say("temperature {value}", value=spoken().number(card.temperature))),
        (say("Not sure"), _rule_in_words(card)),
        (say("Trained on"), _training_in_words(card)),
    ]
    rows += [(_part_name(part), _part_in_words(part)) for part in card.parts]
    if not card.has_test:
        rows.append((say("Test part"), say("never measured: what validation says is flattering")))
    if card.archive_sha256:
        rows.append((say("Archive (SHA-256)"), card.archive_sha256[:HASH_DIGITS]))
    if card.split_sha256:
        rows.append((say("Split (SHA-256)"), card.split_sha256[:HASH_DIGITS]))
    return rows


def _rule_in_words(card: ModelCard) -> str:
    rule = card.rule
    if rule is None or rule.reject_confidence is None:
        return say("never: this model has no rule for leaving images to a person")
    return say(
        "below {limit}: on validation that decided {coverage} of the images with {risk} errors",
        limit=percent(rule.reject_confidence),
        coverage=percent(rule.coverage),
        risk=percent(rule.risk),
    )


def _training_in_words(card: ModelCard) -> str:
    if card.num_train_subjects is None:
        return say("not recorded in this file")
    text = say(
        "people: {train} to learn from, {val} to choose and calibrate by",
        train=card.num_train_subjects,
        val=card.num_val_subjects,
    )
    if card.fold is not None:
        text += ", " + say("fold {fold}", fold=card.fold)
    if card.fraction is not None:
        text += ", " + say("{share} of the labels", share=percent(card.fraction))
    return text


def _part_name(part: MeasuredPart) -> str:
    return say("Test part") if part.part == "test" else say("Validation part")


def _part_in_words(part: MeasuredPart) -> str:
    number = spoken().number
    figures = [
        f"{say(figure.name)} {number(figure.value, 3)}"
        + (" " + spoken().interval(*(number(end, 3) for end in figure.interval)) if figure.interval else "")
        for figure in part.figures
    ]
    of = say("images: {images}, people: {subjects}", images=part.num_images, subjects=part.num_subjects)
    return f"{', '.join(figures)} ({of})"
