"""Options, presets and the official rules that turn them into numbers."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from extract.errors import SettingsError
from gan.config import PRESETS, TrainConfig, config_from_json, config_to_json, describe, make_recipe

CONFIG = TrainConfig(data=Path("slices.zip"), outdir=Path("runs"))


def recipe(resolution: int = 256, on_gpu: bool = True, **options):
    return make_recipe(replace(CONFIG, **options), resolution, img_channels=3, c_dim=0, on_gpu=on_gpu)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"gpus": 3}, "--gpus must be a power of two"),
        ({"gpus": 4, "batch": 6}, "--batch must be at least 1 and divisible by --gpus"),
        ({"snap": 0}, "--snap must be at least 1"),
        ({"best": "fid@pixels", "metrics": "none"}, "--best=fid@pixels needs --metrics that measure it"),
        ({"keep": 0}, "--keep must be at least 1"),
        ({"extractor": ("task",)}, "--extractor must be NAME=PATH, got 'task'"),
        ({"cfg": "huge"}, "--cfg must be one of auto, stylegan2"),
        ({"gamma": -1.0}, "--gamma must be non-negative"),
        ({"kimg": 0.0}, "--kimg must be at least 1"),
        ({"batch": 0}, "--batch must be at least 1 and divisible by --gpus"),
        ({"subset": 0}, "--subset must be at least 1"),
        ({"aug": "some"}, "--aug must be one of noaug, ada, fixed"),
        ({"aug": "fixed"}, "--aug=fixed requires specifying --p"),
        ({"p": 0.5}, "--p can only be specified with --aug=fixed"),
        ({"aug": "fixed", "p": 1.5}, "--p must be between 0 and 1"),
        ({"aug": "noaug", "target": 0.5}, "--target can only be specified with --aug=ada"),
        ({"target": 2.0}, "--target must be between 0 and 1"),
        ({"augpipe": "all"}, "--augpipe must be one of blit"),
        ({"aug": "noaug", "augpipe": "bg"}, "--augpipe cannot be specified with --aug=noaug"),
        ({"freezed": -1}, "--freezed must be non-negative"),
        ({"workers": 0}, "--workers must be at least 1"),
        ({"precision": "fp8"}, "--precision must be one of fp32, bf16, fp16"),
        ({"fp32": True, "precision": "bf16"}, "--fp32 and --precision=bf16 contradict each other"),
        ({"device": "tpu"}, "--device must be one of auto, cpu, cuda"),
        ({"grid": (0, 4)}, "--grid must name at least 1x1 images"),
        ({"fold": -1}, "--fold must be at least 0"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_the_words_of_the_flags(options: dict, sentence: str):
    with pytest.raises(SettingsError, match=re.escape(sentence)):
        replace(CONFIG, **options)


@pytest.mark.parametrize(
    ("resolution", "batch", "gamma", "ema_kimg"),
    [(32, 32, 0.0064, 10), (128, 32, 0.1024, 10), (256, 16, 0.8192, 5), (1024, 4, 52.4288, 1.25)],
)
def test_auto_follows_the_resolution(resolution: int, batch: int, gamma: float, ema_kimg: float):
    made = recipe(resolution)
    assert (made.batch_size, made.ema_kimg) == (batch, ema_kimg)
    assert made.r1_gamma == pytest.approx(gamma)
    assert made.lr == (0.002 if resolution == 1024 else 0.0025)
    assert made.channel_base == (32768 if resolution >= 512 else 16384)
    assert (made.mapping_layers, made.mbstd_group, made.ema_ramp) == (2, 4, 0.05)


def test_auto_adapts_gamma_and_ema_to_the_batch_given():
    made = recipe(256, batch=32)
    assert made.r1_gamma == pytest.approx(0.0002 * 256**2 / 32)
    assert made.ema_kimg == 10


@pytest.mark.parametrize(
    ("cfg", "numbers"),
    [
        ("stylegan2", (25000, 32, 4, 4, 32768, 0.002, 10, 10, None, 8)),
        ("paper256", (25000, 64, 8, 8, 16384, 0.0025, 1, 20, None, 8)),
        ("paper512", (25000, 64, 8, 8, 32768, 0.0025, 0.5, 20, None, 8)),
        ("paper1024", (25000, 32, 4, 4, 32768, 0.002, 2, 10, None, 8)),
        ("cifar", (100000, 64, 32, 32, 32768, 0.0025, 0.01, 500, 0.05, 2)),
    ],
)
def test_presets_have_the_published_numbers(cfg: str, numbers: tuple):
    made = recipe(256, cfg=cfg)
    assert numbers == (
        made.total_kimg, made.batch_size, made.batch_gpu, made.mbstd_group, made.channel_base, made.lr,
        made.r1_gamma, made.ema_kimg, made.ema_ramp, made.mapping_layers,
    )  # fmt: skip
    assert (made.latent_dim, made.channel_max) == (512, 512)


def test_cifar_goes_without_path_length_and_style_mixing():
    made = recipe(32, cfg="cifar")
    assert (made.pl_weight, made.style_mixing_prob, made.d_architecture) == (0, 0, "orig")


def test_the_minibatch_group_always_divides_what_passes_at_a_time():
    for batch in (1, 2, 6, 7, 12, 30):
        made = recipe(256, cfg="paper256", batch=batch)
        assert made.batch_gpu % made.mbstd_group == 0


def test_precision_is_the_official_one_on_a_gpu_and_full_on_a_cpu():
    assert (recipe().num_fp16_res, recipe().conv_clamp) == (4, 256)
    assert (recipe(on_gpu=False).num_fp16_res, recipe(on_gpu=False).conv_clamp) == (0, None)
    assert (recipe(fp32=True).num_fp16_res, recipe(fp32=True).conv_clamp) == (0, None)
    half = recipe(on_gpu=False, precision="bf16")
    assert (half.num_fp16_res, half.low_precision, half.conv_clamp) == (4, "bf16", None)


def test_starting_from_weights_quickens_ada_and_drops_the_ramp():
    made = make_recipe(CONFIG, 256, 3, 0, on_gpu=False, from_snapshot=True)
    assert (made.ada_kimg, made.ema_ramp) == (100, None)


def test_noaug_has_no_pipe_and_fixed_keeps_p():
    assert recipe(aug="noaug").augment_p is None
    fixed = recipe(aug="fixed", p=0.3)
    assert (fixed.augment_p, fixed.ada_target) == (0.3, None)
    assert recipe().augmentations == recipe(augpipe="bgc").augmentations


def test_run_names_are_built_as_the_official_ones():
    assert describe(CONFIG, "mydataset", None) == "mydataset-auto1"
    config = replace(
        CONFIG, cond=True, subset=100, mirror=True, cfg="paper256", gamma=0.25, kimg=800.0, batch=16,
        aug="ada", target=0.7, augpipe="bg", resume="noresume", freezed=4,
    )  # fmt: skip
    assert describe(config, "chest64", 100) == (
        "chest64-cond-subset100-mirror-paper256-gamma0.25-kimg800-batch16-ada-target0.7-bg-noresume-freezed4"
    )
    assert describe(replace(CONFIG, mirror=True, aug="ada"), "chest64", None) == "chest64-mirror-auto1-ada"


def test_settings_survive_their_json():
    config = replace(CONFIG, data=Path("a.zip").resolve(), outdir=Path("b").resolve(), grid=(3, 2), gamma=0.1)
    assert config_from_json(config_to_json(config)) == config


def test_the_small_preset_is_small():
    made = recipe(32, on_gpu=False, cfg="small")
    assert (made.channel_base, made.channel_max, made.batch_size) == (512, 128, 16)
    assert made.r1_gamma == pytest.approx(0.1024)
    assert PRESETS["small"].kimg <= 60
