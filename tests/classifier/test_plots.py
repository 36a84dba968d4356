import cv2
import numpy as np
import pandas as pd
import pytest

from classifier.plots import plot_confusion, plot_history, plot_reliability

HISTORY = pd.DataFrame({
    "step": [10, 20], "train_loss": [1.0, 0.5], "val_nll": [0.9, 0.7], "val_balanced_accuracy": [0.5, 0.8],
})  # fmt: skip
PROBS, LABELS = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), np.array([0, 1, 1])


def draw(name: str, path):
    match name:
        case "confusion":
            plot_confusion(np.array([[1, 0], [1, 1]]), ("ill & sick", "well"), path, "Confusion")
        case "reliability":
            plot_reliability(PROBS, LABELS, path, "Reliability")
        case "history":
            plot_history(HISTORY, path, "History")


@pytest.mark.parametrize("name", ["confusion", "reliability", "history"])
def test_each_picture_is_drawn_and_the_same_numbers_give_the_same_bytes(name, tmp_path):
    draw(name, tmp_path / "a.png")
    draw(name, tmp_path / "b.png")
    picture = cv2.imread(str(tmp_path / "a.png"))
    assert min(picture.shape[:2]) > 300 and picture.std() > 10
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_picture_can_be_svg(tmp_path):
    draw("confusion", tmp_path / "a.svg")
    text = (tmp_path / "a.svg").read_text()
    assert "<svg" in text
