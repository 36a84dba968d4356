import numpy as np
import pytest

from classifier.attention_share import mean_interval, measure_mask_share, share_outside
from classifier.errors import ClassifierError
from classifier.gradcam import grad_cam
from extract.pixel_steps import apply_steps, place_mask
from extract.preprocessing import PreprocessConfig
from tests.classifier.served import toy_table, untrained


def test_the_share_outside_is_that_of_the_mass():
    maps = np.zeros((3, 2, 2))
    maps[0] = [[3, 1], [0, 0]]
    maps[1] = 1
    masks = np.zeros((3, 2, 2), bool)
    masks[:, 0, 0] = True
    np.testing.assert_array_equal(share_outside(maps, masks), [0.25, 0.75, np.nan])
    with pytest.raises(ValueError, match="the maps' shape"):
        share_outside(maps, masks[:, :1])


def test_the_whole_picture_as_mask_leaves_nothing_outside_and_half_of_it_is_judged_by_a_uniform_map():
    images = toy_table(6, size=64)
    classifier = untrained(images)
    subjects = np.array(["a", "a", "b", "b", "c", "c"])
    full = measure_mask_share(classifier, images, lambda row: np.ones((64, 64), np.uint8), subjects)
    assert full.share == 0 and full.uniform == 0 and full.num_subjects == 3 and full.cells == (4, 4)
    half = np.zeros((64, 64), np.uint8)
    half[:32] = 255
    found = measure_mask_share(classifier, images, lambda row: half, subjects, batch_size=4)
    maps, _ = grad_cam(classifier, images)
    expected = maps[:, 32:].sum(axis=(1, 2)) / maps.sum(axis=(1, 2))
    assert found.share == pytest.approx(expected.mean(), abs=1e-5)
    assert found.uniform == 0.5 and 0 < found.attainable < 0.2  # half a cell bleeds over the edge
    low, high = found.interval
    assert low <= found.share <= high
    assert found.to_json()["numbers"]["share of Grad-CAM mass outside the mask"][0] == found.share


def test_images_without_a_mask_are_counted_and_all_without_is_an_error():
    images = toy_table(4, size=64)
    classifier = untrained(images)
    mask = np.ones((64, 64), np.uint8)
    found = measure_mask_share(
        classifier, images, lambda row: None if row == 1 else mask * (row != 2), np.array(["s"] * 4)
    )
    assert (found.num_images, found.num_without_mask, found.interval) == (2, 2, None)
    with pytest.raises(ClassifierError, match="4 without a mask"):
        measure_mask_share(classifier, images, lambda row: None, np.array(["s"] * 4))


def test_the_interval_draws_subjects_so_that_repeated_images_do_not_narrow_it():
    rng = np.random.default_rng(0)
    values = rng.random(20)
    subjects = np.array([f"s{k}" for k in range(20)])
    once = mean_interval(values, subjects)
    assert once == pytest.approx(mean_interval(np.repeat(values, 5), np.repeat(subjects, 5)))
    by_image = mean_interval(np.repeat(values, 5), np.array([""] * 100))
    assert by_image[1] - by_image[0] < 0.6 * (once[1] - once[0])
    assert mean_interval(values, np.array(["one"] * 20)) is None


@pytest.mark.parametrize(
    "steps",
    [
        PreprocessConfig(),
        PreprocessConfig(crop="center", crop_share=0.5),
        PreprocessConfig(crop="content"),
        PreprocessConfig(crop="content", size=40, color="rgb"),
        PreprocessConfig(mask="otsu", size=16),
    ],
    ids=lambda steps: f"{steps.crop}-{steps.size}",
)
def test_a_mask_is_placed_as_its_image_is(steps):
    image = np.zeros((1, 32, 32), np.uint8)
    image[0, 6:20, 4:24] = 250  # what is bright is the mask itself
    made = apply_steps(image[None], steps)[0, 0]
    placed = place_mask(image, (image[0] > 0).astype(np.uint8), steps)
    assert placed.shape == made.shape
    assert ((placed > 0) == (made > 125)).mean() > 0.95
    assert set(np.unique(placed)) <= {0, 1}
