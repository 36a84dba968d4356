"""Recipes: network, input, phases and rates of a training by one name; docs/recipes.md says what for.

Numbers that the projects behind these recipes state are theirs; the others are ours, and marked so there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches

from classifier.config import ClassifierConfig
from extract.errors import SettingsError
from extract.preprocessing import PLAIN, PRESETS, PreprocessConfig

CHEST, BRAIN_PLANES = "chest X-rays, classes as folders", "slices of brains, classes are planes"
LUNGS = "chest X-rays, four classes as folders (any number will do)"

FEW_SUBJECTS_SHARE = 0.25  # validates where a set has dozens of people: fewer could not choose a checkpoint
ENCODER = "an encoder of `classifier pretrain` (--weights RUN/encoder.safetensors)"
PUBLISHED = "published weights (--weights FILE, or --pretrained where there is a network)"


@dataclass(frozen=True)
class Recipe:
    """Settings that belong together, and what data they are meant for."""

    name: str
    summary: str
    data: str  # what it is meant for
    config: ClassifierConfig
    epochs: float | None  # passes over the training images; None = the steps of `config`
    image_size: int  # pixels a side of an archive made for it; a power of two
    start: str = ""  # what it continues from; "" = from random numbers
    smallest_size: int = 32  # pixels a side below which the network cannot work
    label_column: str = ""  # of a table of subjects that has it; without one the folders are the classes
    num_folds: int = 5  # of a split made for it; one fold is the test part
    val_share: float = 0.15  # of the subjects that are not tested

    @property
    def expects_weights(self) -> bool:
        """Whether it is meant to continue from weights, which `--weights FILE` (or `--pretrained`) gives."""
        return bool(self.start)

    @property
    def input_size(self) -> int:
        """Pixels a side of what the network sees."""
        return self.config.preprocessing.size or self.image_size


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        SettingsError: for any other name; close ones are suggested.
    """
    if name in RECIPES:
        return RECIPES[name]
    close = get_close_matches(name, RECIPES, n=4, cutoff=0.4)
    hint = f"did you mean {', '.join(close)}?" if close else f"there are {', '.join(RECIPES)}"
    raise SettingsError(f'there is no recipe named "{name}": {hint}')


def with_size(recipe: Recipe, size: int) -> Recipe:
    """The same recipe on images of `size` pixels a side, from an archive that is just as large or larger.

    Raises:
        SettingsError: if the network cannot work on images so small.
    """
    if size < recipe.smallest_size:
        raise SettingsError(
            f"--size must be at least {recipe.smallest_size} for the recipe {recipe.name}, got {size}"
        )
    steps = replace(recipe.config.preprocessing, size=size)
    return replace(recipe, config=replace(recipe.config, preprocessing=steps), image_size=_archive_side(size))


def with_config(recipe: Recipe, config: ClassifierConfig) -> Recipe:
    """The recipe with settings of the user's, and an archive that is large enough for their input."""
    size = config.preprocessing.size
    side = recipe.image_size if size is None else _archive_side(max(size, 8))
    return replace(recipe, config=config, image_size=side)


def from_chance(recipe: Recipe) -> Recipe:
    """The same recipe for a network that starts from random numbers.

    Parts that would rest learn from the first step, all at one rate that suits a start from nothing: a random
    body is no basis for a head. The other settings stay.
    """
    config = recipe.config
    return replace(
        recipe,
        config=replace(
            config,
            pretrained=False,
            weights=None,
            trained_stages=None,
            frozen_share=0.0,
            frozen_lr=None,
            freeze_norm=False,
            stage_lr_ratio=1.0,
            lr=config.lr if config.optimizer == "sgd" else None,
        ),
    )


def chance_note(recipe: Recipe) -> str:
    """What to tell where a recipe that expects weights starts without."""
    return (
        f"the recipe {recipe.name} continues from {recipe.start} and was given none: it starts from random "
        "numbers, all layers learn from the first step, and the result says little about the recipe as it is "
        "meant"
    )


def normalization_of(arch: str) -> str:
    """How a network of timm wants its input scaled, as the `normalize` of a preprocessing; ours: "dataset".

    Raises:
        SettingsError: for a network whose numbers are neither ImageNet's, nor [-1, 1], nor [0, 1].
    """
    from classifier.models import OWN_NETWORKS, check_arch, timm_name
    from classifier.preprocess import FIXED

    check_arch(arch)
    if arch in OWN_NETWORKS:
        return "dataset"
    import timm

    published = timm.get_pretrained_cfg(timm_name(arch))
    if published is None:
        return "dataset"
    for name, moments in FIXED.items():
        if moments == (tuple(published.mean), tuple(published.std)):
            return name
    raise SettingsError(
        f"{arch} was published for inputs of mean {published.mean} and deviation {published.std}, which no "
        f"normalize ({', '.join(FIXED)}) gives: choose one yourself"
    )


def _archive_side(size: int) -> int:
    """The smallest power of two that is not smaller."""
    return 1 << (size - 1).bit_length()


def _recipe(
    name: str,
    summary: str,
    data: str,
    config: ClassifierConfig,
    epochs: float | None,
    **others: int | float | str,
) -> Recipe:
    size = config.preprocessing.size
    assert size is not None, "a recipe says how large its network's input is"
    return Recipe(name, summary, data, config, epochs, _archive_side(size), **others)  # type: ignore[arg-type]


def _lung(size: int, normalize: str) -> PreprocessConfig:
    return replace(PRESETS["lung"], size=size, normalize=normalize)


FROM_SCRATCH = ClassifierConfig(
    head=(128,),
    dropout=0.5,
    batch_size=32,
    optimizer="adam",
    lr=1e-3,
    weight_decay=0.0,
    schedule="plateau",
    plateau_patience=3,
    plateau_factor=0.3,
    patience=8,
    preprocessing=_lung(128, "unit"),
)
CONVNETS = {
    "1": ("classic: 32, 64, 128, 128 filters", False),
    "2": ("the classic net with class weights", True),
    "3": ("more early filters: 64, 96, 128, 128", False),
    "4": ("more filters everywhere: 64, 128, 256, 256", False),
}


def _convnet_recipes() -> list[Recipe]:
    return [
        _recipe(
            f"lung-convnet-{number}",
            f"own convolutional net {number}, {summary}",
            LUNGS,
            replace(FROM_SCRATCH, arch=f"lung_convnet_{number}", balance_classes=balance),
            epochs=30,
        )
        for number, (summary, balance) in CONVNETS.items()
    ]


# Name in the recipe -> network and how it was published to take its input, see `normalization_of`.
TRANSFER = {
    "vgg16": ("vgg16_pooled", "imagenet"),
    "vgg19": ("vgg19_pooled", "imagenet"),
    "resnet50": ("resnet50", "imagenet"),
    "mobilenet": ("mobilenetv1_100", "symmetric"),
    "densenet201": ("densenet201", "imagenet"),
}
DENSE_HEAD, DENSE_DROPOUT = (1024, 512), 0.4


def _transfer_recipes() -> list[Recipe]:
    recipes = []
    for short, (arch, normalize) in TRANSFER.items():
        base = ClassifierConfig(
            arch=arch,
            trained_stages=0,
            batch_size=32,
            optimizer="adam",
            lr=1e-3,
            weight_decay=0.0,
            schedule="plateau",
            patience=4,
            preprocessing=_lung(224, normalize),
        )
        dense = replace(base, head=DENSE_HEAD, dropout=DENSE_DROPOUT)
        unfrozen = replace(dense, trained_stages=1, lr=1e-4, freeze_norm=True)
        for variant, summary, config in (
            ("base", "body at rest, one layer learns", base),
            ("dense", "body at rest, two dense layers (1024, 512, dropout 0.4) learn", dense),
            ("unfrozen", "the dense layers and the body's last block learn", unfrozen),
        ):
            name = f"lung-transfer-{short}-{variant}"
            recipes.append(_recipe(name, f"{arch}: {summary}", LUNGS, config, 10, start=PUBLISHED))
    return recipes


def _vit_recipes() -> list[Recipe]:
    return [
        _recipe(
            f"lung-vit-b{patch}",
            f"vision transformer B/{patch}: patches of {patch} pixels, the head first, then everything",
            LUNGS,
            ClassifierConfig(
                arch=f"vit_base_patch{patch}_224",
                batch_size=32,
                frozen_share=0.1,
                frozen_lr=1e-3,
                lr=1e-4,
                stage_lr_ratio=0.1,
                label_smoothing=0.1,
                preprocessing=_lung(224, "symmetric"),
            ),
            epochs=10,
            start=PUBLISHED,
        )
        for patch in (16, 32)
    ]


def _project_recipes() -> list[Recipe]:
    return [
        _recipe(
            "brain-planes",
            "convnext_tiny, fine-tuned: one pass for the head alone, then all layers at rates by depth",
            BRAIN_PLANES,
            ClassifierConfig(
                arch="convnext_tiny",
                frozen_share=1 / 5,
                frozen_lr=2e-3,
                lr=1e-3,
                stage_lr_ratio=0.01,
                warmup=0.3,
                weight_decay=0.01,
                tta=4,
                preprocessing=PRESETS["brain-planes"],
            ),
            epochs=5,
            start=PUBLISHED,
            val_share=FEW_SUBJECTS_SHARE,
        ),
        _recipe(
            "tumour-resnet50",
            "resnet50 with dropout 0.5 and sigmoids: 10 passes frozen at 1e-3, 10 free at 1e-5",
            "slices of brain MRI, kinds of tumour as folders",
            ClassifierConfig(
                arch="resnet50",
                dropout=0.5,
                loss="binary",
                frozen_share=0.5,
                frozen_lr=1e-3,
                lr=1e-5,
                batch_size=32,
                optimizer="adam",
                weight_decay=0.0,
                schedule="plateau",
                monitor="auroc",
                patience=5,
                preprocessing=PRESETS["tumour-resnet50"],
            ),
            epochs=20,
            start=PUBLISHED,
            num_folds=10,  # 80 % train, 10 % validate, 10 % test
            val_share=1 / 9,
        ),
        _recipe(
            "pneumonia-inceptionv3",
            "inception_v3, darkened and with more contrast, all layers learn, dense 1024, 512, 512",
            CHEST,
            ClassifierConfig(
                arch="inception_v3",
                head=(1024, 512, 512),
                batch_size=32,
                optimizer="sgd",
                momentum=0.9,
                lr=1e-2,
                weight_decay=0.0,
                schedule="plateau",
                patience=5,
                preprocessing=PRESETS["pneumonia-inceptionv3"],
            ),
            epochs=15,
            start=PUBLISHED,
            smallest_size=75,
        ),
    ]


DENOISER_HEADS = {
    "pneumonia-backbone": ("denoiser_se", "squeeze-and-excitation at three depths"),
    "pneumonia-backbone-plain": ("denoiser_plain", "pooled last stage"),
}


def _denoiser_recipes() -> list[Recipe]:
    """Encoder of a denoising autoencoder: two heads, two losses; all stages learn after the head."""
    return [
        _recipe(
            f"{name}-focal" if loss == "focal" else name,
            f"encoder that has learned to undo noise, {summary}, {loss.replace('_', ' ')} loss",
            CHEST,
            ClassifierConfig(
                arch=arch,
                loss=loss,
                steps=600,
                lr=3e-3,
                frozen_share=0.1,
                preprocessing=replace(PRESETS["pneumonia-backbone"], size=64),
            ),
            epochs=None,
            start=ENCODER,
            label_column="type",
        )
        for name, (arch, summary) in DENOISER_HEADS.items()
        for loss in ("cross_entropy", "focal")
    ]


def _baseline_recipes() -> list[Recipe]:
    return [
        _recipe(
            "chest",
            "our baseline for chest X-rays: small_resnet from scratch",
            CHEST,
            ClassifierConfig(
                arch="small_resnet",
                steps=1500,
                validate_every=150,
                preprocessing=replace(PLAIN, size=64),
            ),
            epochs=None,
            label_column="type",
        ),
        _recipe(
            "brain",
            "our baseline for slices of brains: small_resnet from scratch",
            BRAIN_PLANES,
            ClassifierConfig(
                arch="small_resnet", steps=300, validate_every=50, preprocessing=replace(PLAIN, size=64)
            ),
            epochs=None,
            val_share=FEW_SUBJECTS_SHARE,
        ),
    ]


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        *_baseline_recipes(),
        *_project_recipes(),
        *_denoiser_recipes(),
        *_convnet_recipes(),
        *_transfer_recipes(),
        *_vit_recipes(),
    )
}
