"""Which texts a package shows, read off its code and its templates."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from extract.language import Text
from extract.page_parts import from_template, page_templates


def texts_of(package: Path) -> dict[Text, str]:
    """Every text of a package that a language may translate, and where it stands first."""
    found: dict[Text, str] = {}
    for path in sorted(package.rglob("*.py")):
        for text, line in _python_texts(path):
            found.setdefault(text, f"{path.name}:{line}")
    for path in sorted(package.rglob("*.j2")):
        for text, line in _template_texts(path):
            found.setdefault(text, f"{path.name}:{line}")
    return found


def _python_texts(path: Path) -> Iterator[tuple[Text, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name not in ("text", "plural", "Message"):
            continue
        first = [_constant(argument, path) for argument in node.args[: 2 if name == "plural" else 1]]
        if name != "plural" and len(first) == 1 and first[0] and _has_words(first[0]):
            yield _one_line(first[0]), node.lineno
        elif len(first) == 2 and first[0] and first[1]:
            yield (_one_line(first[0]), _one_line(first[1])), node.lineno


def _constant(node: ast.expr, path: Path) -> str | None:
    """A literal text; names are fine (the text is a Message of elsewhere), texts made on the spot are not."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    assert not isinstance(node, ast.JoinedStr | ast.BinOp), (
        f"{path}:{node.lineno}: a text must be one literal with its values in braces"
    )
    return None


def _template_texts(path: Path) -> Iterator[tuple[Text, int]]:
    environment = page_templates(path.parent)
    found = environment.extract_translations(path.read_text(encoding="utf-8"))  # type: ignore[attr-defined]
    for line, function, message in found:
        forms = [message] if isinstance(message, str) else message[: 2 if function == "ngettext" else 1]
        texts = [_one_line(from_template(form)) for form in forms]
        if _has_words(texts[0]):
            yield (texts[0] if len(texts) == 1 else (texts[0], texts[1])), line


def _has_words(text: str) -> bool:
    """Whether there is anything to translate beside values."""
    return bool(re.search(r"[^\W\d_]", re.sub(r"\{\w+\}", "", text)))


def _one_line(text: str) -> str:
    return " ".join(text.split())
