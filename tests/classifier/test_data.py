from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from classifier.data import ImageTable, LabeledImages, real_part, shuffled_indices
from classifier.errors import ClassifierError
from tests.classifier.toys import toy_images


def numbered(start: int, count: int) -> np.ndarray:
    """(count, 1, 2, 2) images that hold their own number."""
    return np.repeat(np.arange(start, start + count, dtype=np.uint8), 4).reshape(count, 1, 2, 2)


def test_a_table_gathers_the_rows_it_refers_to_in_any_order():
    table = ImageTable(numbered(0, 6), rows=np.array([5, 1, 3]))
    assert len(table) == 3
    assert table.gather(np.array([2, 0, 0]))[:, 0, 0, 0].tolist() == [3, 5, 5]


def test_tables_join_without_copying_and_keep_their_order():
    first, second = numbered(0, 4), numbered(10, 4)
    real, synthetic = ImageTable(first, np.array([3, 0])), ImageTable(second, np.array([1]))
    joined = ImageTable.concat([real, synthetic, ImageTable(first, np.array([2]))])
    assert joined.gather(np.arange(4))[:, 0, 0, 0].tolist() == [3, 0, 11, 2]
    assert joined.gather(np.array([2, 3, 0]))[:, 0, 0, 0].tolist() == [11, 2, 3]
    first[0] = 77  # seen through the reference
    assert joined.gather(np.array([1]))[0, 0, 0, 0] == 77


def test_joined_tables_join_again():
    twice = ImageTable.concat([ImageTable(numbered(0, 2)), ImageTable(numbered(10, 2))])
    thrice = ImageTable.concat([ImageTable(numbered(20, 1)), twice.subset(np.array([3, 0]))])
    assert thrice.gather(np.arange(3))[:, 0, 0, 0].tolist() == [20, 11, 0]


def test_tables_of_different_shapes_do_not_join():
    with pytest.raises(ClassifierError, match="share one shape"):
        ImageTable.concat([ImageTable(numbered(0, 2)), ImageTable(np.zeros((2, 1, 4, 4), np.uint8))])


def test_a_row_outside_the_array_is_refused():
    with pytest.raises(ClassifierError, match=r"0 \.\.\. 1, got 0 \.\.\. 2"):
        ImageTable(numbered(0, 2), np.array([0, 2]))


def test_pixels_that_are_not_uint8_are_refused():
    with pytest.raises(ClassifierError, match="got float32"):
        ImageTable(np.zeros((2, 1, 4, 4), np.float32))


def test_joining_hard_and_soft_labels_makes_one_hot_rows():
    hard, soft = toy_images(2, seed=1), toy_images(2, seed=2)
    soft = replace(
        soft, labels=np.array([[0.5, 0.25, 0.25], [0, 0.5, 0.5]], np.float32), weights=np.array([2.0, 0.5])
    )
    joined = LabeledImages.concat([hard, soft])
    assert joined.labels[:2].tolist() == [[1, 0, 0], [0, 1, 0]]
    assert joined.labels[2].tolist() == [0.5, 0.25, 0.25]
    assert joined.weights is not None and joined.weights.tolist() == [1, 1, 2, 0.5]


@pytest.mark.parametrize("rows", [[[0.7, 0.7, 0.1]], [[1.2, -0.2, 0.0]]])
def test_soft_labels_that_are_no_probabilities_are_refused(rows):
    images = replace(toy_images(1, seed=1), labels=np.array(rows, np.float32))
    with pytest.raises(ClassifierError, match="must be probabilities"):
        images.soft_labels(3)


def test_an_unlabeled_image_cannot_become_a_target():
    with pytest.raises(ClassifierError, match="leave unlabeled images"):
        replace(toy_images(2, seed=1), labels=np.array([0, -1])).soft_labels(3)


def test_parallel_arrays_must_have_one_length():
    with pytest.raises(ValueError, match="subjects must have one entry an image"):
        replace(toy_images(4, seed=1), subjects=np.array(["a"]))


def test_every_image_is_drawn_equally_often_even_from_fewer_images_than_a_batch():
    drawn = np.concatenate(list(shuffled_indices(5, batch_size=8, num_steps=10, seed=3)))
    assert len(drawn) == 80
    assert np.bincount(drawn).tolist() == [16] * 5
    assert drawn[:5].tolist() != drawn[5:10].tolist()


def archive_and_split(labels: list[int], rows: list[int]):
    archive = SimpleNamespace(
        labels=np.array(labels), subjects=np.array([f"s{i}" for i in range(len(labels))]), path="planes.zip"
    )
    return archive, SimpleNamespace(rows=lambda *_: np.array(rows, dtype=np.int64))


def test_a_part_takes_the_rows_that_the_split_names():
    archive, split = archive_and_split([0, 1, 2, 1], rows=[1, 3])
    part = real_part(archive, numbered(0, 4), split, 0, "train")
    assert part.subjects.tolist() == ["s1", "s3"] and part.labels.tolist() == [1, 1]
    assert set(part.origin) == {"real"} and not part.is_pseudo.any()


def test_a_part_without_labels_is_refused_unless_it_is_the_unlabeled_one():
    archive, split = archive_and_split([0, -1], rows=[0, 1])
    with pytest.raises(ClassifierError, match="1 images in part train of fold 0 have no label"):
        real_part(archive, numbered(0, 2), split, 0, "train")
    assert len(real_part(archive, numbered(0, 2), split, 0, "unlabeled")) == 2


def test_an_empty_part_is_refused():
    archive, split = archive_and_split([0, 1], rows=[])
    with pytest.raises(ClassifierError, match=r"part val of fold 2 at fraction 0\.5 has no image"):
        real_part(archive, numbered(0, 2), split, 2, "val", 0.5)
