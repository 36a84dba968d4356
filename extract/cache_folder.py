"""Where files are kept that can be made anew at any time."""

import os
from pathlib import Path

CACHE_VARIABLE = "SYNTHLABEL_CACHE"


def cache_dir() -> Path:
    """$SYNTHLABEL_CACHE, or ~/.cache/synthlabel."""
    return Path(os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "synthlabel")
