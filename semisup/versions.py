"""The versions of everything that could move a number."""

import importlib.metadata
import platform

VERSIONED = ("synthlabel", "torch", "fastai", "timm", "numpy", "scipy", "pandas", "scikit-learn")


def versions() -> dict[str, str]:
    """Of everything that could move a number."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for name in VERSIONED:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed as a package"
    return found
