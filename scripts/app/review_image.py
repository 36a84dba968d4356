"""One image under review: the picture, why it is shown, what the model says, and what is like it."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from typing import TYPE_CHECKING

import streamlit as st

from classifier.review_reasons import CONFLICT, DOUBT, DUPLICATE, LOSS, THRESHOLD
from extract.language import Message
from scripts.app.parts import probability_bars
from scripts.app.words import percent, probability, say, spoken

if TYPE_CHECKING:
    from classifier.review_queue import Candidate, ModelFindings
    from extract.review_duplicates import TrainingDuplicates
    from scripts.app.review_job import ReviewBasis

NUM_NEIGHBORS = 6
REASON_NAMES = {
    CONFLICT: Message("Same picture, another label"),
    DOUBT: Message("Doubtful label"),
    LOSS: Message("The model disagrees"),
    THRESHOLD: Message("Close to the limit"),
    DUPLICATE: Message("Same picture twice"),
}


def label_of(basis: ReviewBasis, row: int) -> str:
    """The archive's label, as it is shown."""
    number = int(basis.archive.labels[row])
    return basis.archive.classes[number] if number >= 0 else say("no label")


def show_picture(basis: ReviewBasis, item: Candidate) -> None:
    """The image, large; in the page itself, so that no picture is asked for that the next has replaced."""
    name, subject = basis.archive.names[item.row], str(basis.archive.subjects[item.row])
    caption = say("{name}, person {subject}", name=name, subject=subject)
    st.html(
        f'<figure class="sl-picture">{_image(basis, item.row, caption)}'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _image(basis: ReviewBasis, row: int, text: str) -> str:
    """The picture as it is stored, as HTML."""
    data = b64encode(basis.archive.read_png(row)).decode()
    return f'<img alt="{escape(text)}" src="data:image/png;base64,{data}">'


def reason_texts(basis: ReviewBasis, item: Candidate, findings: ModelFindings | None) -> list[str]:
    """Why an image is shown, a sentence each."""
    texts = []
    for reason in item.reasons:
        if reason == CONFLICT:
            others = {label_of(basis, row) for row in item.twins} - {label_of(basis, item.row)}
            texts.append(say("The same picture also stands under {names}.", names=", ".join(sorted(others))))
        elif reason == DUPLICATE:
            texts.append(say("The same picture is there more than once, with the same label."))
        elif findings is not None and item.place is not None:
            texts.append(_model_text(basis, reason, item.place, findings))
    return texts


def _model_text(basis: ReviewBasis, reason: str, place: int, findings: ModelFindings) -> str:
    opinions = findings.opinions
    if reason == DOUBT:
        others = findings.cross_probs[place].copy()
        own = float(others[opinions.labels[place]])
        others[opinions.labels[place]] = -1.0
        best = int(others.argmax())
        return say(
            "Going by the images of other people, {name} gets {share}, and the label {own}.",
            name=basis.archive.classes[best],
            share=probability(float(others[best])),
            own=probability(own),
        )
    if reason == LOSS:
        share = probability(float(opinions.probs[place, opinions.labels[place]]))
        if opinions.is_learned[place]:
            return say(
                "The model gives this label only {share}, although it was trained with this image.",
                share=share,
            )
        return say(
            "The model, which was not trained with this image, gives its label only {share}.", share=share
        )
    points = spoken().number(100 * float(findings.margins[place]), 1)
    return say("A change of {points} points would make the model decide otherwise.", points=points)


def show_opinion(basis: ReviewBasis, item: Candidate, findings: ModelFindings | None) -> None:
    """The model's probabilities as bars."""
    if findings is None or item.place is None:
        return
    opinions = findings.opinions
    limit = None if opinions.rule is None else opinions.rule.reject_confidence
    shares = dict(zip(basis.archive.classes, opinions.probs[item.place].tolist(), strict=True))
    st.caption(
        say("What the model says; it was trained with this image.")
        if opinions.is_learned[item.place]
        else say("What the model says; it was not trained with this image.")
    )
    text = (
        ""
        if limit is None
        else say("Below {limit} this model leaves an image to a person.", limit=percent(limit))
    )
    st.html(probability_bars(shares, limit, text))


def show_companions(
    basis: ReviewBasis, item: Candidate, findings: ModelFindings | None, duplicates: TrainingDuplicates | None
) -> None:
    """The same picture elsewhere in the training part, and its nearest neighbours there."""
    if item.twins and duplicates is not None:
        st.markdown("##### " + say("The same picture in the training part"))
        _show_row(
            basis, [(row, _difference(duplicates, item.row, row)) for row in item.twins[:NUM_NEIGHBORS]]
        )
    if findings is not None and item.place is not None:
        from classifier.review_queue import nearest_others

        opinions = findings.opinions
        st.markdown("##### " + say("Most alike, of other people in the training part"))
        near = nearest_others(opinions, item.place, NUM_NEIGHBORS)
        _show_row(basis, [(int(opinions.rows[place]), "") for place in near])


def _show_row(basis: ReviewBasis, images: list[tuple[int, str]]) -> None:
    figures = []
    for row, remark in images:
        label, subject = label_of(basis, row), str(basis.archive.subjects[row])
        below = "".join(f"<span>{escape(text)}</span>" for text in (subject, remark) if text)
        figures.append(
            f"<figure>{_image(basis, row, f'{label}, {subject}')}"
            f"<figcaption><b>{escape(label)}</b>{below}</figcaption></figure>"
        )
    st.html(f'<div class="sl-alike">{"".join(figures)}</div>')


def _difference(duplicates: TrainingDuplicates, row: int, other: int) -> str:
    """How alike two pictures are; those of one group that were not compared are alike to a third."""
    found = duplicates.likeness.get((min(row, other), max(row, other)))
    return "" if found is None else say("{share} alike", share=percent(found))
