"""The second part of the page Audit: one image, the classes as buttons and keys, and what was said of it."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from html import escape
from typing import Literal, TypedDict

import streamlit as st

from extract.errors import SynthlabelError
from extract.png import encode_png
from scripts.app.audit_state import RESULT, Place, go_to, leave, reader_of, tell
from scripts.app.parts import plain
from scripts.app.words import say, spoken
from semisup.audit_reading import answers_so_far, neighbor_code, next_unanswered, read_picture, seconds_left
from semisup.audit_sheet import has_numbers, none_word, record_answer
from semisup.audit_statistics import NONE_OF_THESE, Answer

AT, SHOWN, PACE, FAULT = "audit.at", "audit.shown", "audit.pace", "audit.fault"
BRIGHTNESS, CONTRAST, SMOOTH = "audit.brightness", "audit.contrast", "audit.smooth"
# A key that is held down or pressed twice must not answer an image that nobody has seen.
MIN_SECONDS = 0.3


class _Look(TypedDict):
    type: Literal["primary", "secondary"]
    icon: str | None


def show(place: Place) -> None:
    """Draw it."""
    _read(place)


@st.fragment
def _read(place: Place) -> None:
    """One image; an answer draws this part alone."""
    fault = st.session_state.pop(FAULT, None)
    if fault is not None:
        tell(fault)
    try:
        answers = answers_so_far(place.export, place.sheet)
        codes = place.export.codes
        at = st.session_state.get(AT)
        code = at if at in codes else next_unanswered(codes, answers)
        if code is None:
            _show_end(place, answers)
        else:
            _show_image(place, code, answers)
    except (SynthlabelError, OSError) as error:
        tell(error)
        _offer_pause(place, answers={})


def _show_image(place: Place, code: str, answers: dict[str, Answer]) -> None:
    picture, words = st.columns([3, 2], gap="large")
    with picture:
        _draw_picture(place, code)
    with words:
        _show_progress(place, code, answers)
        _ask(place, code, answers.get(code))
        codes = place.export.codes
        with st.container(horizontal=True):
            _offer_move(say("Back"), neighbor_code(codes, code, -1, answers), "B", "back")
            if code in answers:
                following = neighbor_code(codes, code, 1, answers)
                _offer_move(say("Onwards"), following, "F", "on", is_end=True)
            _offer_pause(place, answers)
    known = st.session_state.get(SHOWN)
    if known is None or known[0] != code:
        st.session_state[SHOWN] = (code, time.monotonic())


def _draw_picture(place: Place, code: str) -> None:
    pixels = read_picture(place.export, code).transpose(1, 2, 0)  # (H, W, C)
    data = encode_png(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    brightness, contrast = (st.session_state.get(key, 100) for key in (BRIGHTNESS, CONTRAST))
    number = place.export.codes.index(code) + 1
    kind = "" if st.session_state.get(SMOOTH, True) else ' class="pixels"'
    st.html(
        f'<div class="sl-audit-picture"><img{kind} alt="{escape(say("Image {number}", number=number))}" '
        f'style="filter: brightness({brightness}%) contrast({contrast}%)" '
        f'src="data:image/png;base64,{base64.b64encode(data).decode()}"></div>'
    )
    with st.expander(say("Brightness and contrast"), icon=":material/contrast:"):
        left, middle, right = st.columns(3, vertical_alignment="center")
        left.slider(say("Brightness"), 30, 300, 100, step=5, format="%d %%", key=BRIGHTNESS)
        middle.slider(say("Contrast"), 30, 300, 100, step=5, format="%d %%", key=CONTRAST)
        right.toggle(say("Smooth"), True, key=SMOOTH)
        st.caption(say("They change what you see and nothing that is recorded."))


def _show_progress(place: Place, code: str, answers: dict[str, Answer]) -> None:
    codes = place.export.codes
    left = seconds_left(st.session_state.get(PACE, ()), len(codes) - len(answers))
    text = say("Image {number} of {num}", number=codes.index(code) + 1, num=len(codes))
    if left is not None:
        text += " · " + say("about {time} left", time=spoken().duration(left))
    st.progress(len(answers) / len(codes), text=text)


# Answers ------------------------------------------------------------------------------------------


def _ask(place: Place, code: str, known: Answer | None) -> None:
    """The classes as buttons. The code in their keys keeps a late click from answering another image."""
    classes = place.export.sample.classes
    unsure_key, comment_key = f"audit.unsure.{code}", f"audit.comment.{code}"
    is_unsure = bool(st.session_state.get(unsure_key, known is not None and known.unsure))

    def answer(label: str, *, unsure: bool) -> Callable[[], None]:
        return lambda: _record(place, code, label, unsure, str(st.session_state.get(comment_key, "")))

    given = known.label if known is not None else None
    for number, (name, key) in enumerate(zip(classes, class_keys(classes), strict=True)):
        st.button(
            plain(name), key=f"audit.class.{code}.{number}", shortcut=key, width="stretch", wrap=True,
            **_look(given == number), on_click=answer(name, unsure=is_unsure),
        )  # fmt: skip
    st.button(
        say("None of these, or no usable image"), key=f"audit.none.{code}", shortcut=none_key(classes),
        width="stretch", **_look(given == NONE_OF_THESE),
        on_click=answer(none_word(classes), unsure=is_unsure),
    )  # fmt: skip
    st.button(
        say("I cannot tell"), key=f"audit.unsure-alone.{code}", shortcut="X", width="stretch",
        **_look(known is not None and known.label is None), on_click=answer("", unsure=True),
    )  # fmt: skip
    st.button(
        say("Not sure, but I lean towards the class I choose next"),
        key=f"audit.lean.{code}", shortcut="N", type="tertiary", wrap=True,
        icon=":material/check_box:" if is_unsure else ":material/check_box_outline_blank:",
        on_click=lambda: st.session_state.update({unsure_key: not is_unsure}),
    )  # fmt: skip
    st.text_input(
        say("Comment (saved with your answer)"),
        known.comment if known is not None else "",
        key=comment_key,
        max_chars=500,
    )


def _look(is_given: bool) -> _Look:
    """A button of an earlier answer is marked, by more than its color."""
    if is_given:
        return {"type": "primary", "icon": ":material/check:"}
    return {"type": "secondary", "icon": None}


def class_keys(classes: Sequence[str]) -> list[str | None]:
    """1 to 9 for the first nine classes; one whose name is a digit has that key, so that none misleads."""
    if has_numbers(classes):
        return [str(number + 1) if number < 9 else None for number in range(len(classes))]
    return [name if len(name) == 1 and name in "0123456789" else None for name in classes]


def none_key(classes: Sequence[str]) -> str | None:
    """0, where that is no class."""
    return None if "0" in class_keys(classes) else "0"


def _record(place: Place, code: str, label: str, unsure: bool, comment: str) -> None:
    """Write one answer down at once, and go on; runs before anything is drawn."""
    shown, since = st.session_state.get(SHOWN, ("", 0.0))
    now = time.monotonic()
    if shown != code or now - since < MIN_SECONDS:
        return
    try:
        record_answer(place.sheet, place.export.sample, code, label, unsure=unsure, comment=comment)
    except (SynthlabelError, OSError) as error:
        st.session_state[FAULT] = error
        return
    if st.session_state.get(AT) is None:  # corrections are no measure of the pace
        st.session_state.setdefault(PACE, []).append(now - since)
    st.session_state[AT] = None


# Ways out -----------------------------------------------------------------------------------------


def _offer_move(label: str, target: str | None, key: str, name: str, *, is_end: bool = False) -> None:
    st.button(
        label, key=f"audit.{name}", shortcut=key,
        disabled=target is None and not is_end, on_click=lambda: st.session_state.update({AT: target}),
    )  # fmt: skip


def _offer_pause(place: Place, answers: dict[str, Answer]) -> None:
    if st.button(say("Pause"), key="audit.pause", shortcut="P", icon=":material/pause:"):
        st.session_state[AT] = None
        st.session_state.pop(PACE, None)
        leave(
            say(
                "Paused. {num} answers of {reader} are saved; go on whenever you like.",
                num=len(answers),
                reader=reader_of(place),
            )
        )
        st.rerun(scope="app")


def _show_end(place: Place, answers: dict[str, Answer]) -> None:
    st.success(say("All {num} images have an answer. Thank you.", num=len(answers)))
    st.markdown(
        say(
            "The result shows what the images were taken for. Correct what you want to correct before you "
            "look at it; a second reader should finish without seeing it."
        )
    )
    row = st.container(horizontal=True)
    with row:
        if st.button(say("Show the result"), type="primary", shortcut="Enter", key="audit.show"):
            go_to(replace(place, screen=RESULT))
            st.rerun(scope="app")
        last = neighbor_code(place.export.codes, None, -1, answers)
        st.button(
            say("Back"), key="audit.back", shortcut="B",
            on_click=lambda: st.session_state.update({AT: last}),
        )  # fmt: skip
        if st.button(say("Later"), key="audit.later"):
            leave()
            st.rerun(scope="app")
