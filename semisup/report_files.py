"""The files of a report in a study folder: written whole, replaced when made anew, and nobody else's touched.

`report-files.json` lists what the last report made, with the hash of each file. A file that is listed there
and still is what was made is replaced, or removed where the new report has none of its name. A file that
somebody has edited, or that was there before, is left alone, and the new one is put beside it as `NAME.new.EXT`.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path, PurePosixPath

from extract.atomic import replace_file

LIST = "report-files.json"
FORMAT = "synthlabel-report-files-1"
# Made anew whatever was done to them: programs read these, and every release has written the first three.
ALWAYS_OURS = frozenset({"report.html", "results.json", "results.csv"})


def write_files(folder: Path, files: Mapping[str, bytes]) -> dict[str, Path]:
    """Write the files of a report.

    Killed at any moment, the same call finishes it: what is about to be written is listed first.

    Args:
        folder: of the study.
        files: content by path below the folder, with slashes.

    Returns:
        Where each file lies, those included that are beside an edited one.
    """
    made = {name: _sha256(content) for name, content in files.items()}
    ours = _read_list(folder)
    places = {name: _place(folder, name, sha256, ours) for name, sha256 in made.items()}
    keys = {name: places[name].relative_to(folder).as_posix() for name in made}
    known = {keys[name]: {*ours.get(keys[name], ()), made[name]} for name in made}
    _write_list(folder, {**ours, **known})
    for name, content in files.items():
        with replace_file(places[name]) as temporary:
            temporary.write_bytes(content)
    for name in sorted(set(ours) - set(known)):
        _remove(folder, name, ours[name])
    # An edited file keeps the hash under which it was ours, so that undoing the edit makes it ours again.
    edited = {name: ours[name] for name in made if keys[name] != name and name in ours}
    _write_list(folder, {**edited, **{keys[name]: {made[name]} for name in made}})
    return places


def _place(folder: Path, name: str, made: str, ours: Mapping[str, set[str]]) -> Path:
    """Where to write: the name itself, or `NAME.new.EXT` where somebody else's file stands."""
    path = folder / PurePosixPath(name)
    if name in ALWAYS_OURS:
        return path
    for number in count():
        ending = "" if number == 0 else ".new" if number == 1 else f".new{number}"
        place = path.with_name(f"{path.stem}{ending}{path.suffix}")
        known = ours.get(place.relative_to(folder).as_posix(), set()) | {made}
        if not place.exists() or _hash_of(place) in known:
            return place
    raise AssertionError("count() does not end")


def _remove(folder: Path, name: str, ours: set[str]) -> None:
    path = folder / PurePosixPath(name)
    if not path.exists() or _hash_of(path) not in ours:
        return
    with suppress(OSError):
        path.unlink()
        if path.parent != folder:
            path.parent.rmdir()  # where it held nothing else


def _read_list(folder: Path) -> dict[str, set[str]]:
    """Hashes of our files by name; nothing where no report has left a list, or a damaged one."""
    try:
        content = json.loads((folder / LIST).read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            return {}
        return {
            str(name): set(map(str, hashes))
            for name, hashes in content["files"].items()
            if ".." not in PurePosixPath(name).parts and not PurePosixPath(name).is_absolute()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write_list(folder: Path, files: Mapping[str, set[str]]) -> None:
    content = {"format": FORMAT, "files": {name: sorted(files[name]) for name in sorted(files)}}
    with replace_file(folder / LIST) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _hash_of(path: Path) -> str:
    try:
        return _sha256(path.read_bytes())
    except OSError:
        return ""


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
