"""The server behind the page: Streamlit, told to keep to itself."""

from __future__ import annotations

import os
import socket
import threading
import time
import webbrowser
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from classifier.uploads import UploadLimits
from extract.errors import SettingsError, SynthlabelError
from scripts.app.settings import LOCAL, AppSettings, use_settings

SCRIPT = Path(__file__).parent / "main.py"
HEALTH = "_stcore/health"
BROWSER_PATIENCE_SEC = 30.0


def require_streamlit() -> None:
    """Raise SynthlabelError where Streamlit is not installed."""
    if find_spec("streamlit") is None:
        raise SynthlabelError(
            'the web page needs Streamlit, which is not installed; run: pip install "synthlabel[app]"'
        )


def page_address(address: str, port: int) -> str:
    """What to type into a browser."""
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(
        address, f"[{address}]" if ":" in address else address
    )
    return f"http://{shown}:{port}"


def server_options(address: str, port: int) -> dict[str, object]:
    """Streamlit's options: nothing leaves the machine, nothing is watched, little is accepted."""
    return {
        "server.address": address,
        "server.port": port,
        "server.headless": True,  # the browser is opened by us, when the server answers
        "server.fileWatcherType": "none",
        "server.runOnSave": False,
        "server.enableXsrfProtection": True,
        "server.enableCORS": True,  # Streamlit's name for protection by CORS
        "server.corsAllowedOrigins": [],
        "server.allowedHosts": list(LOCAL)
        if address in LOCAL
        else [],  # no page elsewhere under a false name
        "server.enableStaticServing": False,
        "server.enableAgentApi": False,
        "server.showEmailPrompt": False,
        "server.maxUploadSize": UploadLimits().file_megabytes,
        "server.maxMessageSize": 64,
        "server.disconnectedSessionTTL": 60,
        "browser.gatherUsageStats": False,
        "browser.serverAddress": address if address not in ("0.0.0.0", "::") else "localhost",
        "browser.serverPort": port,
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "client.showErrorLinks": "false",
        "client.allowedOrigins": [],
        "runner.magicEnabled": False,
        "global.developmentMode": False,
        "logger.level": "error",
        "logger.hideWelcomeMessage": True,
        "theme.base": "light",
        "theme.primaryColor": "#0072b2",
        "theme.textColor": "#1d2733",
        "theme.secondaryBackgroundColor": "#f3f6f9",
    }


def run_server(settings: AppSettings, address: str, port: int, *, open_browser: bool) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        SettingsError: if the address or the port cannot be had.
    """
    _require_port(address, port)
    use_settings(settings)
    if settings.model is not None:
        from scripts.app.models import begin_loading

        begin_loading(settings.model)  # PyTorch takes seconds to import; the page is shown meanwhile
    if settings.study is not None:
        from scripts.app.study_open import begin_early

        begin_early(settings.study)
    if settings.network is not None:
        from scripts.app.networks import begin_network

        begin_network(settings.network)
    if open_browser:
        threading.Thread(target=_open_when_ready, args=(page_address(address, port),), daemon=True).start()
    os.environ["STREAMLIT_BROWSER_GATHER_USAGE_STATS"] = (
        "false"  # before its modules read any file of the user's
    )
    _load_packages()
    from scripts.app.guard import build_app

    with suppress(KeyboardInterrupt):  # the way to end it
        build_app(SCRIPT).run(config=server_options(address, port))


def _load_packages() -> None:
    """Now, because Streamlit is about to put the launcher's folder before all others.

    After `python -m scripts.cli` that is `scripts`, whose `semisup.py` would be taken for the package.
    """
    for name in ("extract", "vendor", "gan", "classifier", "semisup"):
        import_module(name)


def _require_port(address: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address, port))
    except OSError as error:
        raise SettingsError(
            f"--address {address} --port {port}: expected an address of this machine and a free port, got: "
            f"{str(error.strerror).lower()}; is the page open already? name another with --port {port + 1}"
        ) from error


def _open_when_ready(address: str) -> None:
    until = time.monotonic() + BROWSER_PATIENCE_SEC
    while time.monotonic() < until:
        try:
            urlopen(f"{address}/{HEALTH}", timeout=1).close()
        except (URLError, OSError):
            time.sleep(0.1)
        else:
            webbrowser.open(address)
            return
