"""The study file: what it may say, and the sentence a wrong one is answered with."""

import dataclasses
import typing
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    create_model,
    model_serializer,
    model_validator,
)

from classifier.config import ClassifierConfig
from classifier.fixmatch_config import FixMatchConfig
from extract.errors import SettingsError
from extract.preprocessing import PLAIN, PreprocessConfig, parse_preprocessing
from gan.config import TrainConfig
from semisup.arms import ARMS, DEFAULT_ARMS
from semisup.leak_settings import check_leaks
from semisup.pseudo_config import RULES, FixedRule, PseudoSection, settings_of
from semisup.section import Section

# What the engine sets itself, run by run; everything else of the two packages' settings may stand in a study.
# `patience` would end one arm's training before another's.
CLASSIFIER_SET_HERE = frozenset({"seed", "threads", "calibrate", "preprocessing", "patience"})
# Settings of the first release, which always stand in a plan; later ones stand there where they are used.
FIRST_CLASSIFIER_SETTINGS = frozenset({
    "arch", "pretrained", "steps", "batch_size", "lr", "weight_decay", "warmup", "augment", "mirror",
    "label_smoothing", "balance_classes", "validate_every", "keep", "device",
})  # fmt: skip
CURVE_ARM = "supervised"  # whose curve label equivalence is read off
NO_AUGMENTATION = {"augment": False, "mixup": 0.0, "cutmix": 0.0}  # of training images
GAN_SET_HERE = frozenset(
    {"data", "split", "fold", "fraction", "outdir", "resume", "cond", "metrics", "gpus", "workers"}
)


def _unique(values: Any) -> Any:
    if isinstance(values, list) and len({repr(value) for value in values}) < len(values):
        raise ValueError("names the same value twice")
    return values


Listed = BeforeValidator(_unique)
Fraction = Annotated[float, Field(gt=0, le=1)]


class Primary(Section):
    """The one comparison that the headline is about, named before the first run."""

    arm: str
    baseline: str = "supervised"
    fraction: Fraction
    metric: Literal["balanced_accuracy", "accuracy", "macro_f1"] = "balanced_accuracy"


class PoolConfig(Section):
    """The synthetic images to choose from."""

    num_images: int = Field(default=2000, ge=1)
    truncation_psi: float = Field(default=1.0, ge=0, le=1)


class PreprocessedSection(Section):
    """Settings with steps before the network: a preset's name, or a mapping of settings."""

    preprocessing: Annotated[PreprocessConfig, BeforeValidator(parse_preprocessing)] = PLAIN

    @model_serializer(mode="wrap")
    def _leave_out_plain(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = write(self)
        for name, field in type(self).model_fields.items():
            if name not in FIRST_CLASSIFIER_SETTINGS and getattr(self, name) == field.default:
                content.pop(name, None)  # studies that began before there was this setting go on
        if self.preprocessing == PLAIN:
            content.pop("preprocessing", None)
        else:
            content["preprocessing"] = self.preprocessing.differences()
        return content


def _section_from(
    settings: type, name: str, leave_out: frozenset[str], extra: dict[str, Any], base: type[Section] = Section
) -> type[Section]:
    """A section with the fields of another package's settings dataclass, less what the engine sets itself."""
    hints = typing.get_type_hints(settings)
    fields: dict[str, Any] = dict(extra)
    for field in dataclasses.fields(settings):
        if field.name in leave_out:
            continue
        default: Any = ...
        if field.default is not dataclasses.MISSING:
            default = field.default
        elif field.default_factory is not dataclasses.MISSING:
            default = Field(default_factory=field.default_factory)
        fields[field.name] = (hints[field.name], default)
    # `__module__` makes it importable, so that it pickles.
    return create_model(name, __base__=base, __module__=__name__, **fields)


if typing.TYPE_CHECKING:  # their fields are known at run time alone
    ClassifierSection = Any
    GanSection = Any
    FixMatchSection = Any
else:
    ClassifierSection = _section_from(
        ClassifierConfig, "ClassifierSection", CLASSIFIER_SET_HERE, {}, PreprocessedSection
    )
    GanSection = _section_from(
        TrainConfig, "GanSection", GAN_SET_HERE, {"network": (Path | dict[int, Path] | None, None)}
    )
    FixMatchSection = _section_from(FixMatchConfig, "FixMatchSection", frozenset(), {})


class AuditConfig(Section):
    """Whether the headline waits for an expert, and how wrong the pseudo-labels may be."""

    required: bool = False
    max_error: float | None = Field(default=None, gt=0, lt=1)  # upper limit of their error

    @model_validator(mode="after")
    def _check_bound(self) -> "AuditConfig":
        if self.max_error is not None and not self.required:
            raise ValueError("max_error takes effect with required: true alone; add it, or leave both out")
        return self


class StudyConfig(Section):
    """A whole study file."""

    name: str = Field(min_length=1, pattern=r"^[^/\\\n]+$")
    data: Path  # archive, relative to the study file
    split: Path
    folds: Literal["all"] | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1), Listed] = "all"
    seeds: Annotated[list[int], Field(min_length=1), Listed] = Field(default=[0, 1, 2])
    fractions: Annotated[list[Fraction], Field(min_length=1), Listed] = Field(default=[0.2, 0.5, 0.7])
    curve_fractions: Annotated[list[Fraction], Listed] = Field(default=[])  # of `supervised` alone, besides
    arms: Annotated[list[str], Field(min_length=1), Listed] = Field(default=list(DEFAULT_ARMS))
    controls_of: str | None = None  # arm whose rounds the controls repeat; none = see `reference_arm`
    allow_leaks: bool = False  # deliberate faults: `leak_*` among the arms
    primary: Primary
    classifier: ClassifierSection = ClassifierSection()
    gan: GanSection = GanSection()
    pool: PoolConfig = PoolConfig()
    pseudo: PseudoSection = FixedRule()
    audit: AuditConfig = AuditConfig()
    fixmatch: FixMatchSection = FixMatchSection()
    threads: int = Field(default=1, ge=1)  # of torch in a run; part of the plan, for it moves last digits
    gan_threads: int | None = Field(default=None, ge=1)  # in a generator's training; none = as many

    @model_validator(mode="after")
    def _check_arms(self) -> "StudyConfig":
        for name in self.arms:
            if name not in ARMS:
                raise ValueError(
                    f"arms: {name!r} is no arm{_suggest(name, ARMS)}; known arms: {', '.join(ARMS)}"
                )
        if any(ARMS[name].starts_from_supervised for name in self.arms) and "supervised" not in self.arms:
            raise ValueError(
                "arms: pseudo-label arms start from the supervised model, so 'supervised' must be listed"
            )
        self._check_controls()
        check_leaks(self)
        own = [name for name in self.arms if ARMS[name].draws_images and ARMS[name].generator != "all"]
        if self.gan.network is not None and own:
            may_see = "may see the labeled images of each fraction alone"
            if ARMS[own[0]].is_leak:
                may_see = "sees all images, which no other may"
            raise ValueError(
                f"arms: the generator of {own[0]!r} {may_see}, so "
                "the study trains it itself; leave gan.network out, or this arm"
            )
        if "supervised_plain" in self.arms and not self._augments:
            raise ValueError(
                "arms: 'supervised_plain' is the baseline without augmentation, and this study's classifier "
                "has none; set classifier.augment, or leave the arm out"
            )
        for role in ("arm", "baseline"):
            name = getattr(self.primary, role)
            if name not in self.arms:
                raise ValueError(f"primary.{role}: {name!r} is not among the arms ({', '.join(self.arms)})")
        if self.primary.arm == self.primary.baseline:
            raise ValueError(
                f"primary: arm and baseline are both {self.primary.arm!r}; name two arms to compare"
            )
        if self.primary.fraction not in self.fractions:
            raise ValueError(f"primary.fraction: {self.primary.fraction:g} is not among the fractions "
                             f"({', '.join(f'{f:g}' for f in self.fractions)})")  # fmt: skip
        self._check_curve()
        if self.audit.required and not ARMS[self.primary.arm].pseudo_labels:
            raise ValueError(f"audit: the primary arm {self.primary.arm!r} has no pseudo-labels to audit")
        if not self.fits(self.primary.arm, self.primary.fraction):
            raise ValueError(f"primary: {self.primary.arm} has no images without labels at fraction 1")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_unused(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = write(self)  # plans that began before there was a setting stay as they are
        if not self.audit.required:
            content.pop("audit", None)
        if not self.allow_leaks:
            content.pop("allow_leaks", None)
        if not self.curve_fractions:
            content.pop("curve_fractions", None)
        return content

    def _check_curve(self) -> None:
        """Refuse points of the supervised curve that nobody would read, or that are there already."""
        if not self.curve_fractions:
            return
        if CURVE_ARM not in self.arms:
            raise ValueError(
                f"curve_fractions: at these fractions {CURVE_ARM!r} alone is run, and it is not among the "
                f"arms ({', '.join(self.arms)}); add it, or leave curve_fractions out"
            )
        for fraction in self.curve_fractions:
            if fraction in self.fractions:
                raise ValueError(
                    f"curve_fractions: {fraction:g} is among the fractions, where all arms are run; name it "
                    "once"
                )
        if 1.0 in self.curve_fractions and "supervised_full" in self.arms:
            raise ValueError(
                "curve_fractions: 'supervised_full' is the supervised model at fraction 1 already; leave 1 "
                "out"
            )

    def _check_controls(self) -> None:
        controls = [name for name in self.arms if ARMS[name].is_control]
        rounds = [name for name in self.arms if ARMS[name].may_be_repeated]
        if self.controls_of is not None and self.controls_of not in rounds:
            raise ValueError(
                f"controls_of: expected a pseudo-label arm of this study "
                f"({', '.join(rounds) or 'it has none'}), got {self.controls_of!r}"
            )
        asked = self.pseudo.uncertainty
        if asked is not None and asked.method == "mc_dropout" and not self.classifier.dropout:
            raise ValueError(
                "pseudo.uncertainty: mc_dropout needs a network with dropout, and classifier.dropout is 0; "
                "set it to 0.2, say, or choose tta or ensemble"
            )
        if controls and self.pseudo.labels == "soft":
            raise ValueError(
                f"arms: {controls[0]!r} repeats one label an image, and pseudo.labels is soft; set it to "
                "hard or weighted, or leave the controls out"
            )
        if controls and self.pseudo.negative is not None:
            raise ValueError(
                f"arms: {controls[0]!r} repeats what images are, and pseudo.negative says what they are not; "
                "leave it out, or the controls"
            )
        if "random_selection" in controls and not self.pseudo.relabel:
            raise ValueError(
                "arms: 'random_selection' draws anew in each round, and pseudo.relabel: false keeps labels; "
                "leave one of the two out"
            )
        if controls and not rounds:
            raise ValueError(
                f"arms: {controls[0]!r} repeats the rounds of a pseudo-label arm, and none is listed; "
                "add one such as 'pseudo_real'"
            )

    def fits(self, arm: str, fraction: float) -> bool:
        """Whether an arm means anything at a fraction; one that repeats another's rounds: as that."""
        return ARMS[self.pool_arm(arm)].fits(fraction)

    def pool_arm(self, arm: str) -> str:
        """The arm whose pool an arm has: its own, or that of the arm whose rounds it repeats."""
        return arm if ARMS[arm].has_own_pool else str(self.reference_arm)

    def fractions_of(self, arm: str) -> list[float]:
        """The label fractions that an arm is run at, from the smallest; 1 for an arm that has all labels."""
        if not ARMS[arm].uses_fraction:
            return [1.0]
        further = self.curve_fractions if arm == CURVE_ARM else []
        return sorted(fraction for fraction in [*self.fractions, *further] if self.fits(arm, fraction))

    @property
    def reference_arm(self) -> str | None:
        """Whose rounds the controls repeat: as said, or the primary arm, or the first with rounds."""
        rounds = [name for name in self.arms if ARMS[name].may_be_repeated]
        if self.controls_of is not None:
            return self.controls_of
        return self.primary.arm if self.primary.arm in rounds else next(iter(rounds), None)

    @property
    def _augments(self) -> bool:
        section = self.classifier
        return bool(section.augment or section.mixup or section.cutmix)

    @property
    def needs_gan(self) -> bool:
        return any(ARMS[name].draws_images for name in self.arms)

    @property
    def has_gates(self) -> bool:
        """Whether any arm has images that must pass a gate."""
        return bool(self.pseudo.gates) and any(ARMS[name].is_gated for name in self.arms)

    @property
    def threads_of_gan(self) -> int:
        return self.gan_threads or self.threads

    def classifier_of(self, arm: str) -> ClassifierSection:
        """The settings that an arm trains with: those of the study, but for an arm without augmentation."""
        return self.classifier if ARMS[arm].augments else self.classifier.model_copy(update=NO_AUGMENTATION)

    def classifier_config(self, seed: int, arm: str = "supervised") -> ClassifierConfig:
        """The settings of one classifier training; calibration is left to the rounds."""
        section = self.classifier_of(arm).model_dump()
        return ClassifierConfig(**section, seed=seed, threads=self.threads, calibrate=False)

    @property
    def fixmatch_config(self) -> FixMatchConfig:
        return FixMatchConfig(**self.fixmatch.model_dump())

    def gan_config(
        self,
        fold: int,
        seed: int,
        outdir: Path,
        *,
        fraction: float | None = None,
        conditional: bool = False,
        deliberate_leak: bool = False,
    ) -> TrainConfig:
        """The settings of a fold's generator; it goes on if it was stopped before.

        Args:
            fraction: of labels, whose images it may see alone; None = all training images.
            conditional: it learns from the labels, too.
            deliberate_leak: it sees everybody, test subjects included; for `leak_generator` alone.
        """
        section = self.gan.model_dump(exclude={"network", "seed"})
        return TrainConfig(
            **section,
            data=self.data,
            split=None if deliberate_leak else self.split,
            fold=0 if deliberate_leak else fold,
            fraction=fraction,
            cond=conditional,
            outdir=outdir,
            seed=seed,
            resume="auto",
        )


class _PlanLoader(yaml.SafeLoader):
    """Plain YAML in which a key may stand once: of two `fractions`, one would be ignored in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                line = key.start_mark.line + 1
                raise yaml.YAMLError(f"line {line} sets {key.value!r} a second time; keep one of them")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_study(path: Path) -> StudyConfig:
    """Read a study file; its relative paths are taken from the folder that it lies in.

    Raises:
        SettingsError: one sentence that names the file, the key and what is allowed there.
    """
    path = Path(path)
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_PlanLoader)
    except OSError as error:
        raise SettingsError(f"{path}: cannot read the study file: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: expected a YAML file: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise SettingsError(
            f"{path}: expected settings such as 'name: my-study', one a line; the file has none"
        )
    try:
        config = StudyConfig.model_validate(content)
    except ValidationError as error:
        raise SettingsError(f"{path}: {_in_words(error)}") from error
    config = _resolve_paths(config, path.parent.resolve())
    for section, build in (
        ("classifier", lambda: config.classifier_config(seed=0)),
        ("fixmatch", lambda: config.fixmatch_config),
        ("gan", lambda: config.gan_config(fold=0, seed=0, outdir=path.parent)),
    ):
        try:
            build()  # the packages know best what their settings allow
        except SettingsError as error:
            raise SettingsError(f"{path}: {section}: {error}") from error
    return config


def _resolve_paths(config: StudyConfig, folder: Path) -> StudyConfig:
    network = config.gan.network
    if isinstance(network, dict):
        network = {fold: folder / file for fold, file in network.items()}
    elif network is not None:
        network = folder / network
    gan = config.gan.model_copy(update={"network": network})
    classifier = config.classifier
    if classifier.weights is not None:
        classifier = classifier.model_copy(update={"weights": folder / classifier.weights})
    return config.model_copy(
        update={
            "data": folder / config.data,
            "split": folder / config.split,
            "gan": gan,
            "classifier": classifier,
        }
    )


def _in_words(error: ValidationError) -> str:
    """The first problem in one sentence, with the key's path, and the places of the others."""
    first, *others = error.errors()
    given = first["input"]
    rule = str(first["loc"][1]) if first["loc"][:1] == ("pseudo",) and len(first["loc"]) > 1 else None
    loc = first["loc"][:1] + first["loc"][2:] if rule else first["loc"]  # the rule is no key of the file
    place = ".".join(str(part) for part in loc if part not in ("all", "list[constrained-int]"))
    if first["type"] == "extra_forbidden":
        key = str(loc[-1])
        of_rule = rule if len(loc) == 2 else None  # else of a section within the rule's
        allowed = settings_of(RULES[rule]) if of_rule and rule else _allowed_keys(loc[:-1], rule)
        problem = _of_another_rule(key, of_rule) if of_rule else ""
        sentence = (
            f"{place}: {problem or 'unknown setting' + _suggest(key, allowed)}; "
            f"allowed here: {', '.join(allowed)}"
        )
    elif first["type"] == "union_tag_invalid":
        tag = first["ctx"]["tag"].strip("'")
        sentence = f"{place}.rule: {tag!r} is no rule{_suggest(tag, RULES)}; known rules: {', '.join(RULES)}"
    elif first["type"] == "missing":
        sentence = f"{place}: this setting is required and missing"
    elif first["type"] in ("value_error", "assertion_error"):
        reason = str(first["ctx"]["error"])
        sentence = f"{place}: {reason}" if place else reason
    elif first["loc"][0] == "folds":  # pydantic tells of both forms, and of neither in words
        sentence = f"folds: expected all, or a list of fold numbers such as [0, 1], got {given!r}"
        others = [other for other in others if other["loc"][0] != "folds"]
    else:
        expected = _EXPECTED.get(first["type"], first["msg"]).format(**first.get("ctx", {}))
        sentence = f"{place}: expected {expected}, got {given!r}"
    if place.startswith("gan.network."):
        sentence = (
            f"gan.network: expected a snapshot, or one a fold such as {{0: a.safetensors}}, got {given!r}"
        )
        others = [other for other in others if other["loc"][:2] != ("gan", "network")]
    if others:
        sentence += (
            f" (and {len(others)} more: {', '.join(sorted({str(o['loc'][0]) for o in others if o['loc']}))})"
        )
    return sentence


# pydantic's kinds of error in the words of somebody who wrote a file rather than a program.
_EXPECTED = {
    "int_parsing": "a whole number", "int_type": "a whole number", "int_from_float": "a whole number",
    "float_parsing": "a number", "float_type": "a number",
    "bool_parsing": "true or false", "bool_type": "true or false",
    "string_type": "text", "list_type": "a list such as [a, b]",
    "model_type": "settings such as {{key: value}}",
    "invalid_key": "the name of a setting",
    "string_pattern_mismatch": "text without / or \\ on one line",
    "string_too_short": "text that is not empty",
    "too_short": "a list with at least one entry", "literal_error": "{expected}",
    "path_type": "the name of a file",
    "greater_than": "more than {gt:g}", "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}", "less_than_equal": "at most {le:g}",
}  # fmt: skip


def _of_another_rule(key: str, rule: str) -> str:
    """Whose parameter a key is; empty where it is nobody's."""
    owners = [name for name, other in RULES.items() if key in other.model_fields]
    return f"goes with rule {' or '.join(owners)}, and the rule here is {rule}" if owners else ""


def _allowed_keys(place: tuple[int | str, ...], rule: str | None = None) -> list[str]:
    section: Any = StudyConfig
    for part in place:
        found = RULES[rule] if rule and part == "pseudo" else section.model_fields[str(part)].annotation
        # Of a section that may be left out, the part that is there.
        section = next((kind for kind in typing.get_args(found) if kind is not type(None)), found)
    return list(section.model_fields)


def _suggest(word: str, known: typing.Iterable[str]) -> str:
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
