"""What a training run is asked for, the presets, and the recipe that follows from both."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from extract.errors import SettingsError
from gan.metric_names import parse_metrics
from gan.official_files import PUBLISHED_NETWORKS

AUGMENTATION_MODES = ("noaug", "ada", "fixed")
PRECISIONS = ("fp32", "bf16", "fp16")
DEVICES = ("auto", "cpu", "cuda")
RESUME_NOTHING = "noresume"
RESUME_LATEST = "latest"  # the newest run of outdir that can be resumed
RESUME_AUTO = "auto"  # the same where there is one, otherwise a new run

_BLIT = ("xflip", "rotate90", "xint")
_GEOM = ("scale", "rotate", "aniso", "xfrac")
_COLOR = ("brightness", "contrast", "lumaflip", "hue", "saturation")
AUGMENTATION_PIPES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "blit": _BLIT,
        "geom": _GEOM,
        "color": _COLOR,
        "filter": ("imgfilter",),
        "noise": ("noise",),
        "cutout": ("cutout",),
        "bg": _BLIT + _GEOM,
        "bgc": _BLIT + _GEOM + _COLOR,
        "bgcf": (*_BLIT, *_GEOM, *_COLOR, "imgfilter"),
        "bgcfn": (*_BLIT, *_GEOM, *_COLOR, "imgfilter", "noise"),
        "bgcfnc": (*_BLIT, *_GEOM, *_COLOR, "imgfilter", "noise", "cutout"),
    }
)


@dataclass(frozen=True)
class Preset:
    """A `--cfg`: the numbers of a published (or, for `small`, of our own) configuration."""

    num_gpus: int = 1  # that the batch was meant for; more minibatches in turn where there are fewer
    kimg: float = 25000  # length of training in thousands of real images
    batch: int | None = None  # images an iteration; None = by resolution
    mbstd_group: int = 4  # images that share one minibatch standard deviation
    fmaps: float | None = None  # channel base / 32768; None = by resolution
    channel_max: int = 512
    lr: float | None = None  # of Adam; None = by resolution
    gamma: float | None = None  # R1 weight; None = gamma_factor * resolution^2 / batch
    gamma_factor: float = 0.0002
    ema_kimg: float | None = None  # half-life of the weight average; None = batch * 10/32
    ema_ramp: float | None = None  # half-life at most this share of the images seen
    mapping_layers: int = 8
    latent_dim: int = 512  # of z and of w
    pl_weight: float = 2.0  # path-length regularisation; 0 = none
    style_mixing_prob: float = 0.9
    d_architecture: str = "resnet"
    ada_kimg: float = 500.0  # thousands of images for p to travel from 0 to 1
    snap: int = 50  # ticks between snapshots
    mixed_precision_on_gpu: bool = True


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "auto": Preset(ema_ramp=0.05, mapping_layers=2),
        "stylegan2": Preset(num_gpus=8, batch=32, fmaps=1, lr=0.002, gamma=10, ema_kimg=10),
        "paper256": Preset(num_gpus=8, batch=64, mbstd_group=8, fmaps=0.5, lr=0.0025, gamma=1, ema_kimg=20),
        "paper512": Preset(num_gpus=8, batch=64, mbstd_group=8, fmaps=1, lr=0.0025, gamma=0.5, ema_kimg=20),
        "paper1024": Preset(num_gpus=8, batch=32, fmaps=1, lr=0.002, gamma=2, ema_kimg=10),
        "cifar": Preset(
            num_gpus=2,
            kimg=100000,
            batch=64,
            mbstd_group=32,
            fmaps=1,
            lr=0.0025,
            gamma=0.01,
            ema_kimg=500,
            ema_ramp=0.05,
            mapping_layers=2,
            pl_weight=0,
            style_mixing_prob=0,
            d_architecture="orig",
        ),
        # Small images on two CPU cores, good after 20 to 60 kimg: few channels, many and long steps (the
        # usual rate moves weights of unit variance too little in some thousand steps), a stronger R1 to
        # bear them, short memory, quick ADA.
        "small": Preset(
            kimg=40,
            batch=16,
            channel_max=128,
            lr=0.008,
            gamma_factor=0.0016,
            ema_ramp=0.05,
            mapping_layers=2,
            latent_dim=128,
            pl_weight=0,
            style_mixing_prob=0.5,
            ada_kimg=100,
            snap=5,
            mixed_precision_on_gpu=False,
        ),
    }
)


@dataclass(frozen=True)
class TrainConfig:
    """One training run, in the words of the `gan train` options; None = the preset's value.

    Raises:
        SettingsError: for a value or combination that cannot be meant.
    """

    data: Path
    outdir: Path
    split: Path | None = None  # None = train on every real image of the archive
    fold: int = 0  # of the split
    fraction: float | None = None  # of the split: labeled training images alone; None = all of the fold's
    gpus: int = 1  # processes that train together, one a GPU; with device="cpu" so many on the CPU
    snap: int | None = None  # ticks between snapshots
    metrics: str | None = None  # measured after each snapshot; None = fid50k_full on a GPU where it can be
    extractor: tuple[str, ...] = ()  # NAME=PATH of the networks that metrics look through
    best: str | None = None  # result that marks the best snapshot; None = the first metric's first
    keep: int | None = None  # newest snapshots that stay, beside the best; None = all
    seed: int = 0
    cond: bool = False  # class-conditional, with the archive's labels
    subset: int | None = None  # use at most so many images
    mirror: bool = False  # show every image mirrored left-right as well
    cfg: str = "auto"
    gamma: float | None = None  # R1 weight
    kimg: float | None = None  # thousands of images to train for
    batch: int | None = None  # images an iteration
    aug: str | None = None  # noaug, ada (None means ada), fixed
    p: float | None = None  # strength with aug=fixed
    target: float | None = None  # of ADA
    augpipe: str | None = None  # None = bgc
    resume: str | None = None  # snapshot, run folder, "latest", "auto", "noresume"
    freezed: int | None = None  # layers of D that stay as they are
    fp32: bool = False
    precision: str | None = None  # fp32, bf16, fp16; None = fp32 on a CPU, fp16 on a GPU
    nhwc: bool = False  # channels-last memory; always so on a CPU
    nobench: bool = False  # no cuDNN benchmark
    allow_tf32: bool = False
    workers: int = 3  # accepted for old command lines; images come from memory
    device: str = "auto"
    grid: tuple[int, int] | None = None  # columns and rows of the sample grids; None = by device
    channel_base: int | None = None  # channels at resolution r: min(channel_base / r, channel_max)
    channel_max: int | None = None
    latent_dim: int | None = None
    tick_kimg: float = 4.0  # thousands of images between two status lines
    save_every_sec: float = 300.0  # write the resumable state at a tick when the last one is older

    def __post_init__(self) -> None:
        def check(holds: bool, text: str) -> None:
            if not holds:
                raise SettingsError(text)

        check(
            self.gpus >= 1 and self.gpus & (self.gpus - 1) == 0,
            f"--gpus must be a power of two, got {self.gpus}",
        )
        check(self.snap is None or self.snap >= 1, f"--snap must be at least 1, got {self.snap}")
        check(self.keep is None or self.keep >= 1, f"--keep must be at least 1, got {self.keep}")
        has_metrics = self.metrics is None or bool(parse_metrics(self.metrics))
        check(
            self.best is None or has_metrics,
            f"--best={self.best} needs --metrics that measure it, got --metrics={self.metrics}",
        )
        for pair in self.extractor:
            name, equals, path = pair.partition("=")
            check(bool(name and equals and path), f"--extractor must be NAME=PATH, got '{pair}'")
        check(0 <= self.seed < 2**32, f"--seed must be between 0 and {2**32 - 1}, got {self.seed}")
        check(self.fold >= 0, f"--fold must be at least 0, got {self.fold}")
        check(
            self.fraction is None or self.split is not None,
            f"--fraction={self.fraction}: expected the split that it belongs to, got none; give --split",
        )
        check(self.subset is None or self.subset >= 1, f"--subset must be at least 1, got {self.subset}")
        check(self.cfg in PRESETS, f"--cfg must be one of {', '.join(PRESETS)}, got '{self.cfg}'")
        check(self.gamma is None or self.gamma >= 0, f"--gamma must be non-negative, got {self.gamma}")
        check(
            self.kimg is None or self.kimg > 0,
            f"--kimg must be at least 1 (or a fraction above 0 for a trial), got {self.kimg}",
        )
        check(
            self.batch is None or (self.batch >= 1 and self.batch % self.gpus == 0),
            f"--batch must be at least 1 and divisible by --gpus, got {self.batch}",
        )
        self._check_augmentation(check)
        check(
            self.freezed is None or self.freezed >= 0, f"--freezed must be non-negative, got {self.freezed}"
        )
        check(self.workers >= 1, f"--workers must be at least 1, got {self.workers}")
        check(self.device in DEVICES, f"--device must be one of {', '.join(DEVICES)}, got '{self.device}'")
        check(
            self.precision is None or self.precision in PRECISIONS,
            f"--precision must be one of {', '.join(PRECISIONS)}, got '{self.precision}'",
        )
        check(
            not self.fp32 or self.precision in (None, "fp32"),
            f"--fp32 and --precision={self.precision} contradict each other; give one of them",
        )
        check(
            self.grid is None or min(self.grid) >= 1,
            f"--grid must name at least 1x1 images (columns x rows), got {self.grid}",
        )
        for name in ("channel_base", "channel_max", "latent_dim"):
            value = getattr(self, name)
            check(value is None or value >= 1, f"--{name.replace('_', '-')} must be at least 1, got {value}")
        check(self.tick_kimg > 0, f"tick_kimg must be above 0, got {self.tick_kimg}")

    def _check_augmentation(self, check: Any) -> None:
        mode = self.aug_mode
        check(
            mode in AUGMENTATION_MODES, f"--aug must be one of {', '.join(AUGMENTATION_MODES)}, got '{mode}'"
        )
        check(self.p is None or mode == "fixed", "--p can only be specified with --aug=fixed")
        check(mode != "fixed" or self.p is not None, "--aug=fixed requires specifying --p")
        check(self.p is None or 0 <= self.p <= 1, f"--p must be between 0 and 1, got {self.p}")
        check(self.target is None or mode == "ada", "--target can only be specified with --aug=ada")
        check(
            self.target is None or 0 <= self.target <= 1,
            f"--target must be between 0 and 1, got {self.target}",
        )
        check(
            self.augpipe is None or self.augpipe in AUGMENTATION_PIPES,
            f"--augpipe must be one of {', '.join(AUGMENTATION_PIPES)}, got '{self.augpipe}'",
        )
        check(self.augpipe is None or mode != "noaug", "--augpipe cannot be specified with --aug=noaug")

    @property
    def aug_mode(self) -> str:
        return self.aug or "ada"

    @property
    def is_new_start(self) -> bool:
        """Nothing to continue from was named."""
        return self.resume in (None, RESUME_NOTHING)


@dataclass(frozen=True)
class Recipe:
    """Every number a training run needs, after preset, options and resolution have been put together."""

    resolution: int
    img_channels: int
    c_dim: int
    total_kimg: float
    batch_size: int
    batch_gpu: int  # images at a time; a process sums as many rounds as its share of the batch takes
    mbstd_group: int
    channel_base: int
    channel_max: int
    latent_dim: int
    mapping_layers: int
    num_fp16_res: int  # how many of the highest resolutions compute in low precision
    conv_clamp: float | None
    low_precision: str  # fp16 or bf16; fp32 where num_fp16_res is 0
    channels_last: bool
    d_architecture: str
    freeze_layers: int
    lr: float
    r1_gamma: float
    pl_weight: float
    style_mixing_prob: float
    ema_kimg: float
    ema_ramp: float | None
    ada_target: float | None  # None = p stays where it is
    ada_kimg: float
    augment_p: float | None  # initial p; None = no augmentation at all
    augmentations: tuple[str, ...]
    snap: int
    g_reg_interval: int = 4
    d_reg_interval: int = 16
    ada_interval: int = 4
    adam_betas: tuple[float, float] = field(default=(0.0, 0.99))
    adam_eps: float = 1e-8
    w_avg_beta: float = 0.995


def make_recipe(
    config: TrainConfig,
    resolution: int,
    img_channels: int,
    c_dim: int,
    on_gpu: bool,
    from_snapshot: bool = False,
) -> Recipe:
    """Put preset, options and resolution together by the official rules.

    The automatic gamma, EMA length and minibatch-deviation group follow the batch that is really used; the
    official code keeps those of the preset's batch when `--batch` is given.

    Args:
        from_snapshot: training starts from given weights: ADA is five times as quick, the EMA has no ramp.
    """
    preset = PRESETS[config.cfg]
    batch = config.batch or preset.batch or automatic_batch(resolution, config.gpus)
    is_automatic = preset.batch is None
    share = share_of_batch(batch, config.gpus, config.cfg)
    batch_gpu = share if config.batch or is_automatic else max(batch // preset.num_gpus, 1)
    batch_gpu = largest_divisor(share, batch_gpu)
    group = largest_divisor(batch_gpu, preset.mbstd_group)
    precision = _choose_precision(config, preset, on_gpu)
    mode = config.aug_mode
    fixed_p = config.p if mode == "fixed" else 0.0
    return Recipe(
        resolution=resolution,
        img_channels=img_channels,
        c_dim=c_dim,
        total_kimg=config.kimg or preset.kimg,
        batch_size=batch,
        batch_gpu=batch_gpu,
        mbstd_group=group,
        channel_base=config.channel_base or _channel_base(config.cfg, preset, resolution),
        channel_max=config.channel_max or preset.channel_max,
        latent_dim=config.latent_dim or preset.latent_dim,
        mapping_layers=preset.mapping_layers,
        num_fp16_res=0 if precision == "fp32" else 4,
        conv_clamp=256.0 if precision == "fp16" else None,
        low_precision=precision,
        channels_last=config.nhwc or not on_gpu,  # on a CPU a fifth faster in float32
        d_architecture=preset.d_architecture,
        freeze_layers=config.freezed or 0,
        lr=preset.lr or (0.002 if resolution >= 1024 else 0.0025),
        r1_gamma=_first(config.gamma, preset.gamma, preset.gamma_factor * resolution**2 / batch),
        pl_weight=preset.pl_weight,
        style_mixing_prob=preset.style_mixing_prob,
        ema_kimg=_first(preset.ema_kimg, batch * 10 / 32),
        ema_ramp=None if from_snapshot else preset.ema_ramp,
        ada_target=_first(config.target, 0.6) if mode == "ada" else None,
        ada_kimg=min(preset.ada_kimg, 100.0) if from_snapshot else preset.ada_kimg,
        augment_p=None if mode == "noaug" else fixed_p,
        augmentations=() if mode == "noaug" else AUGMENTATION_PIPES[config.augpipe or "bgc"],
        snap=config.snap or preset.snap,
    )


def share_of_batch(batch: int, num_processes: int, cfg: str) -> int:
    """Images of a batch that fall to each process.

    Raises:
        SettingsError: if the batch cannot be divided evenly.
    """
    if batch % num_processes:
        raise SettingsError(
            f"--gpus={num_processes}: batches of {batch} images (--cfg={cfg}) cannot be divided among "
            f"{num_processes} processes; give a --batch that is divisible by --gpus, or fewer --gpus"
        )
    return batch // num_processes


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that is at most `limit`."""
    return max(size for size in range(1, min(number, limit) + 1) if number % size == 0)


def share_recipe(recipe: Recipe, num_processes: int, cfg: str) -> Recipe:
    """The recipe of a run that goes on with another number of processes: as many images at a time as fit.

    Raises:
        SettingsError: if the batch cannot be divided evenly.
    """
    batch_gpu = largest_divisor(share_of_batch(recipe.batch_size, num_processes, cfg), recipe.batch_gpu)
    group = largest_divisor(batch_gpu, recipe.mbstd_group)
    return replace(recipe, batch_gpu=batch_gpu, mbstd_group=group)


def automatic_batch(resolution: int, num_gpus: int) -> int:
    """Images an iteration that fit a GPU: 32 up to 128 px, 16 at 256, ... 4 at 1024 (one GPU)."""
    return max(min(num_gpus * min(4096 // resolution, 32), 64), num_gpus)


def _channel_base(cfg: str, preset: Preset, resolution: int) -> int:
    if cfg == "small":  # 16 channels at the full resolution, twice as many at each halving
        return 16 * resolution
    fmaps = preset.fmaps or (1 if resolution >= 512 else 0.5)
    return int(fmaps * 32768)


def _choose_precision(config: TrainConfig, preset: Preset, on_gpu: bool) -> str:
    if config.fp32:
        return "fp32"
    if config.precision is not None:
        return config.precision
    return "fp16" if on_gpu and preset.mixed_precision_on_gpu else "fp32"


def _first(*values: float | None) -> float:
    return next(float(value) for value in values if value is not None)


def describe(config: TrainConfig, dataset_name: str, subset: int | None) -> str:
    """The part of a run folder's name after its number, built as the official code builds it.

    Args:
        subset: as asked for, None where it does not limit the data.
    """
    parts = [dataset_name]
    parts += ["cond"] if config.cond else []
    parts += [f"subset{subset}"] if subset is not None else []
    parts += ["mirror"] if config.mirror else []
    parts += [f"auto{config.gpus}" if config.cfg == "auto" else config.cfg]
    parts += [f"gamma{config.gamma:g}"] if config.gamma is not None else []
    parts += [f"kimg{config.kimg:g}"] if config.kimg is not None else []
    parts += [f"batch{config.batch}"] if config.batch is not None else []
    parts += [config.aug] if config.aug is not None else []
    parts += [f"p{config.p:g}"] if config.p is not None else []
    parts += [f"target{config.target:g}"] if config.target is not None else []
    parts += [config.augpipe] if config.augpipe is not None else []
    if config.resume == RESUME_NOTHING:
        parts += ["noresume"]
    elif config.resume in PUBLISHED_NETWORKS:
        parts += [f"resume{config.resume}"]
    elif config.resume not in (None, RESUME_LATEST, RESUME_AUTO):
        parts += ["resumecustom"]
    parts += [f"freezed{config.freezed}"] if config.freezed is not None else []
    parts += [f"fold{config.fold}"] if config.split is not None else []
    parts += [f"fraction{config.fraction:g}"] if config.fraction is not None else []
    return "-".join(parts)


def config_to_json(config: TrainConfig) -> dict[str, Any]:
    """Plain values for `config_from_json`; paths absolute, so that a run can go on from elsewhere."""
    values: dict[str, Any] = {}
    for name, value in vars(config).items():
        if isinstance(value, Path):
            value = str(value.resolve())
        values[name] = list(value) if isinstance(value, tuple) else value
    pairs = (pair.partition("=") for pair in config.extractor)
    values["extractor"] = [f"{name}={Path(path).resolve()}" for name, _, path in pairs]
    return values


def config_from_json(values: Mapping[str, Any]) -> TrainConfig:
    known = {name: value for name, value in values.items() if name in TrainConfig.__dataclass_fields__}
    for name in ("data", "outdir", "split"):
        known[name] = Path(known[name]) if known.get(name) is not None else None
    known["grid"] = tuple(known["grid"]) if known.get("grid") else None
    known["extractor"] = tuple(known.get("extractor", ()))
    return TrainConfig(**known)


# What may differ between a run and its continuation without changing what is learned.
FREE_WHEN_RESUMING = frozenset(
    {
        "gpus",
        "data",
        "split",
        "outdir",
        "resume",
        "kimg",
        "snap",
        "workers",
        "grid",
        "save_every_sec",
        "metrics",
        "extractor",
        "best",
        "keep",
        "device",
    }
)


def continued_config(stored: TrainConfig, wanted: TrainConfig, where: Path) -> TrainConfig:
    """The settings to go on with: those of the run, except for what a continuation is free to choose.

    Raises:
        SettingsError: if `wanted` would train something else than the run did.
    """
    for name in TrainConfig.__dataclass_fields__:
        before, now = getattr(stored, name), getattr(wanted, name)
        if name not in FREE_WHEN_RESUMING and before != now:
            raise SettingsError(
                f"--{name.replace('_', '-')}: the run in {where} was trained with {before}, now {now} is "
                f"asked for; "
                "leave the option as it was, or start a new run without --resume"
            )
    return replace(stored, **{name: getattr(wanted, name) for name in FREE_WHEN_RESUMING})
