"""Our networks as a scikit-learn estimator."""

import re
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_parameters_default_constructible

from classifier import ClassifierConfig, ImageClassifier
from classifier.data import ImageTable
from classifier.errors import ClassifierError
from extract.errors import SettingsError
from tests.classifier.toys import toy_pixels

TINY = ClassifierConfig(steps=6, batch_size=8, validate_every=3, device="cpu", augment=False)


@pytest.fixture(scope="module")
def toys():
    labels = np.arange(40) % 2
    pictures = toy_pixels(labels, 16, seed=0)
    return pictures.reshape(40, 16, 16), np.array(["left", "right"])[labels], np.arange(40) // 4


@pytest.fixture(scope="module")
def fitted(toys):
    return ImageClassifier(TINY, random_state=0).fit(*toys)


def test_it_trains_our_network_and_speaks_in_the_given_classes(toys, fitted):
    pictures, labels, _ = toys
    probs = fitted.predict_proba(pictures)
    assert probs.shape == (40, 2) and probs.sum(axis=1) == pytest.approx(np.ones(40))
    assert set(fitted.predict(pictures)) <= {"left", "right"} == set(fitted.classes_)
    direct = fitted.classifier_.predict_probs(ImageTable(pictures[:, None]))
    assert (probs == direct).all() and fitted.classifier_.classes == ("left", "right")
    assert 0 <= fitted.score(pictures, labels) <= 1 and len(fitted.history_) == 2


def test_people_held_out_for_the_checkpoint_do_not_train(fitted, toys):
    network = fitted.classifier_
    assert len(network.val_subjects) == 2 and len(network.train_subjects) == 8
    assert not set(network.val_subjects) & set(network.train_subjects)


def test_the_seed_decides_and_a_channel_axis_changes_nothing(toys, fitted):
    pictures, labels, people = toys
    again = ImageClassifier(TINY, random_state=0).fit(pictures[:, None], labels, people)
    other = ImageClassifier(TINY, random_state=1).fit(pictures, labels, people)
    assert (again.predict_proba(pictures) == fitted.predict_proba(pictures)).all()
    assert (other.predict_proba(pictures) != fitted.predict_proba(pictures)).any()


def test_pictures_of_weight_zero_take_no_part(toys):
    pictures, labels, _ = toys
    own = {"X_val": pictures[30:], "y_val": labels[30:]}
    weights = np.r_[np.ones(20), np.zeros(10)]
    whole = ImageClassifier(TINY).fit(pictures[:30], labels[:30], sample_weight=weights, **own)
    part = ImageClassifier(TINY).fit(pictures[:20], labels[:20], sample_weight=weights[:20], **own)
    assert (whole.predict_proba(pictures) == part.predict_proba(pictures)).all()


def test_parameters_are_those_of_an_estimator():
    original = ImageClassifier(TINY, validation=0.3, random_state=4)
    copy = clone(original)
    assert copy.get_params() == {"settings": TINY, "validation": 0.3, "random_state": 4}
    assert copy.set_params(validation=0.5).validation == 0.5 and original.validation == 0.3
    check_parameters_default_constructible("ImageClassifier", original)
    assert get_tags(original).input_tags.three_d_array and not get_tags(original).input_tags.two_d_array


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"X": np.zeros((40, 16, 16))},
            ClassifierError,
            "expected pictures as (N, H, W) or (N, C, H, W) uint8",
        ),
        ({"X": np.zeros((40, 256), np.uint8)}, ClassifierError, "got uint8 of shape (40, 256)"),
        ({"y": np.arange(39) % 2}, ValueError, "y: expected one entry a picture (40)"),
        ({"sample_weight": [1, 2]}, ValueError, "sample_weight: expected one entry a picture"),
        ({"groups": [1, 2]}, ValueError, "groups: expected one entry a picture"),
        (
            {"X_val": np.zeros((1, 16, 16), np.uint8), "y_val": ["up"]},
            ValueError,
            "expected the classes of y, got up",
        ),
    ],
)
def test_what_does_not_fit_is_refused(toys, change, error, message):
    pictures, labels, people = toys
    with warnings.catch_warnings(), pytest.raises(error, match=re.escape(message)):
        warnings.simplefilter("error")
        ImageClassifier(TINY).fit(**{"X": pictures, "y": labels, "groups": people, **change})


def test_a_share_must_be_one(toys):
    with pytest.raises(SettingsError, match="validation: expected a share between 0 and 1, got 2"):
        ImageClassifier(TINY, validation=2).fit(*toys)
