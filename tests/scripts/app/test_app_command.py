"""`synthlabel app`: what is refused before a server starts, and what the server is told."""

import importlib.util
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from extract.errors import SettingsError
from scripts.app import server
from scripts.app.server import page_address, server_options
from scripts.app.settings import AppSettings, current_settings, use_settings
from scripts.app.shell import first_page
from scripts.cli import cli


def run(*arguments: object):
    return CliRunner().invoke(cli, ["app", *map(str, arguments)])


def said(result) -> str:
    return " ".join(result.output.split())


@pytest.fixture
def served(monkeypatch):
    """What the server would have been started with."""
    calls = []
    monkeypatch.setattr(
        server, "run_server", lambda settings, address, port, open_browser: calls.append(
            (settings, address, port, open_browser)
        )
    )  # fmt: skip
    return calls


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("--model", "model.json does not exist: give the folder of a finished `classifier train` run"),
        ("--archive", "expected an archive (.zip), got nothing there"),
        ("--study", "study.json"),
        ("--network", "expected a GAN snapshot, got nothing there"),
    ],
)
def test_what_is_not_there_is_one_sentence_before_any_server(served, tmp_path, flag, sentence):
    result = run(flag, tmp_path / "nowhere")
    assert result.exit_code == 1 and sentence in said(result) and not served
    assert "Traceback" not in result.output


def test_damaged_runs_and_archives_are_refused(served, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.json").write_text('{"format": 1}')
    result = run("--model", tmp_path / "run")
    assert result.exit_code == 1 and "an entry that is missing or malformed" in said(result)
    (tmp_path / "a.zip").write_bytes(b"no zip")
    result = run("--archive", tmp_path / "a.zip")
    assert result.exit_code == 1 and "a.zip" in said(result) and not served


def test_a_split_goes_with_its_archive_and_has_the_fold(served, phantom_model, tmp_path):
    archive, split = phantom_model.archive, phantom_model.split
    assert run("--archive", archive, "--split", split, "--fold", 1).exit_code == 0
    assert (served[0][0].split, served[0][0].fold) == (split, 1)
    for arguments, code, sentence in (
        (("--split", split), 2, "expected the archive that it splits, got none; name it with --archive"),
        (("--archive", archive, "--fold", 5), 2, "fold must be 0 to 1 for this split, got 5"),
        (
            ("--archive", archive, "--split", split, "--fold", 5),
            2,
            "fold must be 0 to 1 for this split, got 5",
        ),
        (
            ("--archive", archive, "--split", tmp_path / "x.json"),
            1,
            "expected a split file, got nothing there",
        ),
    ):
        result = run(*arguments)
        assert result.exit_code == code and sentence in said(result) and len(served) == 1


def test_official_networks_and_foreign_files_are_refused_with_the_remedy(served, tmp_path):
    (tmp_path / "ffhq.pkl").write_bytes(b"\x80\x03cposix\nsystem\n.")
    result = run("--network", tmp_path / "ffhq.pkl")
    assert result.exit_code == 1 and "safely, with: synthlabel gan import" in said(result)
    (tmp_path / "x.safetensors").write_bytes(b"no tensors")
    result = run("--network", tmp_path / "x.safetensors")
    assert result.exit_code == 1 and "cut short" in said(result)
    (tmp_path / "empty").mkdir()
    result = run("--network", tmp_path / "empty")
    assert result.exit_code == 1 and "a folder without network-snapshot-" in said(result) and not served


def test_a_network_reaches_the_server(served, phantom_network):
    result = run("--network", phantom_network.run, "--no-browser")
    assert result.exit_code == 0, result.output
    assert served[0][0] == AppSettings(network=phantom_network.run)


def test_the_settings_reach_the_server(served, phantom_model):
    result = run(
        "--model", phantom_model.run, "--archive", phantom_model.archive, "--lang", "es", "--port", 9000,
        "--no-browser",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    settings = AppSettings(phantom_model.run, None, phantom_model.archive, language="es")
    assert served == [(settings, "127.0.0.1", 9000, False)]
    assert "http://127.0.0.1:9000: the page" in result.output and "Warning" not in result.output


def test_another_address_is_warned_of(served):
    result = run("--address", "0.0.0.0")
    assert result.exit_code == 0 and "lets everyone who reaches this machine's port 8501" in said(result)
    assert not served[0][0].is_local and served[0][3] is True


def test_a_port_that_is_taken_ends_with_a_sentence(phantom_model):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        result = run("--port", taken.getsockname()[1], "--no-browser")
    assert result.exit_code == 2 and "is the page open already? name another with --port" in said(result)


def test_without_streamlit_the_remedy_is_told(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(server, "find_spec", lambda name: None if name == "streamlit" else real(name))
    result = run()
    assert result.exit_code == 1 and 'run: pip install "synthlabel[app]"' in said(result)


def test_the_server_keeps_to_itself():
    pytest.importorskip("streamlit")
    from streamlit import config

    options = server_options("127.0.0.1", 8501)
    assert set(options) <= set(config._config_options_template)  # names that Streamlit knows
    assert options["browser.gatherUsageStats"] is False and options["server.address"] == "127.0.0.1"
    assert options["server.fileWatcherType"] == "none" and options["server.enableXsrfProtection"] is True
    assert options["server.enableAgentApi"] is False and options["server.maxUploadSize"] <= 512
    assert options["server.allowedHosts"] == ["127.0.0.1", "::1", "localhost"]


@pytest.mark.parametrize(
    ("address", "shown"),
    [("127.0.0.1", "http://127.0.0.1:1"), ("::1", "http://[::1]:1"), ("0.0.0.0", "http://127.0.0.1:1")],
)
def test_the_address_can_be_typed(address, shown):
    assert page_address(address, 1) == shown


def test_settings_are_what_was_set_last():
    before = current_settings()
    use_settings(AppSettings(language="es"))
    assert current_settings().language == "es"
    use_settings(before)


def test_unknown_languages_are_refused():
    from scripts.app.settings import check_settings

    with pytest.raises(SettingsError, match="--lang must be one of en, es"):
        check_settings(AppSettings(language="fr"))


def test_the_packages_are_ours_whatever_folder_streamlit_puts_first():
    """After `python -m scripts.cli` it puts `scripts` first, where gan.py and semisup.py are commands."""
    pytest.importorskip("streamlit")
    code = (
        "import sys\n"
        "from scripts.app import guard, server\n"
        "from scripts.app.settings import AppSettings\n"
        "class App:\n"
        "    def run(self, config):\n"
        "        sys.path.insert(0, 'scripts')\n"
        "        import scripts.app.shell\n"
        "guard.build_app = lambda script: App()\n"
        "server._require_port = lambda address, port: None\n"
        "server.run_server(AppSettings(), '127.0.0.1', 1, open_browser=False)\n"
    )
    root = Path(server.__file__).parents[2]
    found = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


@pytest.mark.parametrize(
    ("named", "address"),
    [("", "predict"), ("archive", "review"), ("archive study", "study"), ("network archive", "generate"),
     ("study audit", "audit"), ("study model network", "predict")],
)  # fmt: skip
def test_a_visit_begins_with_a_page_that_has_what_it_needs(named, address):
    assert first_page(AppSettings(**{name: Path("x") for name in named.split()})) == address
