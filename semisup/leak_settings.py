"""What a study file may say about deliberate faults, and which honest arm each is held against."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from semisup.arms import ARMS

if TYPE_CHECKING:
    from semisup.config import StudyConfig

# Of the other faults: the arm whose rounds they repeat.
HONEST: Mapping[str, str] = MappingProxyType(
    {"leak_slices": "supervised", "leak_generator": "pseudo_gan_full"}
)


def honest_arm(config: "StudyConfig", leak: str) -> str | None:
    """The arm that does the same without the fault; None where the study has none with rounds to spoil."""
    return HONEST.get(leak) or config.reference_arm


def check_leaks(config: "StudyConfig") -> None:
    """Keep deliberate faults out of a study that does not ask for them, and out of its headline.

    Raises:
        ValueError: in the words of the study file.
    """
    leaks = [name for name in config.arms if ARMS[name].is_leak]
    if leaks and not config.allow_leaks:
        raise ValueError(
            f"arms: {leaks[0]!r} commits a fault on purpose ({ARMS[leaks[0]].fault}); it is never a result. "
            "Set allow_leaks: true to measure what such a fault would have claimed, or leave the arm out"
        )
    for role in ("arm", "baseline"):
        name = getattr(config.primary, role)
        if name in ARMS and ARMS[name].is_leak:
            raise ValueError(
                f"primary.{role}: {name!r} commits a fault on purpose and can be no part of the headline; "
                "name an honest arm"
            )
    for name in leaks:
        honest = honest_arm(config, name)
        if honest not in config.arms:
            wanted = f"{honest!r}" if honest else "a pseudo-label arm such as 'pseudo_real'"
            raise ValueError(f"arms: {name!r} is held against {wanted}, which is not listed; add it")
