import numpy as np
import pytest

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.confounds import describe, find_confounds, name_stem
from extract.mixed_subjects import find_mixed
from extract.outliers import find_outliers
from extract.survey import survey_pictures
from extract.verify import verify_archive
from tests.extract.making import random_pixels


def write(path, images):
    """An archive of (pixels, label, subject, source)."""
    with ArchiveWriter(path) as writer:
        for pixels, label, subject, source in images:
            writer.add(pixels, ImageRecord(label=label, subject=subject, source=source))
    return open_archive(path)


def confounds(archive):
    return {item.name: item for item in find_confounds(archive, survey_pictures(archive))}


def pixels_of(number: int, gain: float = 1.0, border: int | None = None) -> np.ndarray:
    pixels = (random_pixels(number, size=16) * gain).astype(np.uint8)
    if border is not None:
        pixels[[0, -1]] = border
        pixels[:, [0, -1]] = border
    return pixels


def test_without_a_clue_nothing_is_said_of_the_class(tmp_path):
    images = [(pixels_of(k), "ab"[k % 2], f"s{k}", f"{'ab'[k % 2]}/p{k}.png") for k in range(120)]
    with write(tmp_path / "a.zip", images) as archive:
        found = confounds(archive)
    assert found and all(item.strength in ("none", "weak") for item in found.values())
    assert all(item.low <= item.balanced_accuracy <= item.high for item in found.values())
    assert "type of the original file" not in found  # all are .png: it cannot tell


@pytest.mark.parametrize(
    ("clue", "image"),
    [
        ("type of the original file", lambda k, c: (pixels_of(k), f"{k}.{'png' if c == 'a' else 'jpg'}")),
        ("beginning of the file's name", lambda k, c: (pixels_of(k), f"{'I-' if c == 'a' else 'p'}{k}.png")),
        ("folder beside the class", lambda k, c: (pixels_of(k), f"{'x' if c == 'a' else 'y'}/{c}/{k}.png")),
        ("brightness at the border", lambda k, c: (pixels_of(k, border=99 * (c == "a")), f"{c}/{k}.png")),
        ("mean brightness", lambda k, c: (pixels_of(k, 1.0 if c == "a" else 0.8), f"{c}/{k}.png")),
    ],
)  # fmt: skip
def test_a_clue_that_tells_the_class_is_named(tmp_path, clue, image):
    images = []
    for k in range(80):
        label = "ab"[k % 2]
        pixels, source = image(k, label)
        images.append((pixels, label, f"s{k}", source))
    with write(tmp_path / "a.zip", images) as archive:
        found = confounds(archive)
    assert found[clue].strength == "gives away" and found[clue].tells in ("a", "b")
    assert f"{clue} alone gives {found[clue].tells} away: balanced accuracy 100 % (9" in describe(found[clue])


def test_a_clue_of_the_subject_is_not_taken_for_one_of_the_class(tmp_path):
    # Each subject's pictures have one brightness: known subjects would be told by it, unseen ones cannot.
    rng = np.random.default_rng(1)
    images = []
    for subject in range(40):
        gain, label = rng.uniform(0.3, 1), "ab"[subject % 2]
        images += [
            (pixels_of(subject * 10 + k, gain), label, f"s{subject}", f"{label}/p.png") for k in range(8)
        ]
    with write(tmp_path / "a.zip", images) as archive:
        assert confounds(archive)["mean brightness"].strength in ("none", "weak")


def test_squashing_one_class_shows_in_the_steps(tmp_path):
    import cv2

    rng = np.random.default_rng(0)
    images = []
    for k in range(60):
        wide = k % 2
        field = cv2.GaussianBlur(rng.standard_normal((32, 48 if wide else 32)), (0, 0), 2)
        pixels = cv2.resize(((field / field.std()) * 40 + 128).clip(0, 255).astype(np.uint8), (32, 32))
        images.append((pixels, "ab"[wide], f"s{k}", f"{'ab'[wide]}/p{k}.png"))
    with write(tmp_path / "a.zip", images) as archive:
        found = confounds(archive)
    assert found["steps across to steps down (squashing)"].strength == "gives away"


def test_few_subjects_are_not_asked(tmp_path):
    images = [(pixels_of(k), "ab"[k % 2], f"s{k}", f"{k % 2}.png") for k in range(18)]
    with write(tmp_path / "a.zip", images) as archive:
        assert find_confounds(archive, survey_pictures(archive)) == ()


def test_the_same_archive_gives_the_same_numbers(tmp_path):
    images = [(pixels_of(k), "ab"[k % 2], f"s{k // 2}", "x.png") for k in range(90)]
    with write(tmp_path / "a.zip", images) as archive:
        survey = survey_pictures(archive)
        assert find_confounds(archive, survey) == find_confounds(archive, survey)


def test_a_name_begins_before_its_first_digit():
    assert [name_stem(s) for s in ("NORMAL/IM-0115-0001.jpeg", "a/person1_virus_6.jpeg", "7.png")] == [
        "IM-", "person", "",
    ]  # fmt: skip


def test_empty_even_and_washed_out_pictures_are_named(tmp_path):
    even = np.full((16, 16), 100, np.uint8)
    even[0, 0] = 110
    white = random_pixels(5, size=16)
    white[:4] = 255
    pictures = [np.zeros((16, 16), np.uint8), np.full((16, 16), 7, np.uint8), even, white]
    pictures += [random_pixels(k + 20, size=16) for k in range(40)]
    pictures.append((random_pixels(99, size=16) // 16).astype(np.uint8))
    images = [(p, "a", f"s{k}", "") for k, p in enumerate(pictures)]
    with write(tmp_path / "a.zip", images) as archive:
        found = find_outliers(archive, survey_pictures(archive))
    assert [(item.row, item.kind) for item in found] == [
        (0, "blank"), (1, "blank"), (2, "nearly even"), (3, "washed out"), (44, "unlike its class"),
    ]  # fmt: skip
    assert found[0].reason == "black throughout" and "usual for a" in found[4].reason


def test_a_subject_that_joins_strangers_is_suspicious_where_labels_go_with_subjects(tmp_path):
    images = []
    for person in range(30):
        for k in range(3):
            images.append((random_pixels(person, k, size=8), "ab"[person % 2], f"p{person}", ""))
    images.append((random_pixels(99, size=8), "b", "p0", ""))
    with write(tmp_path / "a.zip", images) as archive:
        mixed = find_mixed(archive)
    assert mixed.is_suspicious and mixed.subjects == (("p0", (("a", 3), ("b", 1))),)
    assert "1 of 30 subjects with several images show several classes (23 would if" in mixed.describe()


def test_labels_that_vary_within_subjects_as_if_by_chance_are_suspicious_but_not_for_slices(tmp_path):
    images = [(random_pixels(p, k, size=8), "abc"[k % 3], f"p{p}", "") for p in range(10) for k in range(6)]
    with write(tmp_path / "a.zip", images) as archive:
        mixed = find_mixed(archive)
        assert mixed.num_mixed == mixed.num_several == 10 and mixed.is_suspicious
        assert "as if dealt at random: look whether these names join strangers" in mixed.advice
        archive.manifest["plane"] = "axial"
        assert not find_mixed(archive).is_suspicious


def test_subjects_whose_labels_agree_are_said_to_fit(tmp_path):
    images = [(random_pixels(p, k, size=8), "ab"[p % 2], f"p{p}", "") for p in range(12) for k in range(3)]
    with write(tmp_path / "a.zip", images) as archive:
        assert find_mixed(archive).is_consistent
        remarks = verify_archive(archive, look_for_alike=False).remarks
    assert any("none of 12 subjects with several images shows several classes (9 would" in r for r in remarks)
    with write(tmp_path / "b.zip", [(*image[:1], "a", *image[2:]) for image in images]) as archive:
        assert not find_mixed(archive).is_consistent  # one class says nothing


def test_ranges_side_by_side_are_said_as_one(tmp_path):
    images = []
    for k in range(160):
        label = "ab"[k % 2]
        images.append((pixels_of(k, 1.0 if label == "a" else 0.7), label, f"s{k}", "x.png"))
    with write(tmp_path / "a.zip", images) as archive:
        found = confounds(archive)["mean brightness"]
    (example,) = found.examples
    assert example[0].startswith("from " if found.tells == "a" else "below ") and example[1:] == (80, 80)
