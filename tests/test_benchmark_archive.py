"""The archive's benchmark compares like with like: both ways hold the same pictures, and every step runs."""

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import archive as benchmark
from extract.archive import open_archive


def test_every_step_runs_and_both_ways_hold_the_same_pictures(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("SYNTHLABEL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(benchmark, "NUM_RANDOM", 50)
    done = {step: benchmark.WORK[step](tmp_path, 400, 8)() for step in benchmark.WORK}
    assert done["ours identify"] == done["ours identify again"]
    with open_archive(tmp_path / "a.zip") as archive:
        assert len(archive) == 400 and (tmp_path / "packed.zip").read_bytes() == archive.path.read_bytes()
        for path in (tmp_path / "folder").rglob("*.png"):
            index = int(path.stem.split("_")[1])
            assert np.array_equal(np.asarray(Image.open(path)), archive.read_image(index)[0])
            assert path.parent.name == archive.classes[archive.labels[index]]
            assert path.name.startswith(str(archive.subjects[index]))
    assert {name.split(" ", 1)[1] for name in benchmark.WORK} == set(benchmark.STEPS)
