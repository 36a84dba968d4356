import pytest

from tests.scripts.app.phantom_model import PhantomModel, make_phantom_model


@pytest.fixture(scope="session")
def phantom_model(tmp_path_factory) -> PhantomModel:
    """Made once for all tests of the page."""
    return make_phantom_model(tmp_path_factory.mktemp("phantom-model"))
