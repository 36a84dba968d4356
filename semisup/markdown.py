"""Text in Markdown that shows as what it is, whatever a study calls its classes."""

import re

SPECIAL = re.compile(r"([\\`*_\[\]<>|~#&$])")


def markdown_cell(text: object) -> str:
    """A text for a table or a line: on one line, with every sign that Markdown or HTML would read escaped."""
    return SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def markdown_fence(text: str) -> str:
    """A text as a block of code, fenced by more backticks than it holds in a row."""
    longest = max((len(found) for found in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text.rstrip()}\n{fence}"
