"""Subjects that show several classes: by nature, by chance, or because one name stands for several people."""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from extract.archive import Archive

CHANCE_SHARE = 0.9  # of the number that chance would give: from there labels do not go with subjects
MIN_SUBJECTS = 10  # with several images; of fewer, nothing can be said
MAX_NAMED = 5


@dataclass(frozen=True)
class MixedSubjects:
    """How many subjects with several images show several classes, and how many would by chance."""

    num_several: int  # subjects with several labeled images
    num_mixed: int  # of those, with several classes
    expected: float  # of those, if labels were dealt to images at random
    subjects: tuple[tuple[str, tuple[tuple[str, int], ...]], ...]  # mixed ones: name, images by class
    are_slices: bool  # of volumes: each subject shows all planes by nature

    @property
    def is_suspicious(self) -> bool:
        """Whether somebody has to look: a diagnosis seldom changes between the pictures of a person."""
        return self.num_several >= MIN_SUBJECTS and self.num_mixed > 0 and not self.are_slices

    @property
    def is_consistent(self) -> bool:
        """Whether the names hold together: no subject shows two classes, where chance would mix several."""
        return self.num_several >= MIN_SUBJECTS and not self.num_mixed and self.expected >= 1

    @property
    def advice(self) -> str:
        """What to look for, where it is suspicious."""
        if self.num_mixed < CHANCE_SHARE * self.expected:
            return "labels go with subjects but for these: look whether their names stand for several people"
        return (
            "labels vary within subjects as if dealt at random: look whether these names join strangers (a "
            "number that two lists both use), unless a class may change from one picture to the next"
        )

    def describe(self) -> str:
        """What was found, as a sentence."""
        if not self.num_mixed:
            return (
                f"none of {self.num_several} subjects with several images shows several classes "
                f"({self.expected:.0f} would if labels were dealt at random): subjects and labels fit"
            )
        named = "; ".join(
            f"{subject} ({', '.join(f'{name} {count}' for name, count in counts)})"
            for subject, counts in self.subjects[:MAX_NAMED]
        )
        more = f" and {self.num_mixed - MAX_NAMED} more" if self.num_mixed > MAX_NAMED else ""
        return (
            f"{self.num_mixed} of {self.num_several} subjects with several images show several classes "
            f"({self.expected:.0f} would if labels were dealt at random): {named}{more}"
        )


def find_mixed(archive: Archive) -> MixedSubjects:
    """Count the subjects with several classes among the real, labeled images."""
    chosen = (
        (archive.manifest["origin"] == "real").to_numpy() & (archive.labels >= 0) & (archive.subjects != "")
    )
    labels = archive.labels[chosen]
    counts: dict[str, Counter[int]] = {}
    for subject, label in zip(archive.subjects[chosen].tolist(), labels.tolist(), strict=True):
        counts.setdefault(subject, Counter())[label] += 1
    shares = np.bincount(labels, minlength=len(archive.classes)) / max(len(labels), 1)
    several = {subject: count for subject, count in counts.items() if count.total() > 1}
    expected = sum(1 - float((shares ** count.total()).sum()) for count in several.values())
    mixed = tuple(
        (subject, tuple((archive.classes[label], number) for label, number in sorted(count.items())))
        for subject, count in sorted(several.items())
        if len(count) > 1
    )
    are_slices = bool((archive.manifest["plane"][chosen] != "").all())
    return MixedSubjects(len(several), len(mixed), expected, mixed, are_slices)
