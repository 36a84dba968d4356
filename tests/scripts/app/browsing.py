"""The page in a real browser, for the tests of each page: the served command, and a visit to it."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest

pytest.importorskip("streamlit", reason='needs the extra: pip install "synthlabel[app]"')
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright, of the extra dev")

ROOT = Path(__file__).parents[3]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
PATIENCE_MS = 60_000
SCREENS = {"laptop": (1366, 768), "tablet": (820, 1180)}

in_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine (apt-get install chromium)"),
]


@contextmanager
def serve(arguments: Sequence[str], home: Path) -> Iterator[str]:
    """The page's address, served by the very command; ended by Ctrl-C, it has kept nothing."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home.mkdir()  # no settings of the user's, and none are left
    (home.parent / f"{home.name}-fonts").mkdir()  # matplotlib's list, which says nothing of anybody
    environment = {
        **os.environ,
        "HOME": str(home),
        "TMPDIR": str(home),
        "MPLCONFIGDIR": str(home.parent / f"{home.name}-fonts"),
    }
    command = [sys.executable, "-m", "scripts.cli", "app", *arguments, "--port", str(port), "--no-browser"]
    log = home / "log.txt"
    with open(log, "wb") as output:
        server = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            # Tests that were started in the background of a shell inherit that Ctrl-C is ignored.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )
    try:
        _wait_for(f"http://127.0.0.1:{port}/_stcore/health", server, log)
        yield f"http://127.0.0.1:{port}"
        server.send_signal(signal.SIGINT)
        assert server.wait(timeout=20) == 0, log.read_text()
        said = log.read_text()
        assert "Traceback" not in said and "The page is closed." in said
        assert not [path for path in home.rglob("*") if path.is_file() and path != log]  # nothing is kept
    finally:
        if server.poll() is None:
            server.kill()


def _wait_for(address: str, server: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert server.poll() is None, log.read_text()
        try:
            urlopen(address, timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise AssertionError(f"no answer from {address}: {log.read_text()}")


@dataclass
class Visit:
    """A page, and everything that its browser asked for or complained about."""

    page: "sync_api.Page"
    hosts: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    def give(self, *files: Path) -> None:
        self.page.locator("input[type=file]").set_input_files([str(path) for path in files])

    def decision(self) -> str:
        found = self.page.locator(".sl-decision")
        found.wait_for()
        return found.inner_text()

    def settle(self) -> None:
        """Until Streamlit has drawn everything, its parts that are loaded late included."""
        self.page.wait_for_timeout(300)
        self.page.locator("[data-testid=stApp][data-test-script-state=notRunning]").wait_for()
        self.page.wait_for_function("!document.querySelector('[data-testid=stSkeleton]')")
        self.page.wait_for_timeout(300)


@contextmanager
def visit_page(
    browser: "sync_api.Browser", address: str, title: str, screen: str = "laptop"
) -> Iterator[Visit]:
    """A fresh visit to the page of that title, which must end without a complaint or a request elsewhere."""
    width, height = SCREENS[screen]
    page = browser.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(PATIENCE_MS)
    found = Visit(page)
    page.on(
        "request", lambda asked: found.hosts.add(asked.url.split("/")[2] if "//" in asked.url else "data")
    )
    page.on("websocket", lambda asked: found.hosts.add(asked.url.split("/")[2]))
    page.on("console", lambda said: found.complaints.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    page.goto(address)
    page.get_by_role("link", name=title).click()  # an address of its own would cost two answers of 404
    page.get_by_role("heading", name=title, exact=True).wait_for()
    yield found
    assert found.hosts - {"data"} == {address.split("//")[1]}
    assert not found.complaints, found.complaints
    page.close()


def save_picture(visit: Visit, name: str) -> None:
    """Write a picture for the documents, where they are asked for."""
    folder = os.environ.get("SYNTHLABEL_SCREENSHOTS")
    if folder:
        visit.settle()
        visit.page.mouse.move(0, 0)
        visit.page.evaluate("document.querySelector('[data-testid=stMain]').scrollTo(0, 0)")
        visit.page.screenshot(path=Path(folder) / name)
