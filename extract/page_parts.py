"""What every page of ours shares: how templates are filled in, and pictures that travel inside the page."""

import base64
import re
from html import escape
from pathlib import Path

import cv2
import jinja2
import numpy as np
from markupsafe import Markup

from extract.archive import Archive
from extract.errors import ExtractError
from extract.language import ENGLISH, Language, Message
from extract.png import encode_png


def page_templates(folder: Path, language: Language = ENGLISH) -> jinja2.Environment:
    """The templates of a folder; what is filled in is escaped, and a name that is not given is an error.

    Texts are translated in `{% trans name=value %}... {{ name }} ...{% endtrans %}` (with `{% pluralize %}`
    between the forms for one and for many) and, where they come as values, by the filter `translated`.
    `verbatim` does so for messages and marks what another program said as English, as `foreign` does for an
    element: `<dd{{ foreign }}>`. The language itself is there as `language`.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.install_gettext_callables(  # type: ignore[attr-defined]  # of the extension
        lambda text: to_template(language.wording(from_template(text))),
        lambda one, many, number: to_template(
            language.wording_for(number, from_template(one), from_template(many))
        ),
        newstyle=True,
    )
    foreign = Markup("" if language.name == "en" else ' lang="en"')

    def verbatim(text: str) -> str | Markup:
        if isinstance(text, Message) or not foreign:
            return language.text(text)
        return Markup("<span{}>{}</span>").format(foreign, text)

    environment.filters.update(translated=language.text, verbatim=verbatim)
    environment.globals.update(language=language, foreign=foreign)
    return environment


def from_template(text: str) -> str:
    """Jinja's notation of a text with values, "%(arm)s: 95 %%", as catalogues have it: "{arm}: 95 %"."""
    return re.sub(r"%\((\w+)\)s", r"{\1}", text).replace("%%", "%")


def to_template(text: str) -> str:
    """The way back."""
    return re.sub(r"\{(\w+)\}", r"%(\1)s", text.replace("%", "%%"))


def picture_address(archive: Archive, index: int, side: int) -> str:
    """An image, at most `side` pixels, as the address of an <img>; empty where it cannot be read."""
    try:
        pixels = archive.read_image(index).transpose(1, 2, 0)  # (H, W, C)
    except ExtractError:
        return ""
    side = min(side, len(pixels))
    small = cv2.resize(np.ascontiguousarray(pixels), (side, side), interpolation=cv2.INTER_AREA)
    return "data:image/png;base64," + base64.b64encode(encode_png(small)).decode("ascii")


def svg_element(text: str, description: str) -> str:
    """A figure's SVG file as an element that shares a page with others.

    It has no header, no ids but those in use, and no size of its own: the page decides, the viewBox stays.
    """
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    text = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", text)
    opening, rest = text.split(">", 1)
    opening = re.sub(r' (?:width|height)="[^"]*"', "", opening)
    opening = opening.replace("<svg", f'<svg role="img" aria-label="{escape(description)}"', 1)
    return f"{opening}>{rest}"
