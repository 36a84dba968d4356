"""What is installed is what is here: no package and no file that it reads is left behind."""

import configparser
from pathlib import Path

import pytest

from tests.test_layers import PACKAGES, ROOT

CONFIG = configparser.ConfigParser()
CONFIG.read(ROOT / "setup.cfg", encoding="utf-8")


def test_every_folder_of_modules_is_a_package_that_is_installed():
    folders = {path.parent.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("*.py")}
    listed = CONFIG["options"]["packages"].split()
    assert sorted(".".join(folder.parts) for folder in folders) == sorted(listed)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_file_that_a_package_reads_is_installed_with_it(package):
    folder: Path = ROOT / package
    installed = {
        path
        for name, globs in CONFIG["options.package_data"].items()
        if name.split(".")[0] == package
        for glob in globs.split()
        for path in ROOT.joinpath(*name.split(".")).glob(glob)
    }
    here = {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    for_readers = {folder / "README.md"}
    assert {path for path in here if path.suffix != ".py"} - for_readers == installed
