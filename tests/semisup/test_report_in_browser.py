"""The page as a browser lays it out: nothing sticks out, and every entry of the contents leads somewhere."""

import json
import re
import shutil
import subprocess

import pytest

from semisup.report import write_report
from tests.semisup.study_folder import FakeStudy, make_study

FEW = FakeStudy(
    num_subjects=24, images_per_subject=3, folds=(0,), fractions=(0.2, 0.5), pool_size=20, image_size=16
)
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MEASURE = """<script>
const named = [...document.querySelectorAll('nav a')].map(a => a.getAttribute('href'));
const links = named.map(name => document.querySelector(name));
document.body.innerHTML = JSON.stringify({
  inner: window.innerWidth, width: document.documentElement.scrollWidth,
  places: links.map(e => e ? e.getBoundingClientRect().top : null),
});
</script></body>"""


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome to lay the page out")
@pytest.mark.parametrize("width", [1280, 800])
def test_the_page_is_as_wide_as_the_window_and_its_contents_lead_downwards(tmp_path, width):
    page = write_report(make_study(tmp_path / "study", FEW)).path.read_text(encoding="utf-8")
    measured = tmp_path / "measured.html"
    measured.write_text(page.replace("</body>", MEASURE), encoding="utf-8")
    command = [
        BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={width},900", "--dump-dom", measured.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    found = re.search(r"<body[^>]*>(\{.*\})", done.stdout)
    assert found, done.stderr[-500:]
    layout = json.loads(found[1])
    assert layout["width"] <= layout["inner"]
    assert None not in layout["places"] and layout["places"] == sorted(layout["places"])
    assert len(layout["places"]) > 10
