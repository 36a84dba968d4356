"""Every text of the page is there in Spanish; those of the sheet are in tests/test_languages.py."""

import ast
import re
from pathlib import Path

import pytest

pytest.importorskip("streamlit", reason='needs the extra: pip install "synthlabel[app]"')

from extract.language import LANGUAGES, read_catalogue
from scripts.app import words
from scripts.app.settings import LANGUAGES as OFFERED
from scripts.app.words import CATALOGUES, app_language, percent, probability

APP = Path(words.__file__).parent


def one_line(text: str) -> str:
    return " ".join(text.split())


def texts_in_code(path: Path) -> set[str]:
    """First arguments of `say` and `Message`, and the titles of pages."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            place = {"say": 0, "Message": 0, "AppPage": 1}.get(getattr(node.func, "id", ""))
            if place is not None and isinstance(node.args[place], ast.Constant):
                found.add(one_line(node.args[place].value))
            else:
                assert place is None or not isinstance(node.args[place], ast.JoinedStr), ast.unparse(node)
    return found


def test_every_text_is_there_in_spanish_and_nothing_else():
    texts = set().union(*map(texts_in_code, APP.rglob("*.py")))
    of_sheets, *of_pages = (set(read_catalogue(folder / "es.yaml")) for folder in CATALOGUES)
    assert len(texts) > 50 and texts <= of_sheets.union(*of_pages)
    assert set().union(*of_pages) == texts - of_sheets
    assert sum(map(len, of_pages)) == len(set().union(*of_pages))  # each once


def test_translations_have_the_values_and_marks_of_their_english():
    catalogues = [read_catalogue(folder / "es.yaml") for folder in CATALOGUES[1:]]
    for english, other in (
        (english, text) for catalogue in catalogues for english, text in catalogue.items()
    ):
        for pattern in (r"{(\w+)}", r"`[^`]*`"):
            assert sorted(re.findall(pattern, english)) == sorted(re.findall(pattern, other)), english


def test_the_page_offers_every_language():
    assert tuple(OFFERED) == LANGUAGES


def test_words_of_the_uploader_have_no_quotes():  # they stand in a style
    for english in ("Choose files", "or drop them here"):
        assert not set('"\\<>') & set(app_language("es").text(english) + english)


@pytest.mark.parametrize(
    ("share", "said"),
    [(1.0, "> 99.9\u00a0%"), (0.9994, "99.9\u00a0%"), (0.5, "50.0\u00a0%"), (0.0, "< 0.1\u00a0%")],
)
def test_no_probability_is_said_to_be_certain(share, said):
    assert probability(share) == said


def test_shares_may_be_whole():
    assert percent(1.0) == "100.0\u00a0%" and percent(0.0) == "0.0\u00a0%"
