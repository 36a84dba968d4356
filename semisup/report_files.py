"""The files of a report in a study folder: written whole, replaced when made anew, and nobody else's touched.

`report-files.json` lists what the last report made, with the hash of each file. A file that is listed there
and still is what was made is replaced, or removed where the new report has none of its name. A file that
somebody has edited, or that was there before, is left alone; the new one is put beside it as `NAME.new.EXT`
where it says anything that the edited one was not made from.
"""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from itertools import count
from pathlib import Path, PurePosixPath

from extract.atomic import replace_file

LIST, LISTS = "report-files.json", "report-files*.json"  # one a language
FORMAT = "synthlabel-report-files-1"
# Made anew whatever was done to them, as by every release: programs read them, and nobody edits a page.
ALWAYS_OURS = ("report*.html", "results.json", "results.csv")


def write_files(folder: Path, files: Mapping[str, bytes], list_name: str = LIST) -> dict[str, Path]:
    """Write the files of a report.

    Killed at any moment, the same call finishes it: what is about to be written is listed first.

    Args:
        folder: of the study.
        files: content by path below the folder, with slashes.
        list_name: of the list; reports in several languages have one each and leave each other alone.

    Returns:
        Where each file lies; beside an edited one, or nowhere if that was made from the very same.
    """
    listed = _read_list(folder / list_name)
    ours: dict[str, set[str]] = {}
    for path in sorted(folder.glob(LISTS)):
        for name, hashes in _read_list(path).items():
            ours.setdefault(name, set()).update(hashes)
    made = {name: _sha256(content) for name, content in files.items()}
    places = {name: _place(folder, name, sha256, ours) for name, sha256 in made.items()}
    edited = {name for name, place in places.items() if place != folder / PurePosixPath(name)}
    for name in edited:  # what the editor has seen already is not put beside it again
        if made[name] in ours.get(name, ()) and not places[name].exists():
            del places[name]
    keys = {name: place.relative_to(folder).as_posix() for name, place in places.items()}
    known = {keys[name]: {*ours.get(keys[name], ()), made[name]} for name in places}
    _write_list(folder / list_name, {**listed, **known})
    for name, place in places.items():
        with replace_file(place) as temporary:
            temporary.write_bytes(files[name])
    for name in sorted(set(listed) - set(known)):
        _remove(folder, name, ours[name])
    seen = {name: {*ours.get(name, ()), made[name]} for name in edited}
    _write_list(folder / list_name, {**seen, **{keys[name]: {made[name]} for name in places}})
    return places


def _place(folder: Path, name: str, made: str, ours: Mapping[str, set[str]]) -> Path:
    """Where to write: the name itself, or `NAME.new.EXT` where somebody else's file stands."""
    path = folder / PurePosixPath(name)
    if any(fnmatchcase(name, pattern) for pattern in ALWAYS_OURS):
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


def _read_list(path: Path) -> dict[str, set[str]]:
    """Hashes of our files by name; nothing where no report has left a list, or a damaged one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            return {}
        return {
            str(name): set(map(str, hashes))
            for name, hashes in content["files"].items()
            if ".." not in PurePosixPath(name).parts and not PurePosixPath(name).is_absolute()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _write_list(path: Path, files: Mapping[str, set[str]]) -> None:
    content = {"format": FORMAT, "files": {name: sorted(files[name]) for name in sorted(files)}}
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def _hash_of(path: Path) -> str:
    try:
        return _sha256(path.read_bytes())
    except OSError:
        return ""


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
