"""Where a study's files lie, and folders that appear whole or not at all."""

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from extract.atomic import write_text
from extract.json_values import json_value
from semisup.errors import StudyError

STUDY_JSON = "study.json"
STUDY_YAML = "study.yaml"
RUN_JSON = "run.json"
LOCK = ".lock"  # held by the command that is at work in the folder
RECORDS = {"gan": "gan.json", "pool": "pool.json", "run": RUN_JSON}  # written last: the job is done
PREDICTIONS = "predictions.parquet"
HONEST_PREDICTIONS = "predictions-honest.parquet"  # of `leak_slices`: by the model without the fault
MODEL_FOLDER = "model"  # of the best round, inside a run folder


@contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success rename it to `path`, on any error remove it.

    What stood at `path` before (the record of a failed attempt) is replaced. Whoever is killed in
    between leaves a folder `.NAME.*.part`, which `remove_leftovers` clears away.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def remove_leftovers(study_dir: Path) -> None:
    """Clear away what a killed command left half-made; only for who holds the study's lock."""
    for leftover in study_dir.glob("runs/.*.part"):
        shutil.rmtree(leftover, ignore_errors=True)
    for leftover in study_dir.glob("pools/*/.*.part"):
        leftover.unlink(missing_ok=True)
    for leftover in study_dir.glob("progress/*.json"):
        leftover.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write JSON that every reader accepts, atomically: what is not a finite number becomes null."""
    write_text(path, json.dumps(json_value(content), indent=1, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of the study folder.

    Raises:
        StudyError: if it is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StudyError(f"{path}: expected a file of a study, got nothing there") from error
    except (OSError, ValueError) as error:
        remedy = "remove the file's folder to make it anew"
        if path.name == STUDY_JSON:  # its folder is the whole study
            remedy = "restore it, or begin anew in another --outdir"
        raise StudyError(f"{path}: expected JSON, got {error}; {remedy}") from error
    if not isinstance(content, dict):
        raise StudyError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content
