"""The arms of a study, as data: what each trains on, and which question it answers."""

from dataclasses import dataclass
from typing import Literal

from extract.language import Message

PoolKind = Literal["none", "real", "synthetic", "both", "oracle"]
GeneratorData = Literal[
    "all",  # all training images of the fold, without labels
    "fraction",  # the labeled fraction alone, without labels
    "classes",  # the labeled fraction alone, with its labels: draws a class that it is told
    "everyone",  # all images of the archive, without labels: a deliberate fault
]
Method = Literal[
    "labels",  # one training on labeled images
    "rounds",  # pseudo-label rounds that begin with the supervised model
    "fixmatch",  # one training on labeled images and views of the pool
    "given",  # one training on labeled and synthetic images whose class was asked for
    "synthetic",  # one training on such images alone
    "control",  # repeats the rounds of another arm with one thing about its additions changed
    "by image",  # one training on labeled images that were split by image: a deliberate fault
]
Judge = Literal[
    "validation",  # real images with expert labels, as it should be
    "own labels",  # as many pseudo-labeled images among them
    "test",
]


@dataclass(frozen=True)
class Arm:
    """One way to use the labels and images of a fold."""

    name: str
    pool: PoolKind  # where unlabeled images come from; a control's is that of its reference
    uses_fraction: bool  # False: all training labels, whatever the fraction
    text: Message  # one line for plan and report
    method: Method = "labels"
    generator: GeneratorData = "all"
    augments: bool = True  # False: training images as they are, whatever the study's settings say
    fault: Message | None = None  # of a `leak_*` arm: what it does wrong on purpose, one sentence
    judged_by: Judge = "validation"  # what chooses its checkpoints and rounds; other than that, a fault

    @property
    def starts_from_supervised(self) -> bool:
        """Whether its round 0 is the supervised model of the same fold, seed and fraction."""
        return self.method in ("rounds", "control", "given") and self.judged_by != "test"

    @property
    def draws_images(self) -> bool:
        """Whether it needs a generator."""
        return self.pool in ("synthetic", "both")

    @property
    def is_gated(self) -> bool:
        """Whether its synthetic images must pass the gates; not where they show what a generator does."""
        return self.draws_images and self.method in ("rounds", "given")

    @property
    def pseudo_labels(self) -> bool:
        """Whether a model gives labels that an expert could judge."""
        return self.method == "rounds" and not self.is_leak

    @property
    def is_leak(self) -> bool:
        """Whether it commits a fault on purpose, to show what that would have claimed: never a result."""
        return self.fault is not None

    @property
    def has_own_pool(self) -> bool:
        """False: its pool is that of the arm whose rounds it repeats."""
        return not self.is_control and self.judged_by == "validation"

    @property
    def may_be_repeated(self) -> bool:
        """Whether it has rounds that controls, and faults of judging, may repeat."""
        return self.method == "rounds" and not self.is_leak

    @property
    def is_control(self) -> bool:
        return self.method == "control"

    def fits(self, fraction: float) -> bool:
        """Whether the arm means anything at this fraction: with all labels given, none were withheld."""
        return not (self.pool in ("real", "both") and fraction == 1.0)

    def num_trainings(self, rounds: int) -> int:
        """Trainings of its own in a run, at most."""
        if self.method == "by image":
            return 2  # with the fault and without
        own = 1 if self.method == "rounds" and not self.starts_from_supervised else 0
        return rounds + own if self.method in ("rounds", "control") else 1


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("supervised", "none", True, Message("labeled images alone: the baseline to beat")),
        Arm("supervised_full", "none", False, Message("all labels of the training part: the ceiling")),
        Arm(
            "supervised_plain", "none", True,
            Message("labeled images alone, without augmentation: what augmentation gives"), augments=False,
        ),
        Arm(
            "pseudo_real", "real", True,
            Message("pseudo-labels on real images whose labels were withheld: no GAN"), "rounds",
        ),
        Arm(
            "fixmatch_real", "real", True,
            Message("FixMatch: weak and strong views of the same real images in every batch, one training"),
            "fixmatch",
        ),
        Arm(
            "pseudo_gan_full", "synthetic", True,
            Message(
                "pseudo-labels on synthetic images; the generator saw all training images, without "
                "labels"
            ),
            "rounds",
        ),
        Arm(
            "pseudo_gan", "synthetic", True,
            Message("pseudo-labels on synthetic images; the generator saw the labeled images alone"),
            "rounds",
            generator="fraction",
        ),
        Arm(
            "pseudo_both", "both", True,
            Message(
                "pseudo-labels on withheld real images and synthetic ones (generator of all training "
                "images)"
            ),
            "rounds",
        ),
        Arm(
            "conditional_gan", "synthetic", True,
            Message(
                "labeled images and synthetic ones of known class; the generator saw the labeled "
                "images alone"
            ),
            "given", generator="classes",
        ),
        Arm(
            "gan_only", "synthetic", True,
            Message("the same synthetic images alone, tested on real ones: how good is the generator?"),
            "synthetic", generator="classes",
        ),
        Arm(
            "random_selection", "none", True,
            Message("control: as many images a class as the reference arm selected, drawn at random"),
            "control",
        ),
        Arm(
            "shuffled_labels", "none", True,
            Message("control: the reference arm's images, their pseudo-labels permuted"), "control",
        ),
        Arm(
            "duplicated_real", "none", True,
            Message("control: labeled images again in place of those the reference arm selected"), "control",
        ),
        Arm(
            "oracle", "oracle", True,
            Message(
                "pseudo-labels on fresh samples of the phantoms' own process: "
                "what a perfect generator could do"
            ),
            "rounds",
        ),
        Arm(
            "leak_slices", "none", True,
            Message("deliberate fault: split by image, so that test subjects are trained on"), "by image",
            fault=Message(
                "images were split, not subjects: other images of the tested subjects were trained on"
            ),
        ),
        Arm(
            "leak_generator", "synthetic", True,
            Message("deliberate fault: the generator of pseudo_gan_full saw test and validation subjects"),
            "rounds",
            generator="everyone",
            fault=Message(
                "the generator was trained on all images, those of test and validation subjects included"
            ),
        ),
        Arm(
            "leak_validation", "none", True,
            Message("deliberate fault: about half of the validation part is pseudo-labeled images"), "rounds",
            fault=Message("pseudo-labeled images were in validation, which chose the model and was reported"),
            judged_by="own labels",
        ),
        Arm(
            "leak_test_selection", "none", True,
            Message("deliberate fault: checkpoint and round are chosen on the test part"), "rounds",
            fault=Message("checkpoint and round were chosen on the very test images that were reported"),
            judged_by="test",
        ),
    )
}  # fmt: skip
DEFAULT_ARMS = ("supervised", "supervised_full", "pseudo_real", "pseudo_gan_full")
