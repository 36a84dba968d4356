import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.duplicates import DEFAULT_MIN_LIKENESS, alike_subjects, describe_pair, find_alike
from extract.errors import ExtractError, SettingsError
from extract.fingerprints import (
    ORIENTATION_PAIRS,
    ORIENTATIONS,
    candidate_pairs,
    fine_structure,
    likely_orientations,
    take_fingerprints,
    turn,
)
from extract.near_duplicates import compare_places, correlate, find_near_duplicates
from extract.png import encode_png
from extract.survey import survey_pictures
from tests.extract.altering import ALTERATIONS, alter, brighten, people, shift
from tests.extract.making import rewrite_zip

NOBODY = -1


def near(thumbs: np.ndarray, owners=None, min_likeness: float = DEFAULT_MIN_LIKENESS):
    owners = np.full(len(thumbs), NOBODY) if owners is None else np.asarray(owners)
    return find_near_duplicates(thumbs, np.arange(len(thumbs)), owners, min_likeness=min_likeness)


@pytest.mark.parametrize("name", ALTERATIONS)
def test_an_altered_copy_is_found_among_people_who_look_alike(name):
    thumbs = people(40)
    found = near(np.concatenate([thumbs, alter(thumbs[7], name)[None]]))
    assert [(pair.row, pair.other) for pair in found] == [(7, 40)]


def test_people_who_look_alike_are_no_duplicates():
    thumbs = people(150, seed=3)
    assert np.corrcoef(thumbs[0].ravel(), thumbs[1].ravel())[0, 1] > 0.5
    assert near(thumbs) == []


def test_pictures_of_one_owner_are_not_compared_but_those_of_nobody_are():
    thumbs = people(6)
    thumbs = np.concatenate([thumbs, thumbs[:2, :, ::-1]])
    assert len(near(thumbs)) == 2
    assert [(p.row, p.other) for p in near(thumbs, [0, 1, 2, 3, 4, 5, 0, 2])] == [(1, 7)]


def test_small_and_even_pictures_are_left_alone():
    assert near(np.repeat(people(2, size=16), 2, axis=0)) == []
    assert near(np.stack([np.full((64, 64), level, np.uint8) for level in (0, 9, 200)])) == []


def test_a_likeness_outside_its_range_is_refused():
    with pytest.raises(SettingsError, match=r"--min-likeness must be between 0 and 1, got 1\.0"):
        near(people(2), min_likeness=1.0)


@pytest.mark.parametrize("orientation", range(len(ORIENTATIONS)))
def test_fingerprints_tell_neither_orientation_nor_shift_but_amplitudes_tell_the_orientation(orientation):
    thumbs = people(40)
    moved = np.roll(turn(thumbs[2], orientation), (3, -2), axis=(0, 1))  # cyclic: nothing is lost
    prints = take_fingerprints(np.concatenate([thumbs, moved[None]]))
    products = prints.blind[:40] @ prints.blind[40]
    assert products.argmax() == 2 and products[2] > 0.7 and np.sort(products)[-2] < 0.5
    (found,) = likely_orientations(prints.amplitudes, np.array([[40, 2]]))
    assert orientation in ORIENTATION_PAIRS[found]


def test_the_places_that_agree_least_decide():
    picture, other = people(2)
    half = picture.copy()
    half[:, 32:] = other[:, 32:]
    assert compare_places(picture, picture, (0.0, 0.0)) > 0.999
    assert compare_places(picture, brighten(picture), (0.0, 0.0)) > 0.93
    assert compare_places(picture, half, (0.0, 0.0)) < 0.8
    assert compare_places(picture, np.full_like(picture, 9), (0.0, 0.0)) == 0


def test_the_pair_tells_orientation_and_shift():
    thumbs = people(5)
    turned = np.ascontiguousarray(np.rot90(thumbs[2], -1))  # clockwise
    (pair,) = near(np.concatenate([thumbs, turned[None]]))
    assert np.array_equal(turn(turned, pair.orientation), thumbs[2])
    moved = shift(thumbs[3], 2, -1)
    (pair,) = near(np.concatenate([thumbs, moved[None]]))
    assert pair.orientation == 0 and np.allclose(np.array(pair.shift) * 64, [-2, 1], atol=0.2)
    assert "shifted by 3 %" in describe_pair(pair)


@given(down=st.floats(-4, 4), across=st.floats(-4, 4))
@settings(max_examples=20, deadline=None, derandomize=True)
def test_the_best_shift_is_found_to_a_fraction_of_a_pixel(down, across):
    picture = people(1, seed=5)[0]
    a, b = fine_structure(shift(picture, down, across)), fine_structure(picture)
    (likeness,), (found,) = correlate(a[None], b[None])
    assert likeness > 0.8 and np.allclose(found * 64, [down, across], atol=0.5)


def test_candidates_are_those_of_a_slow_search():
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((60, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    owners = rng.integers(-1, 4, 60)
    found = candidate_pairs(vectors, owners, min_product=0.7, max_per_picture=60)
    slow = [
        (i, j) for i in range(60) for j in range(i + 1, 60)
        if vectors[i] @ vectors[j] >= 0.7 and (owners[i] != owners[j] or owners[i] < 0)
    ]  # fmt: skip
    assert [tuple(pair) for pair in found.tolist()] == slow
    few = {
        tuple(pair) for pair in candidate_pairs(vectors, owners, min_product=0.7, max_per_picture=1).tolist()
    }
    for i in range(60):
        mine = [pair for pair in slow if i in pair]
        if mine:
            assert max(mine, key=lambda pair: vectors[pair[0]] @ vectors[pair[1]]) in few


def _write(path, images):
    with ArchiveWriter(path) as writer:
        for pixels, record in images:
            writer.add(np.ascontiguousarray(pixels), record)
    return open_archive(path)


def test_groups_join_chains_and_identical_copies_and_name_subjects_and_classes(tmp_path):
    thumbs = people(12)
    images = [(thumbs[k], ImageRecord(label="a", subject=f"s{k}")) for k in range(12)]
    images += [(thumbs[3][:, ::-1], ImageRecord(label="b", subject="x"))]
    images += [(alter(thumbs[3], "sharpened"), ImageRecord(label="a", subject="s3"))]
    images += [(thumbs[3], ImageRecord(label="a", subject="y"))]
    with _write(tmp_path / "a.zip", images) as archive:
        (group,) = find_alike(archive, survey_pictures(archive))
        assert group.rows == (3, 12, 13, 14) and group.subjects == ("s3", "x", "y")
        assert group.labels == ("a", "b") and group.crosses_classes and not group.is_identical
        assert alike_subjects(archive) == (("s3", "x", "y"),)


def test_slices_of_one_volume_are_no_duplicates_but_those_of_two_people_are(tmp_path):
    thumbs = people(8)

    def record(subject: str, index: int) -> ImageRecord:
        return ImageRecord(
            label="sagittal", subject=subject, plane="sagittal", angle_deg=0.0, slice_index=index
        )

    images = [(thumbs[k], record("p", k)) for k in range(4)]
    images += [(alter(thumbs[k], "shifted"), record("p", 4 + k)) for k in range(4)]
    images += [(thumbs[4 + k], record("q", k)) for k in range(4)]
    images += [(alter(thumbs[2], "brightened"), record("q", 9))]
    with _write(tmp_path / "a.zip", images) as archive:
        groups = find_alike(archive, survey_pictures(archive))
    assert [group.subjects for group in groups] == [("p", "q")]
    assert {2, 12} <= set(groups[0].rows)


def test_a_damaged_picture_stops_the_search_for_a_split(tmp_path):
    images = [(picture, ImageRecord(label="a", subject=f"s{k}")) for k, picture in enumerate(people(3))]
    path = _write(tmp_path / "a.zip", images).path
    forged = rewrite_zip(
        path, tmp_path / "b.zip", {"00000/img00000001.png": encode_png(people(1, seed=9)[0])}
    )
    with (
        open_archive(forged) as archive,
        pytest.raises(ExtractError, match=r"1 pictures differ.*extract verify"),
    ):
        alike_subjects(archive)
