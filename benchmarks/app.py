"""Time the web page as a visitor feels it: from dropping a picture to class and heat map on the screen.

    python -m benchmarks.app --model runs/brain --images slices --out benchmarks/results/app.json

Starts `synthlabel app` for a run, opens the page in Chromium as soon as the server answers, and drops the
first picture as soon as the field for it is there: PyTorch is still being imported then. Every further
picture takes the place of the one before. Needs the extra `dev` and Chromium.
"""

import argparse
import os
import shlex
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from playwright.sync_api import Page, sync_playwright

from benchmarks.machine import processor, write_result

PATIENCE_SEC = 120
FIELD = "[data-testid=stFileUploaderDropzoneInput]"
WIDTH, HEIGHT = 1366, 768


def main() -> None:
    options = _parse()
    pictures = sorted(path for path in options.images.iterdir() if path.suffix in (".png", ".jpg", ".jpeg"))
    pictures = pictures[: options.pictures]
    if len(pictures) < 2:
        sys.exit(f"{options.images}: expected two pictures or more (.png, .jpg), got {len(pictures)}")
    runs = [_measure(options.model, pictures) for _ in range(options.rounds)]
    following = [seconds for run in runs for seconds in run["next_sec"]]
    result: dict[str, Any] = {
        "machine": {
            "processor": processor(),
            "cores": len(os.sched_getaffinity(0)),
            "load_before": os.getloadavg()[0],
            "versions": {name: version(name) for name in ("streamlit", "torch")},
        },
        "command": shlex.join(["python", "-m", "benchmarks.app", *sys.argv[1:]]),
        "server_ready_sec": statistics.median(run["server_ready_sec"] for run in runs),
        "page_open_sec": statistics.median(run["page_open_sec"] for run in runs),
        "first_prediction_sec": statistics.median(run["first_sec"] for run in runs),
        "next_prediction_sec": statistics.median(following),
        "next_prediction_slowest_sec": max(following),
        "peak_memory_mb": max(run["peak_memory_mb"] for run in runs),
        "runs": runs,
    }
    write_result(options.out, result)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of a classifier run")
    parser.add_argument("--images", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--pictures", type=int, default=6, help="pictures a round")
    parser.add_argument("--rounds", type=int, default=3, help="times to start the server")
    parser.add_argument("--out", type=Path, default=None, help="JSON to write")
    return parser.parse_args()


def _measure(model: Path, pictures: list[Path]) -> dict[str, Any]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "scripts.cli", "app", "--model", f"{model}", "--port", f"{port}"]
    started = time.perf_counter()
    server = subprocess.Popen([*command, "--no-browser"], stdout=subprocess.DEVNULL)
    try:
        _wait_for(f"http://127.0.0.1:{port}/_stcore/health", server)
        ready = time.perf_counter() - started
        with sync_playwright() as playwright:
            found = (
                shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
            )
            browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
            page.set_default_timeout(PATIENCE_SEC * 1000)
            begun = time.perf_counter()
            page.goto(f"http://127.0.0.1:{port}")
            page.locator(FIELD).wait_for(state="attached")
            opened = time.perf_counter() - begun
            times = [_drop(page, picture, number > 0) for number, picture in enumerate(pictures)]
            browser.close()
        peak = _peak_memory_mb(server.pid)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(timeout=PATIENCE_SEC)
    return {
        "server_ready_sec": ready,
        "page_open_sec": opened,
        "first_sec": times[0],
        "next_sec": times[1:],
        "peak_memory_mb": peak,
    }


def _drop(page: Page, picture: Path, is_next: bool) -> float:
    """Seconds from the drop until class and heat map are on the screen."""
    if is_next:
        page.get_by_role("button", name="Remove all files").click()
        page.locator(".sl-decision").wait_for(state="detached")
        page.wait_for_function(f"document.querySelectorAll('{FIELD}').length === 1")
        page.wait_for_timeout(1000)  # the page is at rest
    field = page.locator(FIELD)
    begun = time.perf_counter()
    field.set_input_files(f"{picture}")
    page.locator(".sl-decision").wait_for()
    page.wait_for_function(
        "(() => { const all = [...document.querySelectorAll('[data-testid=stImage] img')];"
        " return all.length > 1 && all.every(one => one.complete && one.naturalWidth); })()"
    )
    return time.perf_counter() - begun


def _peak_memory_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def _wait_for(address: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + PATIENCE_SEC
    while time.monotonic() < until and server.poll() is None:
        try:
            urlopen(address, timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    sys.exit(f"no answer from {address}")


if __name__ == "__main__":
    main()
