"""The benchmark compares like with like: its peer computes the numbers that ours do."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TINY = [
    "--channels",
    "512:16",
    "--sample-channels",
    "512:16",
    "--threads",
    "1",
    "--rounds",
    "1",
    "--repetitions",
    "1",
]


def test_textbook_and_ours_have_the_same_losses_and_images(tmp_path: Path):
    out = tmp_path / "gan.json"
    command = [
        sys.executable,
        "-m",
        "benchmarks.gan",
        "--train",
        "16:4",
        "--sample",
        "16:2",
        "--precisions",
        "fp32",
    ]
    done = subprocess.run(
        [*command, *TINY, "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    training = result["training"][0]
    textbook, ours = (training["variants"][name] for name in ("textbook fp32", "ours fp32"))
    assert textbook["parameters"] == ours["parameters"]
    for name, value in ours["losses_of_first_iteration"].items():
        assert value == pytest.approx(textbook["losses_of_first_iteration"][name], rel=2e-4, abs=1e-5), name
    ratio = training["speedup"]["ours fp32"]["textbook fp32"]["median"]
    assert ratio == pytest.approx(textbook["ms_per_image"]["median"] / ours["ms_per_image"]["median"])
    sampled = result["sampling"][0]["variants"]
    assert set(sampled) == {"textbook fp32", "ours fp32"}
