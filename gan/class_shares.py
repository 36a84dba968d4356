"""How many images of which class to ask of a conditional generator, and in which order."""

import math
from collections.abc import Mapping, Sequence

from extract.errors import SettingsError
from gan.snapshot import Snapshot

ALL_CLASSES = "all"


def shares_of(
    snapshot: Snapshot, class_name: str | None, class_shares: Mapping[str, float] | None
) -> list[float] | None:
    """The share of each class of the snapshot, (C,) and adding up to 1; None = one class for all images.

    Args:
        class_name: as given with `--class`; `all` means equal shares unless a class has that very name.
        class_shares: as given with `--class-shares`.

    Raises:
        SettingsError: if both are given, a class is unknown, a share is no number of at least 0, or the
            network is not conditional.
    """
    if class_shares is None:
        if class_name != ALL_CLASSES or ALL_CLASSES in snapshot.classes or not snapshot.classes:
            return None
        return [1 / len(snapshot.classes)] * len(snapshot.classes)
    if class_name is not None:
        raise SettingsError("give --class or --class-shares, not both")
    if not snapshot.classes:
        raise SettingsError(f"--class-shares needs a class-conditional network, {snapshot.path} is none")
    unknown = sorted(set(class_shares) - set(snapshot.classes))
    if unknown:
        raise SettingsError(
            f"--class-shares must name classes among {', '.join(snapshot.classes)}, got '{unknown[0]}'"
        )
    total = sum(class_shares.values())
    if any(not share >= 0 for share in class_shares.values()) or not (math.isfinite(total) and total > 0):
        raise SettingsError(
            f"--class-shares must be numbers of at least 0, one of them above it, got {dict(class_shares)}"
        )
    return [class_shares.get(name, 0.0) / total for name in snapshot.classes]


def parse_shares(text: str) -> dict[str, float]:
    """`normal=0.7,tumor=0.3` to shares by class name.

    Raises:
        SettingsError: for anything else.
    """
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, equals, share = part.rpartition("=")
        name = name.strip()
        try:
            value = float(share)
        except ValueError:
            equals = ""
        if not equals or not name or name in shares:
            raise SettingsError(
                "--class-shares must be classes and their shares such as normal=0.7,tumor=0.3, each class "
                f"once, got '{text}' (at '{part}')"
            )
        shares[name] = value
    return shares


def assign_classes(num_images: int, shares: Sequence[float]) -> list[int]:
    """The class number of each image: each time the class that is furthest behind its share.

    Every stretch from the start holds the shares as nearly as whole images can; equal shares go round.
    """
    counts = [0] * len(shares)
    assigned = []
    for number in range(1, num_images + 1):
        behind = [round(share * number - count, 9) for share, count in zip(shares, counts, strict=True)]
        chosen = behind.index(max(behind))
        counts[chosen] += 1
        assigned.append(chosen)
    return assigned
