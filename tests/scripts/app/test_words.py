"""Every text of the page and of its sheets is there in Spanish, with the same values."""

import ast
import re
from pathlib import Path

import pytest

import classifier
from extract.page_parts import from_template, page_templates
from scripts.app import words
from scripts.app.words import CATALOGUES, app_language

APP = Path(words.__file__).parent
TEMPLATE = Path(classifier.__file__).parent / "templates" / "predictions.html.j2"
IN_CLASSIFIER = ("card.py", "judging.py", "sheet.py", "uploads.py")


def one_line(text: str) -> str:
    return " ".join(text.split())


def texts_in_code(path: Path) -> set[str]:
    """First arguments of `say`, `text` and `Message`, and the titles of pages."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            place = {"say": 0, "text": 0, "Message": 0, "AppPage": 1}.get(name)
            if place is not None and len(node.args) > place and isinstance(node.args[place], ast.Constant):
                found.add(one_line(node.args[place].value))
    return found


def all_texts() -> set[str]:
    sources = [*APP.rglob("*.py"), *(TEMPLATE.parent.parent / name for name in IN_CLASSIFIER)]
    found = set().union(*map(texts_in_code, sources))
    messages = page_templates(TEMPLATE.parent).extract_translations(TEMPLATE.read_text(encoding="utf-8"))
    for _, _, message in messages:
        found.add(one_line(from_template(message if isinstance(message, str) else message[0])))
    return found


def test_every_text_is_there_in_spanish_and_nothing_else():
    texts = all_texts()
    assert len(texts) > 60
    assert set(app_language("es").texts) == texts


@pytest.mark.parametrize("folder", CATALOGUES, ids=lambda folder: folder.parent.name)
def test_translations_have_the_values_of_their_english(folder):
    spanish = app_language("es").texts
    for english, other in spanish.items():
        assert sorted(re.findall(r"{(\w+)}", english)) == sorted(re.findall(r"{(\w+)}", other)), english


def test_numbers_are_written_as_the_language_does():
    assert app_language("es").number(98.25, 1) == "98,2"
    assert app_language("en").number(98.25, 1) == "98.2"
