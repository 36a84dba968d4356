"""Markdown shows a text as what it is."""

import pytest

from semisup.markdown import markdown_cell, markdown_fence, tidy_markdown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pseudo_gan_full", "pseudo_gan_full"),
        ("_em_ and *strong*", r"\_em\_ and \*strong\*"),
        ("a|b\nc", r"a\|b c"),
        ("<b>", r"\<b\>"),
        ("$x_1$", r"\$x_1\$"),
        ("[-5.9, +3.5]", "[-5.9, +3.5]"),
        ("[x](y)", r"[x\](y)"),
        ("&lt; & &", r"\&lt; & &"),
        ("# no heading", r"\# no heading"),
        ("~~gone~~", r"\~~gone\~~"),
        (r"back\slash", r"back\\slash"),
    ],
)
def test_signs_are_escaped_where_they_would_mean_something(text, shown):
    assert markdown_cell(text) == shown


def test_a_fence_is_longer_than_any_in_the_text():
    assert markdown_fence("a\n```\nb") == "````\na\n```\nb\n````"


def test_headings_have_an_empty_line_below():
    assert tidy_markdown("# a\nb\n\n\n\nc\n\n") == "# a\n\nb\n\nc\n"
