"""Imports point down, and each heavy library has one home."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("extract", "vendor", "gan", "classifier", "semisup", "scripts")
BELOW = {
    "extract": set(),
    "vendor": set(),
    "gan": {"vendor", "extract"},
    "classifier": {"extract"},
    "semisup": {"gan", "classifier", "extract"},
    "scripts": {"semisup", "gan", "classifier", "extract"},
}
HOMES = {
    "click": {"scripts"},
    "rich": {"scripts"},
    "fastai": {"classifier"},
    "fastcore": {"classifier"},
    "timm": {"classifier"},
    "nrrd": {"extract"},
    "ray": {"semisup"},
    "torch": {"vendor", "gan", "classifier"},
    "streamlit": {"scripts"},
    "starlette": {"scripts"},
}
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def imported_packages(path: Path) -> set[str]:
    """Top-level names of all imports of a module, those inside functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path):
    package = path.relative_to(ROOT).parts[0]
    names = imported_packages(path)
    upward = (names & set(PACKAGES)) - BELOW[package] - {package}
    assert not upward, f"{package} must not import {sorted(upward)}"
    for library, homes in HOMES.items():
        assert library not in names or package in homes, (
            f"{library} belongs in {sorted(homes)}, not in {package}"
        )


APP = ROOT / "scripts" / "app"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_streamlit_stays_within_the_app(path):
    if not path.is_relative_to(APP):
        assert not imported_packages(path) & {"streamlit", "starlette"}
