"""The table of arms for a page: one row an arm and share of labels, in a metric of the reader's choice."""

import math
from collections.abc import Collection
from dataclasses import dataclass, replace

from semisup.statistics import Estimate
from semisup.summary import BASELINE, CEILING, ArmResult, Comparison, Summary
from semisup.verdict import METRIC_PHRASES

AUROC = "auroc"


@dataclass(frozen=True)
class ArmRow:
    """One arm at one share of labels."""

    result: ArmResult
    value: Estimate | None  # of the metric; None where it is undefined
    difference: Estimate | None  # to the baseline, paired; None where there is none
    p_holm: float | None  # corrected; of the study's own metric alone, and not of the primary comparison
    is_primary: bool


def metrics_of(summary: Summary) -> list[str]:
    """Shares that a reader may choose among, the study's own metric first."""
    known = [summary.metric, *METRIC_PHRASES]
    if any(AUROC in result.measures for result in summary.arms):
        known.append(AUROC)
    return list(dict.fromkeys(known))


def arm_rows(
    summary: Summary, metric: str, arms: Collection[str] = (), fraction: float | None = None
) -> list[ArmRow]:
    """The rows of the report's table of arms, differences to the baseline included.

    Args:
        metric: of `metrics_of`.
        arms, fraction: what to keep; empty and None: everything. All labels are always compared with.
    """
    rows = []
    for result in summary.arms:
        if (arms and result.arm not in arms) or not _is_at(result, fraction):
            continue
        found = summary.compare(result.arm, BASELINE, result.fraction)
        is_own = metric == summary.metric
        rows.append(
            ArmRow(
                result,
                _value(result, metric),
                difference_in(found, metric, summary.metric) if found else None,
                found.p_holm if found and is_own else None,
                bool(found and found.is_primary),
            )
        )
    return rows


def difference_in(comparison: Comparison, metric: str, own_metric: str) -> Estimate | None:
    """A paired difference in a metric; None where it is undefined."""
    return comparison.difference if metric == own_metric else comparison.differences.get(metric)


def in_metric(summary: Summary, metric: str, arms: Collection[str] = ()) -> Summary:
    """The same study with another metric and fewer arms, for its curve."""
    shown = [
        replace(result, estimates={**result.estimates, **result.measures})
        for result in summary.arms
        if (not arms or result.arm in arms) and _value(result, metric) is not None
    ]
    return replace(summary, metric=metric, arms=tuple(shown))


def _is_at(result: ArmResult, fraction: float | None) -> bool:
    return fraction is None or result.arm == CEILING or math.isclose(result.fraction, fraction)


def _value(result: ArmResult, metric: str) -> Estimate | None:
    return result.estimates.get(metric) or result.measures.get(metric)
