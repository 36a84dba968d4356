"""Every recipe builds, trains two steps at a tiny size, and comes back from its folder the same."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from classifier.backbone_heads import DENOISER_NETWORKS
from classifier.models import OWN_NETWORKS, build_model, check_arch
from classifier.network import penultimate
from classifier.recipes import (
    ENCODER,
    PUBLISHED,
    RECIPES,
    find_recipe,
    from_chance,
    normalization_of,
    with_config,
    with_size,
)
from classifier.run import load_classifier
from classifier.stages import body_stages, head_parameters
from classifier.training import train_classifier
from extract.errors import SettingsError
from tests.classifier.toys import CLASSES, toy_images

# Networks whose weights take more than a fifth of a second to draw, or much memory to train.
LARGE = ("vit_base", "vgg", "densenet201", "resnet50", "inception")
TINY = {name: with_size(recipe, recipe.smallest_size) for name, recipe in RECIPES.items()}


def is_large(name: str) -> bool:
    return RECIPES[name].config.arch.startswith(LARGE)


def tiny_config(recipe, **changes):
    settings = {"steps": 2, "validate_every": 1, "batch_size": 8, "device": "cpu", "frozen_share": 0.5}
    if not recipe.config.frozen_share:
        settings.pop("frozen_share")
    return replace(recipe.config, **(settings | changes))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if is_large(name) else []) for name in RECIPES]
)
def test_a_recipe_trains_and_comes_back_from_its_folder_the_same(tmp_path, name):
    config = tiny_config(TINY[name])
    classifier = train_classifier(toy_images(24, seed=1), toy_images(12, seed=2), CLASSES, config)
    unseen = toy_images(4, seed=3).images
    probs = classifier.predict_probs(unseen)
    assert probs.shape == (4, 3) and np.isfinite(probs).all()
    classifier.save(tmp_path / "run")
    np.testing.assert_array_equal(load_classifier(tmp_path / "run", "cpu").predict_probs(unseen), probs)


@pytest.mark.parametrize("name", {recipe.config.arch: name for name, recipe in RECIPES.items()}.values())
def test_what_a_recipe_lets_learn_is_part_of_its_network(name):
    config = RECIPES[name].config
    size = config.preprocessing.size
    channels = config.preprocessing.output_shape((1, size, size))[0]
    with torch.device("meta"):
        model = build_model(config.arch, 4, channels, (size, size), head=config.head, dropout=config.dropout)
    stages = body_stages(model)
    found = [id(p) for group in (*stages, head_parameters(model)) for p in group]
    assert sorted(found) == sorted(id(p) for p in model.parameters())
    assert config.trained_stages is None or config.trained_stages < len(stages)
    with torch.device("meta"):
        x = torch.zeros(2, channels, size, size)
    width = config.head[-1] if config.head else penultimate(model.eval(), x).shape[1]
    assert penultimate(model.eval(), x).shape == (2, width) and model(x).shape == (2, 4)


@pytest.mark.parametrize("name", [name for name in RECIPES if RECIPES[name].start == PUBLISHED])
def test_each_published_network_gets_the_normalisation_it_was_published_with(name):
    config = RECIPES[name].config
    assert config.preprocessing.normalize == normalization_of(config.arch)


def test_recipes_of_our_own_networks_need_no_published_weights():
    for recipe in RECIPES.values():
        assert (recipe.start == PUBLISHED) != (recipe.config.arch in OWN_NETWORKS)
        assert (recipe.start == ENCODER) == (recipe.config.arch in DENOISER_NETWORKS)
        check_arch(recipe.config.arch, pretrained=recipe.start == PUBLISHED)


def test_normalisation_follows_the_publication():
    assert normalization_of("mobilenetv1_100") == "symmetric"
    assert normalization_of("resnet50") == "imagenet"
    assert normalization_of("small_resnet") == "dataset"
    with pytest.raises(SettingsError, match=r"vit_base_patch16_clip_224 was published for inputs of mean"):
        normalization_of("vit_base_patch16_clip_224")


def test_the_numbers_that_the_projects_state_stand_in_their_recipes():
    tumour = RECIPES["tumour-resnet50"]
    config = tumour.config
    assert (config.frozen_share * tumour.epochs, config.frozen_lr, config.lr) == (10, 1e-3, 1e-5)
    assert (config.dropout, config.loss, config.monitor, config.schedule) == (
        0.5,
        "binary",
        "auroc",
        "plateau",
    )
    assert (tumour.num_folds, tumour.val_share * 0.9) == (10, pytest.approx(0.1))
    inception = RECIPES["pneumonia-inceptionv3"].config
    assert inception.head == (1024, 512, 512) and inception.optimizer == "sgd"
    assert inception.trained_stages is None and inception.frozen_share == 0
    steps = inception.preprocessing
    assert (steps.brightness, steps.contrast, steps.size) == (0.7, 2.0, 299)
    for name, recipe in RECIPES.items():
        if name.startswith("lung-transfer"):
            config, variant = recipe.config, name.rsplit("-", 1)[1]
            assert config.trained_stages == (1 if variant == "unfrozen" else 0)
            assert (config.head, config.dropout) == (((), 0.0) if variant == "base" else ((1024, 512), 0.4))
    assert sum(name.startswith("lung-transfer") for name in RECIPES) == 5 * 3
    assert [RECIPES[f"lung-convnet-{n}"].config.balance_classes for n in (1, 2, 3, 4)] == [0, 1, 0, 0]


def test_a_size_changes_the_networks_input_and_the_archive_that_is_made_for_it():
    recipe = with_size(RECIPES["tumour-resnet50"], 96)
    assert (recipe.config.preprocessing.size, recipe.image_size) == (96, 128)
    assert recipe.config.preprocessing.crop == "content" and recipe.config.dropout == 0.5
    with pytest.raises(
        SettingsError, match="--size must be at least 75 for the recipe pneumonia-inceptionv3, got 64"
    ):
        with_size(RECIPES["pneumonia-inceptionv3"], 64)


def test_an_input_that_the_user_asks_for_gets_an_archive_large_enough():
    recipe = RECIPES["chest"]
    larger = replace(recipe.config, preprocessing={"size": 200})
    assert with_config(recipe, larger).image_size == 256
    as_stored = replace(recipe.config, preprocessing="clahe")  # names no size: images are shown as they are
    assert with_config(recipe, as_stored).image_size == recipe.image_size == 64


def test_from_chance_everything_learns_at_one_rate():
    for recipe in RECIPES.values():
        config = from_chance(recipe).config
        assert config.trained_stages is None and not config.frozen_share and config.stage_lr_ratio == 1
        assert config.peak_lr >= 1e-3 and config.head == recipe.config.head
        same = {"loss", "dropout", "optimizer", "preprocessing", "monitor", "batch_size"}
        assert all(getattr(config, name) == getattr(recipe.config, name) for name in same)


def test_a_misspelt_recipe_gets_close_names():
    with pytest.raises(SettingsError, match='no recipe named "tumor-resnet": did you mean tumour-resnet50'):
        find_recipe("tumor-resnet")


def test_recipes_are_plain_settings_that_a_file_can_hold():
    from extract.json_values import json_value

    for recipe in RECIPES.values():
        assert json.loads(json.dumps(json_value(asdict(recipe.config))))["arch"] == recipe.config.arch


def test_the_page_on_recipes_lists_every_one_of_them():
    page = (Path(__file__).parents[2] / "docs" / "recipes.md").read_text()
    assert [name for name in RECIPES if f"`{name}`" not in page] == []
