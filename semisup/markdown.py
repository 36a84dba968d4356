"""Text in Markdown that shows as what it is, whatever a study calls its classes."""

import re

ALWAYS = re.compile(r"([\\`*<>|$])")
AT_WORD_ENDS = re.compile(r"(?<![^\W_])_|_(?![^\W_])")  # within a word an underscore is one
ENTITY = re.compile(r"&(?=#?\w+;)")
LINK = re.compile(r"\](?=[(\[:])")
STRUCK = re.compile(r"~(?=~)")
LINE_START = re.compile(r"^(\s*)([#+-]|\d+[.)])(?=\s)")


def markdown_cell(text: object) -> str:
    """A text for a table or a line: on one line, with every sign that Markdown or HTML would read escaped."""
    line = ALWAYS.sub(r"\\\1", " ".join(str(text).split()))
    for pattern in (AT_WORD_ENDS, ENTITY, LINK, STRUCK):
        line = pattern.sub(lambda found: f"\\{found[0]}", line)
    return LINE_START.sub(r"\1\\\2", line)


def markdown_fence(text: str) -> str:
    """A text as a block of code, fenced by more backticks than it holds in a row."""
    longest = max((len(found) for found in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text.rstrip()}\n{fence}"


def tidy_markdown(text: str) -> str:
    """One empty line about headings, never two in a row, one line end at the end."""
    text = re.sub(r"^(#+ .*)\n(?!\n)", r"\1\n\n", text, flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
