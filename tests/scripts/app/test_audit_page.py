"""The page Audit by Streamlit's own test harness: a whole audit, its pauses, faults and result."""

import shutil

import pytest

pytest.importorskip("streamlit", reason='needs the extra: pip install "synthlabel[app]"')

from streamlit.testing.v1 import AppTest

from scripts.app import audit_reading
from scripts.app.settings import AppSettings, use_settings
from tests.semisup.study_folder import FakeStudy, make_study

SMALL = FakeStudy(num_subjects=24, folds=(0, 1), seeds=(0, 1), fractions=(0.2, 0.5), image_size=16)


def audit_page() -> None:
    """What the server runs for this page, without the frame."""
    from scripts.app import audit
    from scripts.app.settings import current_settings

    audit.show(current_settings())


@pytest.fixture(scope="session")
def small_study(tmp_path_factory):
    return make_study(tmp_path_factory.mktemp("audited") / "study", SMALL)


@pytest.fixture
def study(small_study, tmp_path):
    return shutil.copytree(small_study, tmp_path / "study")


@pytest.fixture
def open_page(monkeypatch):
    """Opens the page anew, as another visitor or after a restart."""
    monkeypatch.setattr(audit_reading, "MIN_SECONDS", 0.0)

    def open_with(**settings) -> AppTest:
        use_settings(AppSettings(**settings))
        page = AppTest.from_function(audit_page, default_timeout=60).run()
        assert not page.exception
        return page

    yield open_with
    use_settings(AppSettings())


def press(page: AppTest, begin: str) -> AppTest:
    (button,) = [button for button in page.button if button.label.startswith(begin)]
    button.click().run()
    assert not page.exception
    return page


def test_smoke(open_page, study):
    page = open_page(study=study)
    print(page)
    page.text_input(key="audit.name").set_value("Ana").run()
    page.number_input[0].set_value(20).run()
    press(page, "Draw and begin")
    print([b.label for b in page.button])
    for k in range(30):
        if any(b.label == "Show the result" for b in page.button):
            break
        page.button[0].click().run()
        assert not page.exception
    press(page, "Show the result")
    print(page)
