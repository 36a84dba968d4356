"""The benchmark compares like with like: the same files and weights give the same probabilities both ways."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_from_folder_and_ours_give_the_same_probabilities(tmp_path: Path):
    out = tmp_path / "classifier.json"
    command = [sys.executable, "-m", "benchmarks.classifier", "--picture-sizes", "32", "--size", "32",
               "--subjects", "6", "--epochs", "1", "--batch", "16", "--rounds", "1", "--threads", "1",
               "--out", str(out)]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())["pictures"]["32 px"]
    assert result["largest_difference"]["ours, fp32"] < 1e-5
    assert result["largest_difference"]["ours, bf16"] < 0.02
    assert set(result["ratios"]) == {"training_images_per_sec", "inference_images_per_sec"}
    assert all(value > 0 for ratios in result["ratios"].values() for value in ratios.values())
