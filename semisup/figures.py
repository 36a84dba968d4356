"""The report's figures as inline SVG: accuracy against labels, differences, confusion and reliability.

Percent on every axis; colours are those of Okabe & Ito, which colour-blind readers can tell apart, and every
arm has a marker of its own besides, so that a print in gray tells them apart as well. Text stays text, so
that figures are sharp and can be searched.
"""

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from extract.language import ENGLISH, Language
from extract.page_parts import svg_element
from semisup.summary import BASELINE, CEILING, ArmResult, Summary
from semisup.verdict import metric_phrase

INK, GRID, PALE = "#1d2733", "#dfe4ea", "#8793a1"
STYLES = {  # colour, marker: no two alike
    BASELINE: ("#4d5966", "o"),
    CEILING: ("#4d5966", "_"),
    "supervised_plain": ("#4d5966", "x"),
    "pseudo_real": ("#009e73", "s"),
    "fixmatch_real": ("#d55e00", "^"),
    "pseudo_gan_full": ("#0072b2", "D"),
    "pseudo_gan": ("#56b4e9", "v"),
    "pseudo_both": ("#cc79a7", "P"),
    "conditional_gan": ("#e69f00", "X"),
    "gan_only": ("#e69f00", "*"),
    "random_selection": ("#8793a1", "<"),
    "shuffled_labels": ("#8793a1", ">"),
    "duplicated_real": ("#8793a1", "p"),
    "oracle": ("#009e73", "h"),
}
SPARE_STYLES = (("#d55e00", "H"), ("#cc79a7", "d"), ("#d55e00", "1"), ("#56b4e9", "8"))
RC: Any = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.parse_math": False,  # a class may be called "$x$"
    "text.color": INK,
    "axes.edgecolor": PALE,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "legend.frameon": False,
}
WIDTH_IN = 9.6  # of the page's figures, which are shown as wide as the page
PAPER_WIDTH_IN = 7.2  # two columns of a journal
DPI = 300


@dataclass(frozen=True)
class Drawing:
    """A figure that can be shown in the page or saved for a paper; the same figure gives the same bytes."""

    name: str  # of its files
    figure: Figure
    description: str
    language: Language

    def element(self) -> str:
        """An <svg> element fit for a page with several: no header, no ids but those in use."""
        return svg_element(self._save("svg", transparent=True).decode("utf-8"), self.description)

    def svg(self) -> bytes:
        """A file of its own, on white; text stays text."""
        return self._save("svg", facecolor="white")

    def png(self) -> bytes:
        """300 dots an inch, on white."""
        return self._save("png", facecolor="white", dpi=DPI)

    def _save(self, kind: str, **how: Any) -> bytes:
        buffer = io.BytesIO()
        nameless = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}[kind]
        for ax in self.figure.axes:
            for axis in (ax.xaxis, ax.yaxis):
                if isinstance(axis.get_major_formatter(), ScalarFormatter):
                    axis.set_major_formatter(_Ticks(self.language))
        with matplotlib.rc_context({**RC, "svg.hashsalt": self.name}):
            if self.figure.get_layout_engine() is not None:  # laid out once, whatever is saved
                self.figure.draw_without_rendering()
                self.figure.set_layout_engine("none")
            self.figure.savefig(buffer, format=kind, metadata=nameless, **how)
        return buffer.getvalue()


@dataclass(frozen=True)
class Reliability:
    """What a reliability diagram shows of one arm; the arrays are (num_bins,), NaN where a bin is empty."""

    arm: str
    fraction: float
    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray
    ece: float


def label_curve(summary: Summary, language: Language = ENGLISH, width: float = WIDTH_IN) -> Drawing:
    """The metric of every arm against the share of labels, with 95 % intervals and the ceiling."""
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(width, 3.9), layout="constrained")
        ax = figure.add_subplot()
        ceiling = next((result for result in summary.arms if result.arm == CEILING), None)
        if ceiling:
            _draw_ceiling(ax, ceiling, summary, language)
        arms = list(dict.fromkeys(result.arm for result in summary.arms if result.arm != CEILING))
        for index, arm in enumerate(arms):
            results = [result for result in summary.arms if result.arm == arm]
            _draw_curve(ax, results, summary.metric, 1.2 * (index - (len(arms) - 1) / 2))
        fractions = sorted({100 * result.fraction for result in summary.arms})
        ax.set_xticks(fractions, [language.percent(value / 100) for value in fractions])
        ax.set_xlim(min(fractions) - 8, max(fractions) + 6)
        ax.set_xlabel(language.text("labels used in training (share of the training subjects)"))
        ax.set_ylabel(
            language.text("{metric} on the test part (%)", metric=metric_phrase(summary.metric, language))
        )
        ax.grid(axis="y", color=GRID, linewidth=0.8)
        ax.set_axisbelow(True)
        ax.legend(loc="lower right", ncols=1, handlelength=1.6)
        return Drawing(
            "label-curve",
            figure,
            language.text("Accuracy against the share of labels, with 95 % intervals"),
            language,
        )


def _draw_ceiling(ax: Axes, ceiling: ArmResult, summary: Summary, language: Language) -> None:
    """A line and band across, and the last stretch of the supervised curve that ends there."""
    estimate = ceiling.estimates[summary.metric]
    below = [r for r in summary.arms if r.arm == BASELINE and r.fraction < 1]
    if below:
        ends = [100 * below[-1].estimates[summary.metric].value, 100 * estimate.value]
        ax.plot([100 * below[-1].fraction, 100], ends, color=PALE, linewidth=1.4, linestyle=":", zorder=1)
    ax.plot([100], [100 * estimate.value], color=PALE, marker="o", markersize=5.5, linestyle="none")
    ax.axhspan(100 * estimate.low, 100 * estimate.high, color="#f1f3f5", zorder=0)
    ax.axhline(
        100 * estimate.value,
        color=PALE,
        linestyle=(0, (5, 3)),
        linewidth=1.2,
        label=language.text("{arm} (ceiling)", arm=CEILING),
        zorder=1,
    )


def _draw_curve(ax: Axes, results: Sequence[ArmResult], metric: str, shift: float) -> None:
    color, marker = arm_style(results[0].arm)
    estimates = [result.estimates[metric] for result in results]
    x = np.array([100 * result.fraction for result in results]) + shift
    y = np.array([100 * e.value for e in estimates])
    errors = np.array([[100 * (e.value - e.low), 100 * (e.high - e.value)] for e in estimates]).T.clip(min=0)
    ax.errorbar(
        x, y, yerr=errors, color=color, marker=marker, markersize=5.5, linewidth=1.6, elinewidth=1.3,
        capsize=3, linestyle="-", label=results[0].arm,
    )  # fmt: skip


def difference_forest(summary: Summary, language: Language = ENGLISH, width: float = WIDTH_IN) -> Drawing:
    """Every paired difference as a point with its interval about the line "no difference"."""
    comparisons = summary.comparisons
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(width, 0.75 + 0.3 * max(2, len(comparisons))), layout="constrained")
        ax = figure.add_subplot()
        ax.axvline(0, color=INK, linewidth=1)
        for row, comparison in enumerate(comparisons):
            difference = comparison.difference
            color, marker = arm_style(comparison.arm)
            ends = [100 * difference.low, 100 * difference.high]
            thickness = 2.8 if comparison.is_primary else 1.5
            ax.plot(ends, [row, row], color=color, linewidth=thickness, solid_capstyle="butt")
            ax.plot([100 * difference.value], [row], color=color, marker=marker, markersize=6)
        names = [
            f"{c.arm} - {c.baseline}, {language.percent(c.fraction)}"
            + (f"  ({language.text('primary')})" if c.is_primary else "")
            for c in comparisons
        ]
        ax.set_yticks(range(len(names)), names)
        for label, comparison in zip(ax.get_yticklabels(), comparisons, strict=True):
            label.set_fontweight("bold" if comparison.is_primary else "normal")
        ax.set_ylim(len(names) - 0.4, -0.6)
        reach = max(
            [0.5] + [100 * abs(end) for c in comparisons for end in (c.difference.low, c.difference.high)]
        )
        ax.set_xlim(-1.08 * reach, 1.08 * reach)
        below = language.text(
            "difference in {metric} (points, 95 % interval): left of 0 worse, right of 0 better",
            metric=metric_phrase(summary.metric, language),
        )
        figure.supxlabel(textwrap.fill(below, int(13 * width)), fontsize=9)  # wider than the axes
        ax.grid(axis="x", color=GRID, linewidth=0.8)
        ax.set_axisbelow(True)
        ax.spines["left"].set_visible(False)
        ax.tick_params(axis="y", length=0)
        return Drawing(
            "differences",
            figure,
            language.text("Paired differences between arms with 95 % intervals"),
            language,
        )


def confusion_matrices(
    results: Sequence[ArmResult],
    classes: Sequence[str],
    language: Language = ENGLISH,
    width: float = WIDTH_IN,
) -> Drawing:
    """Row-normalised confusion matrices side by side; each row is a true class and sums to 100 %."""
    names = [_shorten(name) for name in classes]
    with matplotlib.rc_context(RC):
        columns = _columns(len(results), width, wide=len(names) > 4)
        rows = -(-len(results) // columns)
        side = min(width / columns, 0.33 * width if len(names) <= 4 else 0.44 * width)
        turned = max(map(len, names)) > 9 or len(names) > 4
        figure = Figure(
            figsize=(width, rows * (side + 0.45) + (0.4 * rows if turned else 0)), layout="constrained"
        )
        axes = figure.subplots(rows, columns, squeeze=False)
        for place, ax in enumerate(axes.flat):
            if place >= len(results):
                ax.axis("off")
                continue
            result = results[place]
            _draw_confusion(
                ax, result.confusion, names if place % columns == 0 else [""] * len(names), names, turned
            )
            ax.set_title(f"{result.arm}, {language.percent(result.fraction)}")
            if place % columns == 0:
                ax.set_ylabel(language.text("true class"))
            ax.set_xlabel(language.text("predicted class"))
        return Drawing(
            "confusion", figure, language.text("Confusion matrices, in percent of each true class"), language
        )


def _draw_confusion(
    ax: Axes, confusion: np.ndarray, row_names: Sequence[str], names: Sequence[str], turned: bool
) -> None:
    totals = confusion.sum(axis=1, keepdims=True)
    share = np.divide(100 * confusion, totals, out=np.zeros_like(confusion, dtype=float), where=totals > 0)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=130)
    size = 9 if len(names) <= 5 else 7
    for (row, column), value in np.ndenumerate(share):
        color = "white" if value > 75 else INK
        weight = "bold" if row == column else "normal"
        text = ax.text(column, row, f"{value:.0f}", ha="center", va="center", color=color)
        text.set(fontsize=size, fontweight=weight)
    turn = 35 if turned else 0
    ax.set_xticks(range(len(names)), names, rotation=turn, ha="center" if turn == 0 else "right")
    ax.set_yticks(range(len(names)), row_names)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def reliability_diagrams(
    items: Sequence[Reliability], language: Language = ENGLISH, width: float = WIDTH_IN
) -> Drawing:
    """Accuracy against confidence; on the diagonal a model is as often right as it says."""
    with matplotlib.rc_context(RC):
        columns = _columns(len(items), width)
        rows = -(-len(items) // columns)
        figure = Figure(figsize=(width, rows * 2.75), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
        for place, ax in enumerate(axes.flat):
            if place >= len(items):
                ax.axis("off")
                continue
            item = items[place]
            ax.plot([0, 100], [0, 100], color=PALE, linewidth=1, linestyle=(0, (4, 3)))
            shown = item.count > 0
            area = 12 + 160 * item.count[shown] / max(1, item.count.max())
            x, y = 100 * item.confidence[shown], 100 * item.accuracy[shown]
            ax.plot(x, y, color="#0072b2", linewidth=1.2)
            ax.scatter(x, y, s=area, color="#0072b2", alpha=0.75, linewidths=0, clip_on=False, zorder=3)
            ax.set_title(f"{item.arm}, {language.percent(item.fraction)}")
            ax.text(4, 92, f"ECE {language.share(item.ece)} %", fontsize=9)
            ax.set_xlim(0, 103)
            ax.set_ylim(0, 103)
            ax.set_aspect("equal")
            ax.grid(color=GRID, linewidth=0.8)
            ax.set_axisbelow(True)
            ax.set_xticks([0, 25, 50, 75, 100])
            ax.set_yticks([0, 25, 50, 75, 100])
            ax.set_xlabel(language.text("confidence (%)"))
            if place % columns == 0:
                ax.set_ylabel(language.text("right (%)"))
        return Drawing(
            "reliability",
            figure,
            language.text("Reliability diagrams: share of right predictions against confidence"),
            language,
        )


def arm_style(arm: str) -> tuple[str, str]:
    """Colour and marker of an arm, the same in every figure and run."""
    if arm in STYLES:
        return STYLES[arm]
    return SPARE_STYLES[sum(map(ord, arm)) % len(SPARE_STYLES)]


def _columns(number: int, width: float, wide: bool = False) -> int:
    """How many panels stand side by side, so that their titles do not run into each other."""
    most = 2 if wide else 4 if width >= WIDTH_IN else 3
    return 2 if number == 4 and most == 3 else min(most, number)


def _shorten(name: str, length: int = 16) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


class _Ticks(ScalarFormatter):
    """Numbers along an axis as a language writes them."""

    def __init__(self, language: Language) -> None:
        super().__init__()
        self._language = language

    def __call__(self, x: float, pos: int | None = None) -> str:
        return super().__call__(x, pos).replace(".", self._language.decimal)
