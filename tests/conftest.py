"""What all tests share: a cache of their own, so that no run leaves files in the user's home."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHLABEL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def planted(tmp_path_factory):
    """A data set with wrong labels and a model that learned from them, for all tests of a review."""
    from tests.classifier.planted import make_planted

    return make_planted(tmp_path_factory.mktemp("planted"))
