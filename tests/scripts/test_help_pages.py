"""docs/cli holds what each command says of itself."""

import pytest

from scripts.help_pages import PAGES_DIR, help_pages, page_path

PAGES = help_pages()


@pytest.mark.parametrize("name", PAGES)
def test_docs_hold_the_help_of(name):
    path = page_path(name)
    assert path.exists(), f"{path.name} is missing: run `make docs`"
    assert path.read_text(encoding="utf-8") == PAGES[name], f"{path.name} is out of date: run `make docs`"


def test_docs_hold_no_page_of_a_command_that_is_gone():
    assert {path.name for path in PAGES_DIR.glob("*.txt")} == {page_path(name).name for name in PAGES}
