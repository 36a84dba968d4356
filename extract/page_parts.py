"""What every page of ours shares: how templates are filled in, and pictures that travel inside the page."""

import base64
from pathlib import Path

import cv2
import jinja2
import numpy as np

from extract.archive import Archive
from extract.errors import ExtractError
from extract.png import encode_png


def page_templates(folder: Path) -> jinja2.Environment:
    """The templates of a folder; what is filled in is escaped, and a name that is not given is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def picture_address(archive: Archive, index: int, side: int) -> str:
    """An image, at most `side` pixels, as the address of an <img>; empty where it cannot be read."""
    try:
        pixels = archive.read_image(index).transpose(1, 2, 0)  # (H, W, C)
    except ExtractError:
        return ""
    side = min(side, len(pixels))
    small = cv2.resize(np.ascontiguousarray(pixels), (side, side), interpolation=cv2.INTER_AREA)
    return "data:image/png;base64," + base64.b64encode(encode_png(small)).decode("ascii")
