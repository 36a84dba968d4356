"""Every case of every archive of the golden folder, except what concerns the training job (tests/gan).

The folder is named by STYLEGAN2_GOLDEN_DIR, by default ../shared/golden beside the repository.
"""

import copy
import re
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vendor.stylegan2_ada import AugmentPipe, Discriminator, Generator
from vendor.stylegan2_ada.activations import ACTIVATIONS, bias_act
from vendor.stylegan2_ada.convolution import conv2d_resample, modulated_conv2d
from vendor.stylegan2_ada.filters import downsample2d, filter2d, setup_filter, upfirdn2d, upsample2d
from vendor.stylegan2_ada.wavelets import SYM6

from . import golden

pytestmark = pytest.mark.skipif(
    not golden.names("*"),
    reason=f"no golden archives in {golden.FOLDER}; name their folder in STYLEGAN2_GOLDEN_DIR",
)

CHECKED_HERE = re.compile(
    r"net_\w+|loss_\w+|train_iterations|generate_seeds|setup_filter|upfirdn2d|bias_act|conv2d_resample|"
    r"modulated_conv2d|augment_percentile|augment_recorded_draws"
)
CHECKED_WITH_GAN = {"schedules", "metrics"}


def test_every_archive_of_the_folder_is_checked_somewhere():
    unknown = {name for name in golden.names("*") if not CHECKED_HERE.fullmatch(name)} - CHECKED_WITH_GAN
    assert not unknown


# Networks


NETWORKS = [name for name in golden.names("net_*") if "_fp16_" not in name]


def generator_of(name: str, *, num_fp16_res: int = 0) -> Generator:
    return golden.build_generator(
        golden.with_prefix(name, "G/"), conv_clamp=golden.clamp_of(name), num_fp16_res=num_fp16_res
    )


def discriminator_of(name: str, group: int | None, *, num_fp16_res: int = 0) -> Discriminator:
    return golden.build_discriminator(
        golden.with_prefix(name, "D/"),
        mbstd_group_size=group,
        conv_clamp=golden.clamp_of(name),
        num_fp16_res=num_fp16_res,
    )


def record_outputs(module: nn.Module, paths: dict[str, str]) -> dict[str, Tensor]:
    """Fills up, when the module runs, with what its submodules (path by name) return."""
    outputs: dict[str, Tensor] = {}
    for name, path in paths.items():

        def keep(_module: nn.Module, _inputs: object, result: object, name: str = name) -> None:
            if isinstance(result, tuple):
                outputs[f"{name}_x"] = result[0]
                if result[1] is not None:
                    outputs[f"{name}_img"] = result[1]
            else:
                outputs[f"{name}_x"] = result

        module.get_submodule(path).register_forward_hook(keep)
    return outputs


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_generator_gives_the_golden_latents_and_images(name):
    generator = generator_of(name)
    z, c = golden.tensor(name, "in/z"), golden.optional(name, "in/c")
    ws = golden.tensor(name, "out/ws_psi1")
    checked = 0
    for key in golden.archive(name):
        if match := re.fullmatch(r"out/ws_psi([\d.]+)(?:_cutoff(\d+))?", key):
            cutoff = int(match[2]) if match[2] else None
            actual = generator.mapping(z, c, truncation_psi=float(match[1]), truncation_cutoff=cutoff)
        elif match := re.fullmatch(r"out/img_(const|none)(_unfused)?", key):
            actual = generator.synthesis(ws, noise_mode=match[1], fused_modconv=match[2] is None)
        elif match := re.fullmatch(r"out/img_const_psi([\d.]+)(?:_cutoff(\d+))?", key):
            cutoff = int(match[2]) if match[2] else None
            actual = generator(z, c, float(match[1]), cutoff, noise_mode="const", fused_modconv=True)
        else:
            assert not key.startswith(("out/ws_", "out/img_")), f"{name}: no test for {key}"
            continue
        golden.check_output(actual, name, key)
        checked += 1
    assert checked


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_images_do_not_depend_on_the_formulation_that_is_chosen_automatically(name):
    generator = generator_of(name)
    actual = generator.synthesis(golden.tensor(name, "out/ws_psi1"), noise_mode="const")
    golden.check_output(actual, name, "out/img_const")


@pytest.mark.parametrize("name", [name for name in NETWORKS if "mid/D_logits" in golden.archive(name)])
@torch.no_grad()
def test_intermediate_activations_are_the_golden_ones(name):
    mids = [key.removeprefix("mid/") for key in golden.archive(name) if key.startswith("mid/")]
    num_images = len(golden.archive(name)["mid/D_in_img"])

    generator = generator_of(name)
    paths = {f"G_b{r}": f"synthesis.b{r}" for r in generator.synthesis.resolutions}
    outputs = record_outputs(generator, paths)
    ws = golden.tensor(name, "out/ws_psi1")[:num_images]
    img = generator.synthesis(ws, noise_mode="const", fused_modconv=True)
    outputs["D_in_img"] = img.clamp(-1, 1)

    discriminator = discriminator_of(name, 4)
    paths = {f"D_b{r}": f"b{r}" for r in discriminator.resolutions}
    paths |= {"D_b4_mbstd": "b4.mbstd", "D_b4_conv": "b4.conv", "D_b4_fc": "b4.fc", "D_b4": "b4"}
    c = golden.optional(name, "in/c")
    if c is not None:
        c, paths["D_cmap"] = c[:num_images], "mapping"
    recorded = record_outputs(discriminator, paths)
    logits = discriminator(golden.tensor(name, "mid/D_in_img"), c)
    outputs |= recorded | {"D_logits": logits}

    for mid in mids:
        assert mid in outputs, f"{name}: no test for mid/{mid}"
        golden.check_output(outputs[mid], name, f"mid/{mid}")


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_one_training_call_moves_the_average_w_as_in_the_golden_file(name):
    generator = generator_of(name).train()
    z, c = golden.tensor(name, "in/z"), golden.optional(name, "in/c")
    before = generator.mapping.w_avg.clone()
    generator.mapping(z, c, skip_w_avg_update=True)
    assert torch.equal(generator.mapping.w_avg, before)
    generator.mapping(z, c)
    golden.check_output(generator.mapping.w_avg, name, "out/w_avg_after_one_training_call")


@pytest.mark.parametrize(
    ("name", "key"), [(n, k) for n in NETWORKS for k in golden.archive(n) if k.startswith("out/D_")]
)
@torch.no_grad()
def test_discriminator_gives_the_golden_logits(name, key):
    group = key.removeprefix("out/D_logits_mbstd")
    discriminator = discriminator_of(name, None if group == "all" else int(group))
    logits = discriminator(golden.tensor(name, "in/D_img"), golden.optional(name, "in/D_c"))
    golden.check_output(logits, name, key)


@pytest.mark.parametrize("name", golden.names("net_fp16_*"))
@torch.no_grad()
def test_half_precision_stays_near_and_forced_single_precision_on_the_golden_numbers(name):
    source = name.replace("_fp16", "")
    generator = generator_of(source, num_fp16_res=4)
    z, c = golden.tensor(source, "in/z"), golden.optional(source, "in/c")
    for key in golden.archive(name):
        is_forced = key.endswith("_forced_fp32")
        if key.startswith("out/img_const_"):
            actual = generator(z, c, noise_mode="const", force_fp32=is_forced)
        else:
            group = re.fullmatch(r"out/D_logits_mbstd(\d+)_(fp16|forced_fp32)", key)
            assert group is not None, f"{name}: no test for {key}"
            discriminator = discriminator_of(source, int(group[1]), num_fp16_res=4)
            images, labels = golden.tensor(source, "in/D_img"), golden.optional(source, "in/D_c")
            actual = discriminator(images, labels, force_fp32=is_forced)
        golden.check_output(actual, name, key, golden.OUTPUT_TOLERANCE if is_forced else 2e-2)


@pytest.mark.parametrize(
    "key", [key for n in golden.names("generate_seeds") for key in golden.archive(n) if "_psi" in key]
)
@torch.no_grad()
def test_a_seed_gives_the_golden_latent_and_picture(key):
    name = "generate_seeds"
    seed, kind, psi = re.fullmatch(r"seed(\d+)/(img|pixels)_psi([\d.]+)", key).groups()
    image_key = f"seed{seed}/img_psi{psi}"
    z_dim, img_shape = golden.archive(name)[f"seed{seed}/z"].shape[1], golden.archive(name)[image_key].shape
    source = next(
        n
        for n in NETWORKS
        if n.startswith("net_uncond")
        and golden.archive(n)["in/z"].shape[1] == z_dim
        and golden.archive(n)["out/img_const"].shape[1:] == img_shape[1:]
    )
    generator = generator_of(source)
    z = torch.from_numpy(np.random.RandomState(int(seed)).randn(1, generator.z_dim)).to(torch.float32)
    golden.check_output(z, name, f"seed{seed}/z", 1e-7)
    img = generator(z, None, float(psi), noise_mode="const")
    if kind == "img":
        golden.check_output(img, name, key)
    else:
        pixels = (img * 127.5 + 128).clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0)
        difference = (pixels.to(torch.float32) - golden.tensor(name, key)).abs()
        assert difference.max() <= 1  # one grey level where a value falls on a boundary
        assert difference.mean() < 0.01


# Losses, written down as formulas here so that the networks' derivatives are checked on their own


PL_WEIGHT, PL_DECAY = 2.0, 0.01


def g_main(generator: nn.Module, discriminator: nn.Module, z: Tensor, c: Tensor | None) -> Tensor:
    fake = generator(z, c, noise_mode="const")
    return F.softplus(-discriminator(fake, c)).mean()


def g_path_length(
    generator: nn.Module, z: Tensor, c: Tensor | None, noise: Tensor, pl_mean: Tensor
) -> dict[str, Tensor]:
    ws = generator.mapping(z, c)
    img = generator.synthesis(ws, noise_mode="const")
    noise = noise / (img.shape[2] * img.shape[3]) ** 0.5
    (ws_grad,) = torch.autograd.grad((img * noise).sum(), ws, create_graph=True)
    lengths = ws_grad.square().sum(2).mean(1).sqrt()
    new_mean = pl_mean.lerp(lengths.mean(), PL_DECAY)
    penalty = (lengths - new_mean).square()
    return {
        "ws": ws,
        "ws_grad": ws_grad,
        "lengths": lengths,
        "new_pl_mean": new_mean,
        "penalty": penalty,
        "loss": penalty.mean() * PL_WEIGHT,
    }


def d_main(
    generator: nn.Module,
    discriminator: nn.Module,
    z: Tensor,
    c: Tensor | None,
    real: Tensor,
    real_c: Tensor | None,
) -> dict[str, Tensor]:
    with torch.no_grad():
        fake = generator(z, c, noise_mode="const")
    fake_logits, real_logits = discriminator(fake, c), discriminator(real, real_c)
    loss = F.softplus(fake_logits).mean() + F.softplus(-real_logits).mean()
    return {"fake_logits": fake_logits, "real_logits": real_logits, "loss": loss}


def d_r1(discriminator: nn.Module, real: Tensor, real_c: Tensor | None, gamma: float) -> dict[str, Tensor]:
    real = real.clone().requires_grad_(True)
    logits = discriminator(real, real_c)
    (img_grad,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    penalty = img_grad.square().sum([1, 2, 3])
    return {"img_grad": img_grad, "penalty": penalty, "loss": penalty.mean() * gamma / 2}


def check_gradients(name: str, phase: str, module: nn.Module, loss: Tensor) -> None:
    parameters = dict(module.named_parameters())
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    actual = {key: g for key, g in zip(parameters, gradients, strict=True) if g is not None}
    expected = golden.with_prefix(name, f"{phase}/grad/")
    assert set(actual) == set(expected), f"{name}: other parameters of {phase} have a gradient"
    for key, gradient in actual.items():
        golden.check_gradient(gradient, name, f"{phase}/grad/{key}")


@pytest.mark.parametrize("phase", ["Gmain", "Gpl", "Dmain", "Dr1"])
@pytest.mark.parametrize("name", golden.names("loss_*"))
def test_losses_and_all_their_gradients_are_the_golden_ones(name, phase):
    source = name.replace("loss_", "net_")
    generator, discriminator = generator_of(source).train(), discriminator_of(source, 4).train()
    z, c = golden.tensor(name, "in/z"), golden.optional(name, "in/c")
    real, real_c = golden.tensor(name, "in/real_img"), golden.optional(name, "in/real_c")
    trained: nn.Module = discriminator
    if phase == "Gmain":
        fake = generator(z, c, noise_mode="const")
        fake_logits = discriminator(fake, c)
        values = {
            "fake_img": fake,
            "fake_logits": fake_logits,
            "loss": g_main(generator, discriminator, z, c),
        }
        trained = generator
    elif phase == "Gpl":
        noise = golden.tensor(name, "in/pl_noise")
        few_c = None if c is None else c[: len(noise)]
        values = g_path_length(generator, z[: len(noise)], few_c, noise, golden.tensor(name, "in/pl_mean"))
        trained = generator
    elif phase == "Dmain":
        values = d_main(generator, discriminator, z, c, real, real_c)
    else:
        values = d_r1(discriminator, real, real_c, gamma=10)

    stored = {key for key in golden.archive(name) if key.startswith(f"{phase}/") and "/grad/" not in key}
    assert stored == {f"{phase}/{key}" for key in values}
    for key, value in values.items():
        check = golden.check_gradient if key.endswith("_grad") else golden.check_output
        check(value, name, f"{phase}/{key}")
    check_gradients(name, phase, trained, values["loss"])


# Five whole training iterations


INTERVALS = {"Gmain": 1, "Greg": 4, "Dmain": 1, "Dreg": 16}
PHASES = tuple(INTERVALS)


def adam(module: nn.Module, interval: int) -> torch.optim.Adam:
    ratio = interval / (interval + 1)  # the regulariser's own step leaves less for each main step
    return torch.optim.Adam(module.parameters(), lr=0.0025 * ratio, betas=(0.0, 0.99**ratio), eps=1e-8)


def accumulate_phase(
    phase: str, nets: tuple[nn.Module, nn.Module], z: Tensor, real: Tensor, noise: Tensor, pl_mean: Tensor
) -> Tensor:
    """Add one round's gradients of one phase; returns the path-length mean to go on with."""
    generator, discriminator = nets
    if phase == "Gmain":
        loss = g_main(generator, discriminator, z, None)
    elif phase == "Greg":
        values = g_path_length(generator, z[: len(noise)], None, noise, pl_mean)
        loss, pl_mean = values["loss"], values["new_pl_mean"].detach()
    elif phase == "Dmain":
        loss = d_main(generator, discriminator, z, None, real, None)["loss"]
    else:
        loss = d_r1(discriminator, real, None, gamma=2)["loss"]
    (loss * INTERVALS[phase]).backward()
    return pl_mean


def take_step(module: nn.Module, optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """Parameters without a gradient count as having a zero one. Returns the gradients."""
    gradients = {}
    for key, parameter in module.named_parameters():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        parameter.grad.nan_to_num_(nan=0, posinf=1e5, neginf=-1e5)
        gradients[key] = parameter.grad.clone()
    optimizer.step()
    module.zero_grad(set_to_none=True)
    return gradients


@torch.no_grad()
def follow(ema: nn.Module, module: nn.Module, decay: float) -> None:
    for kept, new in zip(ema.parameters(), module.parameters(), strict=True):
        kept.copy_(new.lerp(kept, decay))
    for kept, new in zip(ema.buffers(), module.buffers(), strict=True):
        kept.copy_(new)


@pytest.mark.parametrize("name", golden.names("train_iterations"))
def test_whole_training_iterations_end_in_the_golden_states(name):
    generator = golden.build_generator(golden.with_prefix(name, "init/G/")).train()
    discriminator = golden.build_discriminator(
        golden.with_prefix(name, "init/D/"), mbstd_group_size=2
    ).train()
    ema = copy.deepcopy(generator)
    nets = (generator, discriminator)
    optimizers = {"G": adam(generator, INTERVALS["Greg"]), "D": adam(discriminator, INTERVALS["Dreg"])}
    reals, latents = golden.tensor(name, "in/real_img"), golden.tensor(name, "in/gen_z")
    noises = golden.tensor(name, "in/pl_noise")
    num_iterations, batch = reals.shape[:2]
    rounds = noises.shape[1]
    pl_mean = torch.zeros([])
    compared = set()

    for iteration in range(num_iterations):
        for index, phase in enumerate(PHASES):
            if iteration % INTERVALS[phase]:
                continue
            trained, other = nets if phase[0] == "G" else nets[::-1]
            trained.requires_grad_(True)
            other.requires_grad_(False)
            for part, (z, real) in enumerate(
                zip(latents[iteration, index].chunk(rounds), reals[iteration].chunk(rounds), strict=True)
            ):
                pl_mean = accumulate_phase(phase, nets, z, real, noises[iteration, part], pl_mean)
            gradients = take_step(trained, optimizers[phase[0]])
            for key in golden.with_prefix(name, f"it{iteration + 1}/grad_{phase}/"):
                golden.check_gradient(gradients[key], name, f"it{iteration + 1}/grad_{phase}/{key}")
                compared.add(f"it{iteration + 1}/grad_{phase}/{key}")
        follow(ema, generator, decay=0.5 ** (batch / 10))

        for prefix, module in {"G": generator, "D": discriminator, "G_ema": ema}.items():
            state = module.state_dict()
            for key in golden.with_prefix(name, f"it{iteration + 1}/{prefix}/"):
                allowed = 1e-3 if key.startswith("mapping.fc") and key.endswith("weight") else 1e-4
                golden.check_within(state[key], name, f"it{iteration + 1}/{prefix}/{key}", allowed)
                compared.add(f"it{iteration + 1}/{prefix}/{key}")
        if f"it{iteration + 1}/pl_mean" in golden.archive(name):
            golden.check_output(pl_mean, name, f"it{iteration + 1}/pl_mean", golden.GRADIENT_TOLERANCE)
            compared.add(f"it{iteration + 1}/pl_mean")
    assert compared == {key for key in golden.archive(name) if key.startswith("it")}


# Operators


FILTERS = {
    "none": lambda: setup_filter(None),
    "impulse": lambda: setup_filter(1),
    "box2": lambda: setup_filter([1, 1]),
    "tri3": lambda: setup_filter([1, 2, 1]),
    "1331": lambda: setup_filter([1, 3, 3, 1]),
    "1331_gain4": lambda: setup_filter([1, 3, 3, 1], gain=4),
    "1331_sep": lambda: setup_filter([1, 3, 3, 1], separable=True),
    "1331_sep_gain4": lambda: setup_filter([1, 3, 3, 1], separable=True, gain=4),
    "1331_nonorm": lambda: setup_filter([1, 3, 3, 1], normalize=False),
    "asym_flip": lambda: setup_filter([1, 2, 3, 5], flip=True),
    "asym": lambda: setup_filter([1, 2, 3, 5]),
    "taps8": lambda: setup_filter(range(1, 9)),
    "taps8_nonsep": lambda: setup_filter(range(1, 9), separable=False),
    "twod": lambda: setup_filter([[1, 2, 3], [4, 5, 7]]),
    "twod_flip": lambda: setup_filter([[1, 2, 3], [4, 5, 7]], flip=True),
    "sym6": lambda: setup_filter(SYM6),
}


@pytest.mark.parametrize("case", golden.cases("setup_filter"))
def test_setup_filter(case):
    golden.check_output(FILTERS[case](), "setup_filter", case)


@pytest.mark.parametrize("case", golden.cases("upfirdn2d"))
def test_upfirdn2d(case):
    name = "upfirdn2d"
    x, f = golden.tensor(name, f"{case}/x").requires_grad_(True), golden.optional(name, f"{case}/f")
    params = golden.archive(name)[f"{case}/params"].tolist()
    whole = [int(value) for value in params]
    if operator := re.match(r"(upsample2d|downsample2d|filter2d)_", case):
        factor, padding, flip, gain = (whole[0], whole[1]), tuple(whole[2:6]), bool(whole[6]), params[7]
        if operator[1] == "upsample2d":
            y = upsample2d(x, f, up=factor, padding=padding, flip_filter=flip, gain=gain)
        elif operator[1] == "downsample2d":
            y = downsample2d(x, f, down=factor, padding=padding, flip_filter=flip, gain=gain)
        else:
            y = filter2d(x, f, padding=padding, flip_filter=flip, gain=gain)
    else:
        y = upfirdn2d(
            x,
            f,
            up=(whole[0], whole[1]),
            down=(whole[2], whole[3]),
            padding=tuple(whole[4:8]),
            flip_filter=bool(whole[8]),
            gain=params[9],
        )
    golden.check_output(y, name, f"{case}/y")
    dy = golden.optional(name, f"{case}/dy")
    if dy is not None:
        (dx,) = torch.autograd.grad(y, x, dy)
        golden.check_gradient(dx, name, f"{case}/dx")


@pytest.mark.parametrize("case", [case for case in golden.cases("bias_act") if "_case" in case])
def test_bias_act(case):
    name = "bias_act"
    gain, clamp, alpha = (
        None if value == -1 else value for value in golden.archive(name)[f"{case}/params"].tolist()
    )
    x, b = golden.tensor(name, f"{case}/x").requires_grad_(True), golden.optional(name, f"{case}/b")
    inputs = [x] if b is None else [x, b.requires_grad_(True)]
    y = bias_act(x, b, act=case.split("_case")[0], alpha=alpha, gain=gain, clamp=clamp)
    golden.check_output(y, name, f"{case}/y")
    gradients = torch.autograd.grad(y, inputs, golden.tensor(name, f"{case}/dy"), create_graph=True)
    for key, gradient in zip(["dx", "db"], gradients, strict=False):
        golden.check_gradient(gradient, name, f"{case}/{key}")
    second = torch.zeros_like(x)
    product = (gradients[0] * golden.tensor(name, f"{case}/v")).sum()
    if product.requires_grad:
        (found,) = torch.autograd.grad(product, x, allow_unused=True)
        second = second if found is None else found
    golden.check_gradient(second, name, f"{case}/ddx")


@pytest.mark.parametrize("key", [k for k in golden.cases("bias_act") if "_case" not in k])
def test_activations_have_the_golden_defaults(key):
    assert key == "default_alpha_gain"
    actual = torch.tensor([[a.alpha, a.gain] for a in ACTIVATIONS.values()])
    golden.check_output(actual, "bias_act", key, 1e-7)


@pytest.mark.parametrize("case", golden.cases("conv2d_resample"))
def test_conv2d_resample(case):
    name = "conv2d_resample"
    x, w = (golden.tensor(name, f"{case}/{key}").requires_grad_(True) for key in "xw")
    params = [int(value) for value in golden.archive(name)[f"{case}/params"]]
    y = conv2d_resample(
        x,
        w,
        golden.optional(name, f"{case}/f"),
        up=params[0],
        down=params[1],
        padding=tuple(params[2:6]),
        groups=params[6],
        flip_weight=bool(params[7]),
        flip_filter=bool(params[8]),
    )
    golden.check_output(y, name, f"{case}/y")
    dx, dw = torch.autograd.grad(y, [x, w], golden.tensor(name, f"{case}/dy"))
    golden.check_gradient(dx, name, f"{case}/dx")
    golden.check_gradient(dw, name, f"{case}/dw")


@pytest.mark.parametrize("formulation", ["fused", "unfused"])
@pytest.mark.parametrize("case", golden.cases("modulated_conv2d"))
def test_modulated_conv2d(case, formulation):
    name = "modulated_conv2d"
    up, down, padding, demodulate, flip_weight = (
        int(value) for value in golden.archive(name)[f"{case}/params"]
    )
    keys = ["x", "w", "styles"]
    inputs = [golden.tensor(name, f"{case}/{key}").requires_grad_(True) for key in keys]
    y = modulated_conv2d(
        *inputs,
        noise=golden.optional(name, f"{case}/noise"),
        up=up,
        down=down,
        padding=padding,
        resample_filter=setup_filter([1, 3, 3, 1]),
        demodulate=bool(demodulate),
        flip_weight=bool(flip_weight),
        fused=formulation == "fused",
    )
    golden.check_output(y, name, f"{case}/y_{formulation}")
    gradients = torch.autograd.grad(y, inputs, golden.tensor(name, f"{case}/dy"))
    for key, gradient in zip(keys, gradients, strict=True):
        golden.check_gradient(gradient, name, f"{case}/d{key}_{formulation}")


# Augmentation


BLIT, GEOM = ("xflip", "rotate90", "xint"), ("scale", "rotate", "aniso", "xfrac")
COLOR = ("brightness", "contrast", "lumaflip", "hue", "saturation")
GROUPS = {
    "blit": BLIT,
    "geom": GEOM,
    "color": COLOR,
    "geomcolor": BLIT + GEOM + COLOR,
    "bg": BLIT + GEOM,
    "bgc": BLIT + GEOM + COLOR,
    "bgcf": (*BLIT, *GEOM, *COLOR, "imgfilter"),
    "bgcfn": (*BLIT, *GEOM, *COLOR, "imgfilter", "noise"),
    "bgcfnc": (*BLIT, *GEOM, *COLOR, "imgfilter", "noise", "cutout"),
}


class ReplayPipe(AugmentPipe):
    """A pipe that takes its random numbers from a list of (kind, numbers), in order."""

    def replay(self, draws: Sequence[tuple[str, Tensor]]) -> None:
        self.draws = list(draws)

    def next_draw(self, kind: str, shape: Sequence[int]) -> Tensor:
        recorded, numbers = self.draws.pop(0)
        assert (recorded, list(numbers.shape)) == (kind, list(shape))
        return numbers

    def draw_uniform(self, shape: Sequence[int], device: torch.device) -> Tensor:
        return self.next_draw("uniform", shape)

    def draw_normal(self, shape: Sequence[int], device: torch.device) -> Tensor:
        return self.next_draw("normal", shape)


def pipe_of(group: str, kind: type[AugmentPipe] = AugmentPipe) -> AugmentPipe:
    if group == "custom_ranges":  # the settings are listed in the folder's README
        return kind(
            **dict.fromkeys(GROUPS["bgcfnc"], 1)
            | dict.fromkeys(["xflip", "rotate90", "lumaflip", "noise"], 0),
            xint_max=0.25,
            scale_std=0.5,
            rotate_max=0.25,
            aniso_std=0.4,
            xfrac_std=0.05,
            brightness_std=0.4,
            contrast_std=0.2,
            hue_max=0.3,
            saturation_std=0.4,
            imgfilter_bands=(1, 0, 1, 1),
            imgfilter_std=0.5,
            cutout_size=0.3,
        )
    return kind(**dict.fromkeys(GROUPS.get(group, (group,)), 1))


PERCENTILE_CASES = [
    key
    for name in golden.names("augment_percentile")
    for key in golden.archive(name)
    if not key.startswith(("in/", "buffers/")) and not key.endswith(("_dy", "_dx", "_drawn_normal_field"))
]


@pytest.mark.parametrize("key", PERCENTILE_CASES)
def test_augmentation_at_a_percentile(key):
    name = "augment_percentile"
    group, percentile = key.split("/")
    is_grey = group.startswith("gray_")
    images = golden.tensor(name, "in/images_gray" if is_grey else "in/images").requires_grad_(True)
    if match := re.fullmatch(r"(\w+)_strength0", group):
        pipe = pipe_of(match[1])
        pipe.p.zero_()
        actual = pipe(images)
    else:
        pipe = pipe_of(group.removeprefix("gray_"), ReplayPipe)
        field = golden.optional(name, f"{key}_drawn_normal_field")
        pipe.replay([] if field is None else [("normal", field)])
        actual = pipe(images, debug_percentile=float(percentile.removeprefix("p")))
        assert not pipe.draws
    golden.check_output(actual, name, key)
    dy = golden.optional(name, f"{key}_dy")
    if dy is not None:
        (dx,) = torch.autograd.grad(actual, images, dy)
        golden.check_gradient(dx, name, f"{key}_dx")


@pytest.mark.parametrize("name", golden.names("augment_percentile"))
def test_augmentation_has_the_golden_filters(name):
    buffers = golden.with_prefix(name, "buffers/")
    pipe = AugmentPipe()
    assert [key for key in pipe.state_dict() if key != "p"] == list(buffers)
    for key in buffers:
        golden.check_output(pipe.get_buffer(key), name, f"buffers/{key}", 1e-7)


@pytest.mark.parametrize("case", [c for c in golden.cases("augment_recorded_draws") if c != "in"])
def test_augmentation_with_the_recorded_draws(case):
    name = "augment_recorded_draws"
    group, strength = case.rsplit("_p", 1)
    pipe = pipe_of(group, ReplayPipe)
    pipe.p.fill_(float(strength))
    recorded = {key: golden.tensor(name, key) for key in golden.archive(name) if f"{case}/draw" in key}
    pipe.replay([(key.rsplit("_", 1)[1], recorded[key]) for key in sorted(recorded)])
    actual = pipe(golden.tensor(name, "in/images"))
    assert not pipe.draws  # all of them were used
    golden.check_output(actual, name, f"{case}/out")


@pytest.mark.parametrize(
    ("case", "seed"),
    list(
        zip(
            [c for c in golden.cases("augment_recorded_draws") if c != "in"],
            range(4321, 4324),
            strict=False,
        )
    ),
)
def test_augmentation_draws_in_the_golden_order_from_the_default_generator(case, seed):
    name = "augment_recorded_draws"
    first = next(key for key in golden.archive(name) if key.startswith(f"{case}/draw00"))
    torch.manual_seed(seed)
    if not torch.equal(torch.rand_like(golden.tensor(name, first)), golden.tensor(name, first)):
        pytest.skip(f"{case} was recorded with another seed than {seed}")
    group, strength = case.rsplit("_p", 1)
    pipe = pipe_of(group)
    pipe.p.fill_(float(strength))
    torch.manual_seed(seed)
    golden.check_output(pipe(golden.tensor(name, "in/images")), name, f"{case}/out")
