"""Every official `train` option: accepted under its name, with the official default; the files of a run."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
import torch
from click.testing import CliRunner

from extract.errors import SettingsError
from extract.sides import names_a_side
from gan.checks import list_warnings, num_freezable_layers
from gan.config import PRESETS, TrainConfig, config_from_json, config_to_json, describe, make_recipe
from gan.data import open_training_images
from gan.networks import build_discriminator, network_settings
from gan.runfolder import create_run_dir
from gan.training import train
from scripts.cli import cli
from tests.gan.conftest import write_shapes

CONFIG = TrainConfig(data=Path("slices.zip"), outdir=Path("runs"))
REQUIRED, BY_CFG = "required", "by cfg"

# The options of the official train.py: name, kind of value, default.
OFFICIAL_OPTIONS = {
    "--outdir": (str, REQUIRED),
    "--gpus": (int, 1),
    "--snap": (int, 50),
    "--metrics": (str, "fid50k_full"),
    "--seed": (int, 0),
    "--dry-run": (bool, False),
    "--data": (str, REQUIRED),
    "--cond": (bool, False),
    "--subset": (int, "all"),
    "--mirror": (bool, False),
    "--cfg": (str, "auto"),
    "--gamma": (float, BY_CFG),
    "--kimg": (int, BY_CFG),
    "--batch": (int, BY_CFG),
    "--aug": (str, "ada"),
    "--p": (float, None),
    "--target": (float, 0.6),
    "--augpipe": (str, "bgc"),
    "--resume": (str, "noresume"),
    "--freezed": (int, 0),
    "--fp32": (bool, False),
    "--nhwc": (bool, False),
    "--nobench": (bool, False),
    "--allow-tf32": (bool, False),
    "--workers": (int, 3),
}


def official_default(name: str) -> object:
    """What our options amount to where the user gives none, in the words of the official ones."""
    recipe = make_recipe(CONFIG, 256, 3, 0, on_gpu=True)
    worked_out = {
        "--snap": recipe.snap,
        "--aug": CONFIG.aug_mode,
        "--target": recipe.ada_target,
        "--augpipe": "bgc" if recipe.augmentations == make_recipe(
            replace(CONFIG, augpipe="bgc"), 256, 3, 0, on_gpu=True
        ).augmentations else None,
        "--resume": "noresume" if CONFIG.is_new_start else CONFIG.resume,
        "--freezed": recipe.freeze_layers,
        "--subset": "all" if CONFIG.subset is None else CONFIG.subset,
        "--metrics": "fid50k_full",  # where it can be measured: a test of its own
        "--dry-run": False,
    }  # fmt: skip
    return worked_out.get(name, getattr(CONFIG, name[2:].replace("-", "_"), None))


@pytest.fixture(scope="module")
def train_command() -> click.Command:
    group = cli.get_command(click.Context(cli), "gan")
    assert isinstance(group, click.Group)
    return group.commands["train"]


@pytest.mark.parametrize("name", OFFICIAL_OPTIONS)
def test_every_official_option_is_accepted_with_its_default(name: str, train_command: click.Command):
    help_text = CliRunner().invoke(cli, ["gan", "train", "--help"]).output
    assert re.search(rf"(^|[ ,]){name}\b", help_text, flags=re.MULTILINE), f"{name} is not in --help"
    (option,) = [parameter for parameter in train_command.params if name in parameter.opts]
    kind, default = OFFICIAL_OPTIONS[name]
    if default == BY_CFG:
        assert getattr(CONFIG, name[2:]) is None  # the presets' numbers are tested in test_config.py
    elif default != REQUIRED:
        assert official_default(name) == default
    if kind in (int, float):  # ours may be wider: a fraction of a kimg is fine for a trial
        assert isinstance(option.type, click.types.IntParamType | click.types.FloatParamType)


def test_every_setting_of_a_training_has_its_option(train_command: click.Command):
    """The command that a warning shows to go on with names settings by their options."""
    flags = {flag for parameter in train_command.params for flag in parameter.opts}
    settings = {f"--{name.replace('_', '-')}" for name in TrainConfig.__dataclass_fields__}
    assert settings - flags == {"--tick-kimg", "--save-every-sec"}


def test_booleans_take_a_value_and_only_the_hyphenated_spelling_counts(train_command: click.Command):
    for name, (kind, _) in OFFICIAL_OPTIONS.items():
        (option,) = [parameter for parameter in train_command.params if name in parameter.opts]
        if kind is bool and name != "--dry-run":
            assert isinstance(option, click.Option) and not option.is_flag
    result = CliRunner().invoke(cli, ["gan", "train", "--allow_tf32=1"])
    assert result.exit_code == 2


def test_the_official_configurations_are_there():
    assert {"auto", "stylegan2", "paper256", "paper512", "paper1024", "cifar"} <= set(PRESETS)


def test_the_options_file_has_the_official_keys_in_their_order(tiny: TrainConfig, tmp_path: Path):
    snapshot = train(replace(tiny, kimg=0.008, subset=10, outdir=tmp_path))
    options = json.loads((snapshot.parent / "training_options.json").read_text())
    assert list(options) == [
        "num_gpus", "image_snapshot_ticks", "network_snapshot_ticks", "metrics", "random_seed",
        "training_set_kwargs", "data_loader_kwargs", "G_kwargs", "D_kwargs", "G_opt_kwargs", "D_opt_kwargs",
        "loss_kwargs", "total_kimg", "batch_size", "batch_gpu", "ema_kimg", "ema_rampup", "ada_target",
        "augment_kwargs", "run_dir", "synthlabel",
    ]  # fmt: skip
    assert list(options["training_set_kwargs"]) == [
        "class_name", "path", "use_labels", "max_size", "xflip", "resolution", "random_seed",
    ]  # fmt: skip
    assert list(options["G_kwargs"]) == ["class_name", "z_dim", "w_dim", "mapping_kwargs", "synthesis_kwargs"]
    assert list(options["D_kwargs"]) == [
        "class_name", "block_kwargs", "mapping_kwargs", "epilogue_kwargs", "channel_base", "channel_max",
        "num_fp16_res", "conv_clamp",
    ]  # fmt: skip
    assert options["loss_kwargs"] == {"class_name": "training.loss.StyleGAN2Loss", "r1_gamma": 1.0}


def test_exceptions_are_named_in_the_options_file_and_only_they(
    tiny: TrainConfig, trained: Path, tmp_path: Path
):
    config = replace(
        tiny, cfg="cifar", aug="fixed", p=0.0, kimg=0.008, freezed=1, nobench=True, allow_tf32=True,
        nhwc=True, outdir=tmp_path,
    )  # fmt: skip
    options = json.loads((train(config).parent / "training_options.json").read_text())
    assert options["loss_kwargs"] | {"pl_weight": 0, "style_mixing_prob": 0} == options["loss_kwargs"]
    assert options["D_kwargs"]["architecture"] == "orig"
    assert options["D_kwargs"]["block_kwargs"] == {"freeze_layers": 1, "fp16_channels_last": True}
    assert (options["augment_p"], options["cudnn_benchmark"], options["allow_tf32"]) == (0.0, False, True)
    assert "ada_target" not in options and "resume_pkl" not in options
    started = json.loads(
        (
            train(replace(tiny, kimg=0.008, resume=str(trained), outdir=tmp_path)).parent
            / "training_options.json"
        ).read_text()
    )
    assert (started["resume_pkl"], started["ada_kimg"]) == (str(trained), 100)


def test_the_log_has_the_official_sections_in_their_order(trained: Path):
    log = (trained.parent / "log.txt").read_text()
    sections = [
        "Loading training set...", "Num images: ", "Image shape:", "Label shape:", "Constructing networks...",
        "Setting up augmentation...", "Setting up training phases...", "Exporting sample images...",
        "Initializing logs...", "Training for 0.04 kimg...", "tick 0 ", "Exiting...",
    ]  # fmt: skip
    places = [log.index(section) for section in sections]
    assert places == sorted(places)


def test_the_tables_of_the_log_name_what_comes_out_of_each_layer(trained: Path):
    log = (trained.parent / "log.txt").read_text()
    for row in (
        r"Generator +Parameters +Buffers +Output shape +Datatype",
        r"synthesis\.b4\.conv1 +\d+ +\d+ +\[8, 16, 4, 4\] +float32",
        r"synthesis\.b16\.torgb +\d+ +- +\[8, 1, 16, 16\] +float32",
        r"b4\.mbstd +- +- +\[8, 17, 4, 4\] +float32",
        r"Total +\d+ +\d+ +- +-",
    ):
        assert re.search(rf"^{row}$", log, flags=re.MULTILINE), row


def test_run_numbers_come_from_folders_alone(tmp_path: Path):
    (tmp_path / "00007-notes.txt").touch()
    assert create_run_dir(tmp_path, "a").name == "00000-a"


def test_a_network_by_name_is_part_of_the_run_s_name():
    assert describe(replace(CONFIG, resume="ffhq256"), "data", None) == "data-auto1-resumeffhq256"


def test_ours_survive_their_json_too():
    config = replace(
        CONFIG, data=Path("a.zip").resolve(), outdir=Path("b").resolve(), metrics="fid@task,kid@task",
        extractor=(f"task={Path('runs/c').resolve()}",), best="kid@task", keep=3,
    )  # fmt: skip
    assert config_from_json(config_to_json(config)) == config


@pytest.mark.parametrize("cfg", ["auto", "cifar"])
def test_freezing_more_layers_than_there_are_is_refused(tiny: TrainConfig, tmp_path: Path, cfg: str):
    config = replace(tiny, cfg=cfg, gamma=None)
    recipe = make_recipe(replace(config, freezed=100), 16, 1, 0, on_gpu=False)
    frozen = build_discriminator(network_settings(recipe))
    names = {name.rpartition(".")[0] for name, _ in frozen.named_buffers() if name.endswith(".weight")}
    assert num_freezable_layers(recipe) == len(names)  # counted on the network itself
    with pytest.raises(SettingsError, match=rf"--freezed must be between 0 and {len(names)}, the layers"):
        train(replace(config, freezed=len(names) + 1, outdir=tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_a_single_class_cannot_be_a_condition(tiny: TrainConfig, tmp_path: Path):
    import numpy as np

    from extract.archive import ArchiveWriter, ImageRecord

    with ArchiveWriter(tmp_path / "one.zip") as writer:
        for number in range(8):
            writer.add(np.full((16, 16), number, np.uint8), ImageRecord(label="disc", subject=f"s{number}"))
    with pytest.raises(SettingsError, match=r"--cond=True requires at least two classes; .* has only 'disc'"):
        train(replace(tiny, data=tmp_path / "one.zip", cond=True, outdir=tmp_path / "runs"))


def test_less_kimg_than_the_run_has_is_refused(trained: Path, tiny: TrainConfig, shapes_split: Path):
    config = replace(tiny, split=shapes_split, fold=1, kimg=0.016, resume=str(trained.parent))
    with pytest.raises(SettingsError, match=r"--kimg=0.016: the run in .* has 0.04 kimg already"):
        train(config)


def warnings_of(on_gpu: bool = False, resolution: int = 16, data: Path | None = None, **options) -> str:
    config = replace(CONFIG, **options)
    recipe = make_recipe(config, resolution, 1, 0, on_gpu=on_gpu)
    images = open_training_images(data) if data is not None else NO_IMAGES
    return "\n".join(list_warnings(config, recipe, images, torch.device("cuda" if on_gpu else "cpu")))


NO_IMAGES = SimpleNamespace(archive_classes=())  # stands for images whose classes name nothing


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"precision": "fp16"}, "--precision=fp16 is about 16 times slower"),
        ({"nobench": True, "allow_tf32": True}, "no effect on a CPU: --nobench, --allow-tf32"),
        ({"batch": 7}, "--batch=7: no group of images divides the 7"),
        ({"freezed": 2}, "--freezed=2 without a snapshot to --resume from"),
        ({"kimg": 100.0, "snap": 50}, "--snap=50 ticks of 4 kimg are longer than the whole training"),
    ],
)
def test_what_is_probably_not_meant_is_warned_of(options: dict, sentence: str):
    assert sentence in warnings_of(**options)


def test_usual_options_warn_of_nothing():
    assert warnings_of() == "" and warnings_of(on_gpu=True, cfg="paper256", resolution=256) == ""


def test_mirroring_classes_that_name_a_side_is_warned_of(tmp_path: Path):
    import numpy as np

    from extract.archive import ArchiveWriter, ImageRecord

    with ArchiveWriter(tmp_path / "knees.zip") as writer:
        for number, label in enumerate(("left-knee", "right-knee") * 2):
            writer.add(np.full((16, 16), number, np.uint8), ImageRecord(label=label, subject=f"s{number}"))
    assert "classes name a side (left-knee, right-knee)" in warnings_of(
        data=tmp_path / "knees.zip", mirror=True
    )
    assert warnings_of(data=write_shapes(tmp_path / "shapes.zip"), mirror=True) == ""
    assert names_a_side("knee_R") and names_a_side("rodilla izquierda")
    assert not names_a_side("pleural effusion") and not names_a_side("axial")
