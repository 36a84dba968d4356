"""docs/python-api.md: what it shows runs and says what the page says."""

import doctest
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "python-api.md"


@pytest.mark.filterwarnings("ignore")
def test_the_page_about_the_python_api_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(tmp_path / "cache"))
    found = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert (found.failed, found.attempted > 30) == (0, True)
    assert (tmp_path / "model" / "model.safetensors").exists()
