"""Where a network file from elsewhere lies: a path, a file:// address, or a published name in a cache.

Nothing is downloaded.
"""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import unquote, urlsplit

from extract.cache import CACHE_VARIABLE, cache_dir
from extract.errors import SettingsError

# The names that `--resume` takes officially, and the file that each is published as.
PUBLISHED_NETWORKS: Mapping[str, str] = MappingProxyType(
    {
        "ffhq256": "ffhq-res256-mirror-paper256-noaug.pkl",
        "ffhq512": "ffhq-res512-mirror-stylegan2-noaug.pkl",
        "ffhq1024": "ffhq-res1024-mirror-stylegan2-noaug.pkl",
        "celebahq256": "celebahq-res256-mirror-paper256-kimg100000-ada-target0.5.pkl",
        "lsundog256": "lsundog-res256-paper256-kimg100000-noaug.pkl",
    }
)
OFFICIAL_CACHE_VARIABLE = "DNNLIB_CACHE_DIR"


def find_network(name: str, flag: str = "") -> Path:
    """The file that a path, `file://` address or published name means.

    Published names are looked up in `networks` of our cache and in the download cache of the official code.

    Args:
        flag: in front of errors, for instance "--resume=".

    Raises:
        SettingsError: for an address on the network, or a published name that no cache holds.
    """
    given = f"{flag}{name}"
    if name in PUBLISHED_NETWORKS:
        return _find_published(name, given)
    if re.match(r"https?://", name, re.IGNORECASE):
        file = unquote(urlsplit(name).path).rpartition("/")[2] or "network.pkl"
        raise SettingsError(
            f"{given}: expected a file, got an address; nothing is downloaded: get {file} yourself, and name "
            "where you put it"
        )
    if name.lower().startswith("file://"):
        return Path(unquote(urlsplit(name).path))
    return Path(name)


def _find_published(name: str, given: str) -> Path:
    for path in _candidates(name):
        if path.is_file():
            return path
    raise SettingsError(
        f"{given}: expected the published network in a cache, got none; nothing is downloaded: get "
        f"{PUBLISHED_NETWORKS[name]} yourself and put it into {cache_dir() / 'networks'} (see "
        f"{CACHE_VARIABLE}), or name the file"
    )


def _candidates(name: str) -> Iterator[Path]:
    published = PUBLISHED_NETWORKS[name]
    for file in (f"{name}.pkl", published):
        yield cache_dir() / "networks" / file
    official = os.environ.get(OFFICIAL_CACHE_VARIABLE)
    downloads = (Path(official) if official else Path.home() / ".cache" / "dnnlib") / "downloads"
    if downloads.is_dir():  # its files are named <hash of the address>_<file>
        yield from sorted(downloads.glob(f"*_{published}"))
