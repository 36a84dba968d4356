"""Networks of all sizes and kinds: what they accept, what they return, what they refuse."""

import pytest
import torch

from vendor.stylegan2_ada import Discriminator, Generator

SMALL = {"channel_base": 64, "channel_max": 8}


def small_generator(resolution=16, channels=1, c_dim=0, **settings):
    settings = {"num_mapping_layers": 2, **SMALL, **settings}
    return Generator(8, c_dim, 12, resolution, channels, **settings)


def small_discriminator(resolution=16, channels=1, c_dim=0, **settings):
    return Discriminator(c_dim, resolution, channels, **{"num_mapping_layers": 2, **SMALL, **settings})


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("c_dim", [0, 2])
@pytest.mark.parametrize("resolution", [4, 8, 32, 128])
def test_every_power_of_two_makes_images_that_the_discriminator_takes(resolution, c_dim, channels):
    settings = {"channel_base": 4 * resolution}
    generator = small_generator(resolution, channels, c_dim, **settings)
    c = torch.eye(2) if c_dim else None
    images = generator(torch.randn([2, 8]), c)
    logits = small_discriminator(resolution, channels, c_dim, **settings)(images, c)
    assert images.shape == (2, channels, resolution, resolution)
    assert images.dtype == torch.float32
    assert logits.shape == (2, 1)
    assert generator.num_ws == 2 * resolution.bit_length() - 4
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in generator.parameters())


@pytest.mark.slow
def test_the_largest_official_resolution_runs():
    generator = small_generator(1024, 3, channel_base=2048).eval()
    discriminator = small_discriminator(1024, 3, channel_base=2048)
    with torch.no_grad():
        assert discriminator(generator(torch.randn([1, 8]))).isfinite().all()


@pytest.mark.parametrize("architecture", ["skip", "resnet", "orig"])
def test_every_architecture_trains_both_networks(architecture):
    generator = small_generator(architecture=architecture)
    discriminator = small_discriminator(architecture=architecture)
    discriminator(generator(torch.randn([4, 8]))).sum().backward()
    for module in (generator, discriminator):
        assert all(parameter.grad is not None for parameter in module.parameters())


def test_without_noise_inputs_images_depend_on_the_latent_alone():
    generator, z = small_generator(use_noise=False), torch.randn([2, 8])
    assert not any("noise" in name for name in generator.state_dict())
    assert torch.equal(generator(z), generator(z, noise_mode="none"))


def test_random_noise_differs_from_call_to_call_and_constant_noise_does_not():
    generator, z = small_generator().eval(), torch.randn([2, 8])
    for name, parameter in generator.named_parameters():
        if name.endswith("noise_strength"):
            torch.nn.init.ones_(parameter)
    assert not torch.equal(generator(z), generator(z))
    assert torch.equal(generator(z, noise_mode="const"), generator(z, noise_mode="const"))


def test_truncation_to_zero_gives_everybody_the_average():
    generator = small_generator().eval()
    generator.mapping.w_avg.normal_()
    ws = generator.mapping(torch.randn([3, 8]), None, truncation_psi=0)
    assert torch.allclose(ws, generator.mapping.w_avg.expand_as(ws))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", torch.bfloat16])
def test_low_precision_blocks_stay_near_single_precision(dtype):
    settings = {"num_fp16_res": 1, "conv_clamp": 256, "low_precision_dtype": dtype}
    generator = small_generator(**settings).eval()
    discriminator = small_discriminator(**settings)
    z = torch.randn([2, 8])
    images = generator(z, noise_mode="const")
    exact = generator(z, noise_mode="const", force_fp32=True)
    assert images.dtype == torch.float32
    assert 0 < (images - exact).abs().max() < 0.05 * exact.abs().max()
    logits, exact = discriminator(images), discriminator(images, force_fp32=True)
    assert logits.dtype == torch.float32
    assert 0 < (logits - exact).abs().max() < 0.1


def test_frozen_layers_keep_their_names_but_are_not_trained():
    free, frozen = small_discriminator(), small_discriminator(freeze_layers=5)
    assert set(free.state_dict()) == set(frozen.state_dict())
    trained = {name for name, _ in frozen.named_parameters()}
    assert set(dict(free.named_parameters())) - trained == {
        "b16.fromrgb.weight",
        "b16.fromrgb.bias",
        "b16.conv0.weight",
        "b16.conv0.bias",
        "b16.conv1.weight",
        "b16.conv1.bias",
        "b16.skip.weight",
        "b8.conv0.weight",
        "b8.conv0.bias",
    }
    frozen.load_state_dict(free.state_dict())
    images = torch.randn([4, 1, 16, 16])
    assert torch.equal(free(images), frozen(images))


def test_the_minibatch_deviation_compares_images_of_a_group_only():
    discriminator = small_discriminator(mbstd_group_size=2)
    images = torch.randn([4, 1, 16, 16])
    changed = images.clone()
    changed[1] += 1  # of the group of images 1 and 3
    difference = (discriminator(changed) - discriminator(images)).abs().flatten()
    assert difference[0] < 1e-6
    assert difference[2] < 1e-6
    assert difference[3] > 1e-6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: small_generator(24), "power of two of at least 4, got 24"),
        (lambda: small_generator(2), "power of two of at least 4, got 2"),
        (lambda: small_discriminator(48), "power of two"),
        (lambda: small_generator(architecture="dense"), "architecture must be one of skip"),
        (lambda: small_discriminator(architecture="dense"), "architecture must be one of orig"),
        (lambda: small_generator(channels=0), "img_channels must be at least 1"),
        (lambda: small_generator(c_dim=-1), "c_dim must not be negative"),
        (lambda: small_generator(64, channel_base=32), "leave no channel at resolution 64"),
        (lambda: small_generator(conv_clamp=0.0), "conv_clamp must be positive"),
        (lambda: small_generator(num_fp16_res=1, low_precision_dtype="int8"), "float16, bfloat16"),
        (lambda: small_generator(num_mapping_layers=0), "num_mapping_layers must be at least 1"),
        (lambda: small_discriminator(freeze_layers=-1), "freeze_layers must not be negative"),
        (lambda: small_discriminator(mbstd_group_size=0), "mbstd_group_size must be at least 1"),
        (lambda: small_generator()(torch.zeros([2, 9])), "z must have shape \\(N, 8\\)"),
        (lambda: small_generator(c_dim=3)(torch.zeros([2, 8])), "c must have shape \\(N, 3\\), got none"),
        (lambda: small_generator().synthesis(torch.zeros([2, 5, 12])), "ws must have shape \\(N, 6, 12\\)"),
        (lambda: small_generator()(torch.zeros([2, 8]), noise_mode="off"), "noise_mode must be one of"),
        (
            lambda: small_discriminator()(torch.zeros([2, 3, 16, 16])),
            "images must have shape \\(N, 1, 16, 16\\)",
        ),
        (
            lambda: small_discriminator(mbstd_group_size=4)(torch.zeros([6, 1, 16, 16])),
            "cannot be divided into groups of 4",
        ),
    ],
)
def test_wrong_settings_and_inputs_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
