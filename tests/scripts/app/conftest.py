import sys

import pytest

from tests.scripts.app.phantom_model import PhantomModel, make_phantom_model
from tests.scripts.app.phantom_network import PhantomNetwork, make_phantom_network

MAIN = sys.modules["__main__"]


@pytest.fixture(autouse=True)
def own_main_module():
    """Streamlit's test harness leaves its script as the process's main module, which spawned workers run."""
    yield
    sys.modules["__main__"] = MAIN


@pytest.fixture(scope="session")
def phantom_model(tmp_path_factory) -> PhantomModel:
    """Made once for all tests of the page."""
    return make_phantom_model(tmp_path_factory.mktemp("phantom-model"))


@pytest.fixture(scope="session")
def phantom_network(tmp_path_factory) -> PhantomNetwork:
    """Made once for all tests of the page Generate."""
    return make_phantom_network(tmp_path_factory.mktemp("phantom-network"))


@pytest.fixture(scope="session")
def browser():
    """Debian's Chromium, for the tests that are marked `browser`."""
    from tests.scripts.app.browsing import CHROMIUM, sync_api

    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()
