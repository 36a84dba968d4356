"""The command line as a whole: what it lists, how fast it answers, how errors become sentences."""

import errno
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from extract.errors import ExtractError, SettingsError
from scripts import cli as cli_module
from scripts.cli import GROUPS, cli


def test_help_lists_every_group():
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0
    assert all(name in result.output for name in GROUPS)


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from click.testing import CliRunner; from scripts.cli import cli, GROUPS\n"
        "for name in GROUPS: assert CliRunner().invoke(cli, [name, '--help']).exit_code == 0, name\n"
        "heavy = {'torch', 'fastai', 'timm', 'matplotlib', 'sklearn', 'pandas'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("error", "exit_code", "text"),
    [
        (ExtractError("scan07.nrrd: truncated"), 1, "scan07.nrrd: truncated"),
        (SettingsError("--size must be a power of two, got 100"), 2, "--size must be a power of two"),
        (OSError(errno.ENOSPC, "No space left on device", "planes.zip"), 1, "the disk is full (planes.zip)"),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "notes.txt/a.zip"),
            1,
            "notes.txt/a.zip: expected",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "/root/a.zip"), 1, "got: permission denied"),
        (KeyboardInterrupt(), 130, "Interrupted"),
    ],
)
def test_errors_become_one_sentence_and_an_exit_code(monkeypatch, error, exit_code, text):
    @click.command()
    def failing():
        raise error

    monkeypatch.setattr(cli_module.LazyGroups, "get_command", lambda *_: failing)
    result = CliRunner().invoke(cli, ["extract"])
    assert result.exit_code == exit_code
    assert text in result.output
    assert "Traceback" not in result.output


def test_an_unknown_group_is_refused():
    result = CliRunner().invoke(cli, ["exctract"])
    assert result.exit_code == 2
    assert "No such command" in result.output


def test_an_error_that_says_how_to_go_on_is_heard():
    error = OSError(errno.ENOSPC, "No space left on device")
    error.add_note("free some space, then go on with: --resume runs/00000-a")
    assert "--resume runs/00000-a; what was finished" in cli_module.describe_os_error(error)
