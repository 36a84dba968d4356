"""The arms of a study, as data: what each trains on, and which question it answers."""

from dataclasses import dataclass
from typing import Literal

PoolKind = Literal["none", "real", "synthetic"]


@dataclass(frozen=True)
class Arm:
    """One way to use the labels and images of a fold."""

    name: str
    pool: PoolKind  # where unlabeled images come from
    uses_fraction: bool  # False: all training labels, whatever the fraction
    text: str  # one line for plan and report

    @property
    def pseudo_labels(self) -> bool:
        return self.pool != "none"

    def fits(self, fraction: float) -> bool:
        """Whether the arm means anything at this fraction: with all labels given, none were withheld."""
        return not (self.pool == "real" and fraction == 1.0)


ARMS: dict[str, Arm] = {
    arm.name: arm
    for arm in (
        Arm("supervised", "none", True, "labeled images alone: the baseline to beat"),
        Arm("supervised_full", "none", False, "all labels of the training part: the ceiling"),
        Arm("pseudo_real", "real", True, "pseudo-labels on real images whose labels were withheld: no GAN"),
        Arm(
            "pseudo_gan_full", "synthetic", True,
            "pseudo-labels on synthetic images; the generator saw all training images, without labels",
        ),
    )
}  # fmt: skip
