"""The names of quality measures: what each one counts, on how many images, seen by which extractor."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from extract.errors import SettingsError

DEFAULT_NUM = 50_000  # images a side, at most, of the measures that take equally many reals and fakes
OFFICIAL_NUM_FAKES = 50_000
LOWER_IS_BETTER = {"fid": True, "kid": True, "pr": False, "dc": False, "is": False, "ppl": True}
OWN_NAMES = ("fid", "kid", "pr", "dc", "ppl")  # always with an extractor: fid@task
_RESULTS = {
    "fid": ("",),
    "kid": ("",),
    "pr": ("_precision", "_recall"),
    "dc": ("_density", "_coverage"),
    "is": ("_mean", "_std"),
    "ppl": ("",),
}


@dataclass(frozen=True)
class PathSettings:
    """Where a path length is measured.

    Source: Karras et al. 2019, arXiv:1812.04948, Section 4.1; the variants without crop arXiv:1912.04958.
    """

    space: str  # "z" or "w": in which two latents are joined
    whole: bool  # anywhere between the two, else at the first of them
    crop: bool  # only the middle, as made for faces


@dataclass(frozen=True)
class Metric:
    """A measure by its full name, `text`, for instance "fid@task" or "fid50k_full"."""

    text: str
    kind: str  # fid, kid, pr, dc, is, ppl
    extractor: str
    num_fakes: int | None  # None = as many as there are reals
    max_reals: int | None  # None = all there are; DEFAULT_NUM or --num where num_fakes is None
    has_mirrored: bool  # mirrored copies count as reals where training showed them
    result_names: tuple[str, ...]  # the first decides between two snapshots
    path: PathSettings | None = None

    @property
    def lower_is_better(self) -> bool:
        return LOWER_IS_BETTER[self.kind]

    @property
    def has_equal_counts(self) -> bool:
        return self.num_fakes is None


@dataclass(frozen=True)
class _Official:
    kind: str
    extractor: str
    max_reals: int | None = None
    has_mirrored: bool = False
    path: PathSettings | None = None


_OFFICIAL = {
    "fid50k_full": _Official("fid", "inception"),
    "kid50k_full": _Official("kid", "inception", max_reals=1_000_000),
    "pr50k3_full": _Official("pr", "vgg16", max_reals=200_000),
    "ppl2_wend": _Official("ppl", "vgg16", path=PathSettings("w", whole=False, crop=False)),
    "is50k": _Official("is", "inception"),
    "fid50k": _Official("fid", "inception", max_reals=50_000, has_mirrored=True),
    "kid50k": _Official("kid", "inception", max_reals=50_000, has_mirrored=True),
    "pr50k3": _Official("pr", "vgg16", max_reals=50_000, has_mirrored=True),
    "ppl_zfull": _Official("ppl", "vgg16", path=PathSettings("z", whole=True, crop=True)),
    "ppl_wfull": _Official("ppl", "vgg16", path=PathSettings("w", whole=True, crop=True)),
    "ppl_zend": _Official("ppl", "vgg16", path=PathSettings("z", whole=False, crop=True)),
    "ppl_wend": _Official("ppl", "vgg16", path=PathSettings("w", whole=False, crop=True)),
}
OFFICIAL_NAMES = tuple(_OFFICIAL)


def parse_metrics(text: str) -> tuple[Metric, ...]:
    """Read a list such as "fid@task,kid@task" or "fid50k_full"; "none" and "" mean no measure.

    Raises:
        SettingsError: for a name that there is not, or one of ours without an extractor.
    """
    if text.strip().lower() in ("", "none"):
        return ()
    metrics = [_metric(part.strip()) for part in text.split(",")]
    return tuple(dict.fromkeys(metrics))  # each once, in the order given


def needed_extractors(metrics: Iterable[Metric]) -> set[str]:
    """Names of the extractors that these measures look through."""
    return {metric.extractor for metric in metrics}


def _metric(text: str) -> Metric:
    name, at, extractor = text.partition("@")
    if (name not in _OFFICIAL and name not in OWN_NAMES) or (at and not re.fullmatch(r"[\w-]+", extractor)):
        own = ", ".join(f"{own}@EXTRACTOR" for own in OWN_NAMES)
        raise SettingsError(
            f"--metrics can only contain the following values: none, {', '.join(OFFICIAL_NAMES)}, {own} "
            f"(EXTRACTOR: task, inception, vgg16, dinov2 or pixels), got '{text}'"
        )
    if name in OWN_NAMES:
        if not at:
            raise SettingsError(
                f"--metrics={name}: expected the extractor whose features are compared, as in {name}@task, "
                "got none; figures of different extractors are different measures"
            )
        return Metric(
            text=text,
            kind=name,
            extractor=extractor,
            num_fakes=None,
            max_reals=None,
            has_mirrored=False,
            result_names=_result_names(name, name, extractor, is_official=False),
            path=PathSettings("w", whole=False, crop=False) if name == "ppl" else None,
        )
    official = _OFFICIAL[name]
    extractor = extractor or official.extractor
    # The official path lengths weigh VGG16's features with learned numbers (LPIPS); ours do not and say so.
    is_official = extractor == official.extractor and official.kind != "ppl"
    return Metric(
        text=name if is_official else f"{name}@{extractor}",
        kind=official.kind,
        extractor=extractor,
        num_fakes=OFFICIAL_NUM_FAKES,
        max_reals=official.max_reals,
        has_mirrored=official.has_mirrored,
        result_names=_result_names(name, official.kind, extractor, is_official),
        path=official.path,
    )


def _result_names(name: str, kind: str, extractor: str, is_official: bool) -> tuple[str, ...]:
    if is_official:
        return tuple(name + result for result in _RESULTS[kind])
    results = ("", "_se") if kind == "kid" else _RESULTS[kind]  # the standard error of the mean over subsets
    distance = "" if kind != "ppl" else "-unweighted" if extractor == "vgg16" else "-squared"
    return tuple(f"{name}{result}@{extractor}{distance}" for result in results)
