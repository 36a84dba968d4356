from dataclasses import replace

import numpy as np
import pytest
import torch

from classifier.averaging import WARM_UP
from classifier.config import ClassifierConfig
from classifier.data import ImageTable
from classifier.losses import log_probability_scores
from classifier.models import build_model
from classifier.phases import Phase, look_lengths, plan_phases, rate_groups
from classifier.preprocess import fit_preprocessing
from classifier.stages import body_stages, head_parameters
from classifier.training import make_network, train_classifier
from extract.errors import SettingsError
from tests.classifier.toys import CLASSES, toy_images

QUICK = ClassifierConfig(steps=6, batch_size=16, validate_every=3)


def train_quickly(**changes):
    return train_classifier(
        toy_images(48, seed=1), toy_images(18, seed=2), CLASSES, replace(QUICK, **changes)
    )


def initial_state(config: ClassifierConfig) -> dict[str, torch.Tensor]:
    preprocessing = fit_preprocessing(toy_images(48, seed=1).images)
    return make_network(config, len(CLASSES), preprocessing).state_dict()


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, value in after.items() if not torch.equal(value, before[name])}


def test_phases_use_up_the_budget_and_looks_use_up_a_phase():
    phases = plan_phases(
        ClassifierConfig(steps=10, frozen_share=0.3, frozen_lr=0.1, lr=0.01, trained_stages=2)
    )
    assert phases == [Phase(3, 0, 0.1), Phase(7, 2, 0.01)]
    assert plan_phases(ClassifierConfig(steps=10, lr=0.01)) == [Phase(10, None, 0.01)]
    assert look_lengths(Phase(7, None, 1.0), 3) == [3, 3, 1]


def test_a_frozen_body_does_not_move_not_even_its_moments():
    before = initial_state(QUICK)
    after = train_quickly(trained_stages=0, keep="last").model.state_dict()
    assert changed(before, after) == {"head.weight", "head.bias"}


def test_the_last_stages_learn_and_the_first_rest():
    before = initial_state(QUICK)
    moved = changed(before, train_quickly(trained_stages=1, keep="last").model.state_dict())
    assert any(name.startswith("blocks.2") for name in moved)
    assert not any(name.startswith(("stem", "blocks.0", "blocks.1")) for name in moved)


def test_the_body_wakes_up_after_the_frozen_share():
    seen: list[tuple[int, bool]] = []
    before = initial_state(QUICK)

    def look(step: int, measured: dict[str, float]) -> None:
        seen.append((step, np.isfinite(measured["nll"])))

    classifier = train_classifier(
        toy_images(48, seed=1),
        toy_images(18, seed=2),
        CLASSES,
        replace(QUICK, frozen_share=0.5, keep="last"),
        on_look=look,
    )
    assert [step for step, _ in seen] == [3, 6]
    assert "stem.weight" in changed(before, classifier.model.state_dict())


def test_frozen_normalisation_keeps_its_moments_while_its_weights_learn():
    before = initial_state(QUICK)
    moved = changed(before, train_quickly(freeze_norm=True, keep="last").model.state_dict())
    assert "stem_norm.weight" in moved
    assert not any("running" in name for name in moved)


def test_rates_grow_from_the_first_stage_to_the_head():
    model = build_model("small_resnet", 3, 1, (16, 16))
    groups = rate_groups(model, Phase(5, None, 0.1), stage_lr_ratio=0.01)
    lr_of = {id(p): group.lr for group in groups for p in group.parameters}
    stages = [*body_stages(model), head_parameters(model)]
    rates = [{lr_of[id(p)] for p in stage} for stage in stages]
    assert all(len(rate) == 1 for rate in rates)
    row = [rate.pop() for rate in rates]
    assert row[0] == pytest.approx(0.001) and row[-1] == pytest.approx(0.1)
    assert np.allclose(np.diff(np.log(row)), np.log(100) / (len(row) - 1))
    assert all((p.ndim > 1) == group.decays for group in groups for p in group.parameters)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("schedule", ["one_cycle", "constant", "plateau"])
def test_every_optimiser_and_schedule_trains_to_the_same_bits_again(optimizer, schedule):
    settings = {"optimizer": optimizer, "schedule": schedule, "lr": 0.01, "steps": 4, "frozen_share": 0.25}
    first, again = train_quickly(**settings), train_quickly(**settings)
    for a, b in zip(first.model.state_dict().values(), again.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_resting_monitor_lowers_the_rate_and_then_ends_the_training():
    classifier = train_quickly(
        steps=40, validate_every=2, lr=1e-9, schedule="plateau", plateau_patience=2, plateau_factor=0.5,
        patience=5, freeze_norm=True, augment=False,
    )  # fmt: skip
    rates = classifier.history["lr"].to_numpy() / 1e-9
    assert rates.tolist() == [1.0, 1.0, 1.0, 0.5, 0.5, 0.25]  # five looks after the first, and no more


def test_patience_keeps_the_best_look_which_is_not_the_last():
    classifier = train_quickly(steps=60, validate_every=3, lr=0.05, patience=3, monitor="nll")
    history = classifier.history
    best = history["val_nll"].idxmin()
    assert len(history) - 1 - best == 3 or len(history) == 20
    val = toy_images(18, seed=2)
    logits = classifier.predict_logits(val.images).astype(np.float64)
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    assert -log_probs[np.arange(18), val.labels].mean() == pytest.approx(history["val_nll"][best], abs=1e-5)


def test_the_average_of_the_weights_is_what_is_judged_and_kept():
    plain = [
        train_quickly(steps=n, validate_every=n, keep="last", schedule="constant", lr=0.01) for n in (1, 2, 3)
    ]
    averaged = train_quickly(steps=3, validate_every=3, schedule="constant", lr=0.01, ema=0.9)
    weight = initial_state(QUICK)["stem.weight"].clone()
    for n, classifier in enumerate(plain):
        decay = min(0.9, (1 + n) / (WARM_UP + n))
        weight = decay * weight + (1 - decay) * classifier.model.state_dict()["stem.weight"]
    assert torch.allclose(averaged.model.state_dict()["stem.weight"], weight, atol=1e-6)


def test_a_sigmoid_head_predicts_normalised_sigmoids():
    classifier = train_quickly(loss="binary", calibrate=False)
    images = toy_images(6, seed=3).images
    batch = classifier.preprocessing.to_batch(images.gather(np.arange(6)))
    with torch.inference_mode():
        outputs = classifier.model(batch)
    sigmoids = torch.sigmoid(outputs).double().numpy()
    expected = sigmoids / sigmoids.sum(axis=1, keepdims=True)
    assert np.allclose(classifier.predict_probs(images), expected, atol=1e-6)
    assert torch.allclose(classifier.network_output(batch), log_probability_scores(outputs, "binary"))


def test_views_change_the_output_of_an_image_by_that_image_alone():
    plain = train_quickly(steps=3)
    plain.config = replace(plain.config, tta=3)
    images = toy_images(10, seed=4).images
    together = plain.predict_logits(images)
    alone = np.concatenate([plain.predict_logits(images.subset(np.array([k]))) for k in range(10)])
    assert np.allclose(together, alone, atol=1e-5)
    plain.config = replace(plain.config, tta=0)
    assert not np.allclose(together, plain.predict_logits(images), atol=1e-5)
    flat = ImageTable(np.full((2, 1, 16, 16), 90, np.uint8))  # no view differs but in brightness and contrast
    assert np.isfinite(plain.predict_logits(flat)).all()


def test_a_look_may_end_the_training():
    class Enough(Exception):
        pass

    def look(step: int, measured: dict[str, float]) -> None:
        raise Enough(str(step))

    with pytest.raises(Enough, match="3"):
        train_classifier(toy_images(48, seed=1), toy_images(18, seed=2), CLASSES, QUICK, on_look=look)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"loss": "hinge"}, 'loss must be one of cross_entropy, focal, binary, got "hinge"'),
        ({"ema": 1.0}, r"ema must be in \(0, 1\), got 1.0"),
        ({"frozen_share": 1.0}, r"frozen_share must be in \[0, 1\)"),
        ({"trained_stages": -1}, "trained_stages must not be negative, got -1"),
        ({"pretrained": True, "weights": "file.pth"}, "leave one of them out"),
        ({"stage_lr_ratio": 2.0}, r"stage_lr_ratio must be in \(0, 1\]"),
        ({"head": (0,)}, "head must be widths of at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, sentence):
    with pytest.raises(SettingsError, match=sentence):
        ClassifierConfig(**settings)
