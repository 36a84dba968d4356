import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.distance import cdist
from sklearn.metrics import f1_score, jaccard_score

from classifier.segment_measures import MEASURES, edge_distances, mean_measures, measure_mask
from tests.classifier.phantom_lungs import ellipse, phantom


def masks(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two masks that differ: one is moved, rough, and reaches the picture's border."""
    truth = phantom(48, seed)[1]
    rng = np.random.default_rng(seed)
    predicted = np.roll(truth, rng.integers(-3, 4, 2), (0, 1)) ^ (rng.random(truth.shape) < 0.02)
    predicted[:, 0] = True
    return predicted, truth


@pytest.mark.parametrize("seed", range(4))
def test_overlap_agrees_with_scikit_learn(seed):
    predicted, truth = masks(seed)
    measured = measure_mask(predicted, truth)
    assert measured["dice"] == pytest.approx(f1_score(truth.ravel(), predicted.ravel()))
    assert measured["iou"] == pytest.approx(jaccard_score(truth.ravel(), predicted.ravel()))


@pytest.mark.parametrize("seed", range(4))
def test_edge_distances_agree_with_simpleitk_and_with_all_pairs(seed):
    predicted, truth = masks(seed)

    def contour(mask: np.ndarray) -> np.ndarray:
        padded = sitk.GetImageFromArray(np.pad(mask, 1).astype(np.uint8))  # beyond the border is outside
        return sitk.GetArrayFromImage(sitk.LabelContour(padded, fullyConnected=False)) > 0

    def distances(source: np.ndarray, to: np.ndarray) -> np.ndarray:
        image = sitk.GetImageFromArray(to.astype(np.uint8))
        field = sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=False)
        return np.abs(sitk.GetArrayFromImage(field))[source]

    edge_a, edge_b = contour(predicted), contour(truth)
    there, back = edge_distances(predicted, truth)
    np.testing.assert_allclose(np.sort(there), np.sort(distances(edge_a, edge_b)), atol=1e-4)
    np.testing.assert_allclose(np.sort(back), np.sort(distances(edge_b, edge_a)), atol=1e-4)
    table = cdist(np.argwhere(edge_a), np.argwhere(edge_b))
    measured = measure_mask(predicted, truth)
    expected = max(np.percentile(table.min(axis=1), 95), np.percentile(table.min(axis=0), 95))
    assert measured["hd95_px"] == pytest.approx(expected)
    mean = np.concatenate([table.min(axis=1), table.min(axis=0)]).mean()
    assert measured["asd_px"] == pytest.approx(mean)


def test_a_mask_that_is_moved_by_three_pixels_is_three_pixels_off():
    square = np.zeros((32, 32), bool)
    square[8:20, 8:20] = True
    measured = measure_mask(np.roll(square, 3, axis=1), square)
    assert measured["hd95_px"] == 3 and 0 < measured["asd_px"] < 3
    same = measure_mask(square, square)
    assert same == {"dice": 1, "iou": 1, "hd95_px": 0, "asd_px": 0}


def test_an_empty_prediction_has_no_overlap_and_no_distance():
    truth = ellipse(32, (0.5, 0.5), (0.3, 0.3))
    measured = measure_mask(np.zeros_like(truth), truth)
    assert measured["dice"] == 0 and np.isnan(measured["hd95_px"]) and np.isnan(measured["asd_px"])
    assert np.isnan(measure_mask(truth, np.zeros_like(truth))["dice"])  # nothing to agree with


def test_masks_of_two_sizes_are_refused():
    with pytest.raises(ValueError, match="of one size"):
        measure_mask(np.ones((4, 4)), np.ones((4, 5)))


def rows(values: np.ndarray) -> list[dict[str, float]]:
    return [dict.fromkeys(MEASURES, float(value)) for value in values]


def test_intervals_widen_where_images_of_one_subject_resemble_each_other():
    values = np.random.default_rng(0).normal(0.9, 0.05, 30)
    repeated = np.repeat(values, 4)
    by_subject = mean_measures(rows(repeated), [f"s{i // 4}" for i in range(120)])["dice"]
    by_image = mean_measures(rows(repeated), [f"i{i}" for i in range(120)])["dice"]
    once = mean_measures(rows(values), [f"s{i}" for i in range(30)])["dice"]
    assert by_subject.mean == pytest.approx(values.mean()) == pytest.approx(by_image.mean)
    assert by_subject.high - by_subject.low > 1.6 * (by_image.high - by_image.low)
    assert (by_subject.low, by_subject.high) == pytest.approx((once.low, once.high), abs=0.004)
    deviation = values.std(ddof=1) / np.sqrt(30)
    assert once.high - once.low == pytest.approx(2 * 1.96 * deviation, rel=0.2)


def test_undefined_values_leave_the_mean_and_are_counted():
    found = mean_measures(rows(np.array([0.5, np.nan, 0.7])), ["a", "b", "c"])["asd_px"]
    assert (found.mean, found.num_images, found.num_undefined) == (pytest.approx(0.6), 2, 1)
    lost = mean_measures(rows(np.array([np.nan])), ["a"])["asd_px"]
    assert np.isnan(lost.mean) and lost.num_undefined == 1


def test_one_subject_has_a_mean_but_no_interval():
    found = mean_measures(rows(np.array([0.5, 0.7])), ["a", "a"])["dice"]
    assert found.mean == pytest.approx(0.6) and np.isnan(found.low) and np.isnan(found.high)
