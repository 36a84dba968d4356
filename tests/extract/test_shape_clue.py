import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from extract.archive import open_archive
from extract.images import ImageConfig, SubjectRule, build_image_archive, prepare_image
from extract.picture_file import PictureFacts
from extract.shape_clue import measure_shape_clue

DATA = Path(os.environ.get("SYNTHLABEL_DATA", Path(__file__).parents[2] / "../shared/data"))
BRAINS, CHEST = DATA / "brain_mri", DATA / "chest_xray" / "train"


def facts_of(width, height, kind: str = "PNG") -> list[PictureFacts]:
    return [PictureFacts(int(w), int(h), kind, "L", 8) for w, h in zip(width, height, strict=True)]


def many(seed: int, num_subjects: int = 60, per_subject: int = 4, shift: float = 0.0):
    """Pictures of one size a subject, as a device gives them; two classes differ in width by `shift` sd."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(num_subjects), per_subject)
    label = subject % 2
    width = (1000 + 100 * (rng.standard_normal(num_subjects) + shift * (np.arange(num_subjects) % 2)))[
        subject
    ]
    height = (1000 + 100 * rng.standard_normal(num_subjects))[subject]
    return facts_of(width, height), [("a", "b")[k] for k in label], [f"s{k}" for k in subject]


def test_a_class_of_wider_pictures_is_told():
    clue = measure_shape_clue(*many(0, shift=3.0))
    assert (
        clue is not None
        and clue.is_alarming
        and clue.strongest in ("width", "aspect")
        and 512 <= clue.smallest_side < 1024
    )
    assert clue.balanced_accuracy > 0.85 and clue.low <= clue.balanced_accuracy <= clue.high
    assert clue.chance == 0.5 and clue.num_subjects == 60 and clue.num_images == 240
    sentence = clue.sentence("pad")
    assert (
        "pad shows the aspect as black bars" in sentence
        and "Else --fit crop --size 512 (no picture is enlarged)" in sentence
    )


def test_a_class_in_another_kind_of_file_is_told():
    facts, labels, subjects = many(0)
    mixed = [
        PictureFacts(f.width, f.height, "JPEG" if label == "a" else "PNG", "L", 8)
        for f, label in zip(facts, labels, strict=True)
    ]
    clue = measure_shape_clue(mixed, labels, subjects)
    assert clue is not None and clue.is_alarming and clue.balanced_accuracy == 1 and clue.strongest == "kind"
    assert "a: JPEG L 8 bit; b: PNG L 8 bit" in clue.sentence("crop")


def test_sizes_that_say_nothing_alarm_seldom():
    """Sizes belong to subjects: counted by pictures, chance would look like a clue."""
    clues = [measure_shape_clue(*many(seed, num_subjects=40)) for seed in range(1, 31)]
    assert sum(clue is not None and clue.is_alarming for clue in clues) <= 2
    assert np.mean([clue.balanced_accuracy for clue in clues if clue]) == pytest.approx(0.5, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("num_subjects", "per_subject"), [(24, 1), (30, 10), (60, 4), (200, 3)])
def test_chance_alarms_as_rarely_as_the_documentation_says(num_subjects, per_subject):
    clues = [measure_shape_clue(*many(seed, num_subjects, per_subject)) for seed in range(100, 220)]
    assert np.mean([clue is not None and clue.is_alarming for clue in clues]) <= 0.05


def test_equal_pictures_give_exactly_chance():
    _, labels, subjects = many(0)
    clue = measure_shape_clue(facts_of([64] * 240, [64] * 240), labels, subjects)
    assert clue is not None and clue.balanced_accuracy == 0.5 and not clue.is_alarming


def test_four_classes_and_an_uneven_number_of_pictures():
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1, 2, 3], [400, 40, 40, 20])
    facts = facts_of(np.array([100, 200, 300, 400])[label], rng.integers(100, 400, 500))
    clue = measure_shape_clue(facts, [f"c{k}" for k in label], [str(k) for k in range(500)])
    assert clue is not None and clue.balanced_accuracy > 0.95 and clue.chance == 0.25
    assert clue.spreads["c3"]["width"] == (400, 400, 400)


def test_of_very_many_pictures_a_part_is_measured_and_no_class_lost(monkeypatch):
    monkeypatch.setattr("extract.shape_clue.MAX_IMAGES", 200)
    label = np.repeat([0, 1], [5000, 12])
    facts = facts_of(np.array([100, 200])[label], np.full(5012, 50))
    clue = measure_shape_clue(facts, [str(k) for k in label], [str(k) for k in range(5012)])
    assert clue is not None and clue.num_images == 112 and clue.balanced_accuracy == 1


def test_too_few_subjects_are_not_measured():
    facts, labels, subjects = many(0, num_subjects=12)
    assert measure_shape_clue(facts, labels, subjects) is None
    more = many(0)
    clue = measure_shape_clue([*more[0], *facts[:4]], [*more[1], *["rare"] * 4], [*more[2], *["x"] * 4])
    assert clue is not None and clue.left_out == ("rare",) and clue.num_images == 240


def test_order_makes_no_difference_to_the_score():
    facts, labels, subjects = many(3, num_subjects=24, shift=2.0)
    order = np.random.default_rng(0).permutation(len(facts))
    turned = measure_shape_clue(*([column[k] for k in order] for column in (facts, labels, subjects)))
    straight = measure_shape_clue(facts, labels, subjects)
    assert turned is not None and straight is not None
    assert turned.balanced_accuracy == straight.balanced_accuracy
    assert (turned.low, turned.high) == (straight.low, straight.high)


@pytest.mark.parametrize("has_clue", [True, False])
def test_building_an_archive_tells_and_keeps_it(tmp_path, has_clue):
    rng = np.random.default_rng(0)
    for label in ("ill", "well"):
        (tmp_path / "s" / label).mkdir(parents=True)
        for person in range(20):
            width = 30 if has_clue and label == "ill" else 20
            pixels = rng.integers(0, 256, (20, width), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "s" / label / f"{label}{person}.png")
    summary = build_image_archive(
        tmp_path / "s", tmp_path / "a.zip", ImageConfig(8), SubjectRule(pattern=".*"), workers=1
    )
    assert len(summary.notes) == has_clue
    assert not has_clue or "predict the class: balanced accuracy 1.00" in summary.notes[0]
    with open_archive(tmp_path / "a.zip") as archive:
        kept = archive.preparation["shape_clue"]
        assert kept["is_alarming"] is has_clue and kept["spreads"]["well"]["width"] == [20, 20, 20]


@pytest.mark.parametrize(("fit", "tells"), [("pad", "bars"), ("squash", "stretch"), ("crop", "")])
def test_the_advice_holds_only_cropping_hides_the_shape(tmp_path, fit, tells):
    """Textures alike in all directions, in squares and in wide pictures: what still tells them apart?"""
    rng = np.random.default_rng(0)
    found: dict[str, list[list[float]]] = {"bars": [[], []], "stretch": [[], []]}
    for number in range(60):
        width = 96 if number % 2 else 64
        texture = gaussian_filter(rng.normal(size=(64, width)), 3)
        pixels = np.clip(128 + 40 * texture / texture.std(), 1, 255).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "x.png")
        made = prepare_image(tmp_path / "x.png", ImageConfig(32, fit=fit)).astype(float)
        shown = made[(made > 0).any(axis=1)][2:-2]  # not the edge towards the bars
        found["bars"][number % 2].append(float((made == 0).all(axis=1).mean()))
        across, down = np.diff(shown, axis=1).std(), np.diff(shown, axis=0).std()
        found["stretch"][number % 2].append(across / down)
    for name, (square, wide) in found.items():
        difference = abs(np.mean(square) - np.mean(wide))
        error = np.sqrt(np.var(square) / 30 + np.var(wide) / 30) + 1e-9
        assert (difference > 6 * error) == (name == tells), (name, difference, error)


def headers(folder: Path) -> tuple[list[PictureFacts], list[str], list[str]]:
    facts, labels, files = [], [], []
    for path in sorted(folder.glob("*/*.jp*g")):
        with Image.open(path) as opened:
            facts.append(PictureFacts(*opened.size, "JPEG", opened.mode, 8))
        labels.append(path.parent.name)
        files.append(path.name)
    return facts, labels, files


@pytest.mark.skipif(not BRAINS.is_dir(), reason=f"no brain pictures at {BRAINS} (see SYNTHLABEL_DATA)")
def test_the_brain_pictures_of_other_sources_are_told_by_their_shape():
    clue = measure_shape_clue(*headers(BRAINS))
    assert clue is not None and clue.is_alarming and clue.num_images == 3407


@pytest.mark.skipif(not CHEST.is_dir(), reason=f"no chest X-rays at {CHEST} (see SYNTHLABEL_DATA)")
def test_the_squashed_chest_pictures_say_nothing_any_more():
    clue = measure_shape_clue(*headers(CHEST))
    assert clue is not None and abs(clue.balanced_accuracy - 0.5) < 0.02 and not clue.is_alarming
