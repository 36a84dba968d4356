"""The `pseudo` section of a study file: how many rounds, which rule chooses, what a student learns.

Each rule has a class with its own parameters, so that a parameter of another rule is refused instead of being
ignored.
"""

from difflib import get_close_matches
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    field_validator,
    model_serializer,
    model_validator,
)

from semisup.section import Section

# What may turn a synthetic image away before a rule sees it; see gates.py.
GATES = ("same_picture", "memorised", "near_duplicate", "off_manifold")
Share = Annotated[float, Field(gt=0, lt=1)]
ENSEMBLE_SIZE = 3  # of teachers, each a training
STUDENT_SETTINGS = ("student", "ramp", "quota")  # how a model is trained on labeled and other images
# Settings that a plan does not show at their defaults: studies that began before there were they go on.
LEFT_OUT = (
    "calibration_share", "uncertainty", "align", "labels", "weight_by", "stop_flip_rate", "stop_without_gain",
    "negative", *STUDENT_SETTINGS, "relabel", "stop_class_drift",
)  # fmt: skip


class UncertaintyConfig(Section):
    """How often a teacher is asked about each image, and what becomes of those it is unsure of."""

    method: Literal["tta", "mc_dropout", "ensemble"]
    samples: int = Field(default=8, ge=1)  # predictions of an image; of an ensemble 3 by default: trainings
    measure: Literal["std", "mutual_information"] = "std"  # of the predicted class; or over all classes
    max: float | None = Field(default=None, gt=0)  # images above it get no pseudo-label; none = all may
    scale: float = Field(default=0.1, gt=0)  # with weight_by: uncertainty; weight exp(-uncertainty / scale)

    @model_validator(mode="before")
    @classmethod
    def _fewer_trainings(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("method") == "ensemble":
            return {"samples": ENSEMBLE_SIZE, **given}
        return given


class PseudoConfig(Section):
    """What the rounds need whatever the rule."""

    rounds: int = Field(default=2, ge=0)  # students after the supervised model
    calibrate: bool = True  # temperature fitted on real validation subjects, each round
    calibration_share: float = Field(
        default=0.0, ge=0, lt=1
    )  # of them, held out for that alone; 0 = all serve
    # Most that pseudo-labeled images may count in the loss, as a share of all; 1 = plain concatenation.
    pseudo_share: float = Field(default=0.5, gt=0, le=1)
    align: bool = False  # shift predictions over the pool to the labeled images' shares of the classes first
    labels: Literal["hard", "soft", "weighted"] = "hard"  # what a student learns from a selected image
    weight_by: Literal["confidence", "entropy", "uncertainty"] = "confidence"  # with weighted labels
    uncertainty: UncertaintyConfig | None = None  # none = the teacher is asked once
    # Classes at or below this probability are what an image without a pseudo-label is taught not to be.
    negative: float | None = Field(default=None, gt=0, lt=0.5)
    student: Literal["fresh", "warm"] = "fresh"  # from scratch, or from the teacher's weights
    ramp: float | None = Field(default=None, gt=0, le=1)  # of the steps, in which pseudo-labels gain weight
    quota: Share | None = None  # of pseudo-labeled images in every batch, in place of pseudo_share
    relabel: bool = True  # false: what was selected once keeps its label in all later rounds
    stop_flip_rate: float | None = Field(default=None, ge=0, lt=1)  # end where no more labels would change
    stop_without_gain: int | None = Field(default=None, ge=1)  # end after so many rounds without a better one
    stop_class_drift: Share | None = None  # end where the pseudo-labels' classes are farther from the labels'
    gates: list[str] = Field(default=list(GATES))  # that synthetic images must pass, in the order of asking

    @field_validator("gates")
    @classmethod
    def _check_gates(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in GATES:
                close = get_close_matches(name, GATES, n=1, cutoff=0.6)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise ValueError(
                    f"{name!r} is no gate{hint}; known gates: {', '.join(GATES)}, or [] for none"
                )
        if len(set(names)) < len(names):
            raise ValueError(f"names the same gate twice ({', '.join(names)})")
        return names

    @model_validator(mode="after")
    def _check_weights(self) -> "PseudoConfig":
        if "weight_by" in self.model_fields_set and self.labels != "weighted":
            raise ValueError(f"weight_by goes with labels: weighted, and labels is {self.labels}")
        if self.quota is not None and "pseudo_share" in self.model_fields_set:
            raise ValueError(
                "quota and pseudo_share both say how much pseudo-labeled images count; set one of the two"
            )
        if self.negative is not None and self.labels == "soft":
            raise ValueError("negative goes with labels: hard or weighted; soft ones say it all already")
        if self.weight_by == "uncertainty" and self.uncertainty is None:
            raise ValueError(
                "weight_by: uncertainty needs to know it; add uncertainty: {method: tta}, or another method"
            )
        if self.calibration_share and not self.calibrate:
            raise ValueError("calibration_share holds subjects out for a temperature, and calibrate is false")
        return self

    @property
    def student_settings(self) -> dict[str, Any]:
        """Those of `STUDENT_SETTINGS` that are not at their defaults."""
        values = {name: getattr(self, name) for name in STUDENT_SETTINGS}
        return {
            name: value for name, value in values.items() if value != type(self).model_fields[name].default
        }

    @property
    def num_members(self) -> int:
        """Trainings of further teachers, in each round that scores a pool."""
        asked = self.uncertainty
        return asked.samples - 1 if asked is not None and asked.method == "ensemble" else 0

    @model_serializer(mode="wrap")
    def _leave_out_unused(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = write(self)
        if content.get("rule") == "fixed":
            content.pop("rule")  # studies that began before there was a choice go on
        for name in LEFT_OUT:
            if getattr(self, name) == type(self).model_fields[name].default:
                content.pop(name, None)
        if not self.gates:
            content.pop("gates", None)  # studies that began before there were gates go on with none
        return content


class CappedConfig(PseudoConfig):
    """Rules that can be capped."""

    max_per_class: int | None = Field(default=None, ge=1)  # images a predicted class and round; none = all


class FixedRule(CappedConfig):
    """One threshold; the defaults are the seed project's loop, calibrated and weighted."""

    rule: Literal["fixed"] = "fixed"
    threshold: float = Field(default=0.75, gt=0, le=1)  # calibrated probability to reach


class PerClassRule(CappedConfig):
    """A threshold for each predicted class."""

    rule: Literal["per_class"]
    class_thresholds: Annotated[  # class name: calibrated probability to reach
        dict[str, Annotated[float, Field(gt=0, le=1)]], Field(min_length=1)
    ]


class TopKRule(PseudoConfig):
    """The surest images of each predicted class."""

    rule: Literal["top_k"]
    images_per_class: int = Field(ge=1)
    max_class_share: float = Field(default=1.0, gt=0, le=1)  # of the images predicted as a class


class CurriculumRule(CappedConfig):
    """A share of the pool that grows with the rounds."""

    rule: Literal["curriculum"]
    step_percent: float = Field(default=20.0, gt=0, le=100)  # of the pool, more in each round


class FlexMatchRule(CappedConfig):
    """A threshold scaled for each class by how far it is learned."""

    rule: Literal["flexmatch"]
    threshold: float = Field(default=0.95, gt=0, le=1)  # of the best learned class; the paper's


class FreeMatchRule(CappedConfig):
    """Thresholds from the pool's probabilities alone."""

    rule: Literal["freematch"]


class ErrorControlledRule(CappedConfig):
    """The smallest threshold whose error on held-out real subjects is bounded."""

    rule: Literal["error_controlled"]
    epsilon: Share = 0.1  # share of wrong pseudo-labels to accept
    delta: Share = 0.05  # chance that it is exceeded all the same
    by_class: bool = False  # a threshold for each predicted class


class RandomRule(CappedConfig):
    """The control of `fixed`: as many images of each predicted class, drawn blindly."""

    rule: Literal["random"]
    threshold: float = Field(default=0.75, gt=0, le=1)  # of the fixed rule whose counts are matched


def _rule_of(given: Any) -> str | None:
    """The rule that a section names; a file that names none means the fixed threshold."""
    rule = given.get("rule", "fixed") if isinstance(given, dict) else getattr(given, "rule", "fixed")
    return rule if isinstance(rule, str) else repr(rule)


PseudoSection = Annotated[
    Annotated[FixedRule, Tag("fixed")]
    | Annotated[PerClassRule, Tag("per_class")]
    | Annotated[TopKRule, Tag("top_k")]
    | Annotated[CurriculumRule, Tag("curriculum")]
    | Annotated[FlexMatchRule, Tag("flexmatch")]
    | Annotated[FreeMatchRule, Tag("freematch")]
    | Annotated[ErrorControlledRule, Tag("error_controlled")]
    | Annotated[RandomRule, Tag("random")],
    Discriminator(_rule_of),
]
RULE_CLASSES: tuple[type[PseudoConfig], ...] = (
    FixedRule, PerClassRule, TopKRule, CurriculumRule, FlexMatchRule, FreeMatchRule, ErrorControlledRule,
    RandomRule,
)  # fmt: skip
RULES = {get_args(rule.model_fields["rule"].annotation)[0]: rule for rule in RULE_CLASSES}


def settings_of(rule: type[PseudoConfig]) -> list[str]:
    """The names that a section with this rule may hold, the rule's own first."""
    own = rule.__annotations__
    return [*own, *(name for name in rule.model_fields if name not in own)]
