"""A study small enough for seconds: sixteen subjects, pictures of 16 pixels, a net that trains in a blink."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.split import make_split, write_split

CLASSES = ("bar", "disc")
NUM_SUBJECTS, IMAGES_A_CLASS = 16, 4


def draw_picture(label: int, rng: np.random.Generator) -> np.ndarray:
    """A bright bar or disc somewhere on a noisy ground, (16, 16) uint8."""
    y, x = np.mgrid[:16, :16]
    cy, cx = rng.uniform(5, 11, size=2)
    shape = np.abs(y - cy) < 2 if label == 0 else (y - cy) ** 2 + (x - cx) ** 2 < 16
    return np.clip(40 + 120 * shape + rng.normal(0, 45, (16, 16)), 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory) -> Path:
    """A folder with `tiny.zip` and `tiny.split.json` (two folds; fractions 0.4 and 1)."""
    folder = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    with ArchiveWriter(folder / "tiny.zip") as writer:
        for subject in range(NUM_SUBJECTS):
            for label in (0, 1):
                for _ in range(IMAGES_A_CLASS):
                    record = ImageRecord(label=CLASSES[label], subject=f"s{subject:02d}", source="drawn")
                    writer.add(draw_picture(label, rng), record)
    with open_archive(folder / "tiny.zip") as archive:
        split = make_split(archive, num_folds=2, fractions=[0.4], val_share=0.3, seed=0)
    write_split(split, folder / "tiny.split.json")
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Decoded images go to a folder of these tests, in the workers too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHLABEL_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def study_settings(data_dir: Path, **changes) -> dict:
    """The content of a study file that runs in seconds."""
    settings = {
        "name": "tiny",
        "data": str(data_dir / "tiny.zip"),
        "split": str(data_dir / "tiny.split.json"),
        "folds": [0],
        "seeds": [0],
        "fractions": [0.4],
        "arms": ["supervised", "supervised_full", "pseudo_real"],
        "primary": {"arm": "pseudo_real", "fraction": 0.4},
        "classifier": {"steps": 12, "batch_size": 16, "validate_every": 6, "augment": False, "device": "cpu"},
        "pseudo": {"threshold": 0.5, "rounds": 1},
    }
    return {**settings, **changes}


@pytest.fixture(scope="session")
def finished_study(data_dir, tmp_path_factory, own_cache) -> Path:
    """The folder of that study after its runs; tests that write take a copy."""
    from semisup.study import run_study

    folder = tmp_path_factory.mktemp("finished")
    (folder / "study.yaml").write_text(yaml.safe_dump(study_settings(data_dir)))
    run_study(folder / "study.yaml", folder / "out", jobs=1)
    return folder / "out"


@pytest.fixture(scope="session", autouse=True)
def no_paper_figures():
    """Reports without the files for a paper, which take seconds; test_figure_files.py has them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("semisup.report.figure_files", lambda *_: {})
        yield


@pytest.fixture
def write_study(data_dir, tmp_path):
    """A function that writes a study file with some settings changed and gives its path."""

    def write(**changes) -> Path:
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(study_settings(data_dir, **changes)))
        return path

    return write
