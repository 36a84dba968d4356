"""The pseudo-label rounds: a loop over functions that are passed in, so that fakes can test its laws.

Teacher trained on the labeled images -> temperature fitted on real held-out subjects -> pool scored ->
selection among the images that passed the gates -> student trained on labeled + selected -> real validation;
the student is the next teacher. Every round selects anew from the whole pool, so labels may change or leave
(unless they are kept, `relabel`). The best round by real validation is kept, round 0 (no pseudo-labels at
all) included: synthetic data may lose.

Source: self-training as in Lee 2013, "Pseudo-Label"; students from scratch as in Xie et al. 2020,
"Self-training with Noisy Student", arXiv:1911.04252; calibration of Guo et al. 2017, arXiv:1706.04599.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic

import numpy as np
from scipy.special import softmax

from semisup.calibrating import UNDIVIDED, FitTemperature, Parts, calibrate
from semisup.choosing import Choosing, PoolScores, Seen
from semisup.gates import Gated
from semisup.select import Rule, Selection, coverage, is_alarming
from semisup.stopping import NEVER, StopRules, flip_rate
from semisup.uncertainty import Asking, Model

Metrics = Callable[[np.ndarray, np.ndarray], dict[str, float]]  # probs (N, C), labels (N,)


@dataclass(frozen=True)
class Round(Generic[Model]):
    """One trained model, what it was trained on beyond the labeled images, and its real validation."""

    round_index: int  # 0 = labeled images alone
    model: Model
    temperature: float
    scores: PoolScores | None  # by the model of the round before; none in round 0
    val_metrics: dict[str, float]  # calibrated
    ece_before: float
    ece_after: float  # at temperatures of other subjects, see calibrating.py
    val_probs: np.ndarray  # (V, C), calibrated
    is_cross_fitted: bool | None = None  # `ece_after`; None: nothing was calibrated

    @property
    def num_selected(self) -> int:
        return len(self.scores.selection) if self.scores else 0

    @property
    def pool_size(self) -> int:
        """Images that could be selected: those that a gate turned away do not count."""
        return self.scores.num_passed if self.scores else 0

    @property
    def coverage(self) -> float:
        return coverage(self.scores.selection, self.pool_size) if self.scores else 0.0

    @property
    def is_alarming(self) -> bool:
        return is_alarming(self.coverage)


@dataclass(frozen=True)
class RoundsResult(Generic[Model]):
    """All rounds of a run, why they ended, and the one to keep."""

    rounds: tuple[Round[Model], ...]
    best: Round[Model]
    stopped: str  # why there are no more rounds
    unused: PoolScores | None = None  # of the round that selected nothing


@dataclass(frozen=True)
class HeldOut(Generic[Model]):
    """Real images held out for calibration alone: nothing is chosen by them."""

    logits_of: Callable[[Model], np.ndarray]  # gives (H, C)
    labels: np.ndarray  # (H,)


@dataclass(frozen=True)
class RealValidation(Generic[Model]):
    """Judges every model of a run on the same real validation images."""

    logits_of: Callable[[Model], np.ndarray]  # gives (V, C)
    labels: np.ndarray  # (V,)
    fit_temperature: FitTemperature | None
    metrics: Metrics
    parts: Parts = UNDIVIDED  # of the validation images, to measure a temperature on other subjects
    held_out: HeldOut[Model] | None = None  # to fit it on instead

    def judge(self, round_index: int, model: Model, scores: PoolScores | None) -> Round[Model]:
        """Calibrate a model and measure it; `scores` is what its additions were chosen by."""
        logits = self.logits_of(model)
        held_out = (self.held_out.logits_of(model), self.held_out.labels) if self.held_out else None
        found = calibrate(self.fit_temperature, logits, self.labels, self.parts, held_out)
        after, before = (
            self.metrics(found.probs, self.labels),
            self.metrics(softmax(logits, axis=1), self.labels),
        )
        ece_after = self.metrics(found.judged_probs, self.labels)["ece"]
        return Round(
            round_index, model, found.temperature, scores, after, before["ece"], ece_after, found.probs,
            found.is_cross_fitted,
        )  # fmt: skip


def ask_once(teacher: Round[Model], pool_logits: Callable[[Model], np.ndarray]) -> Seen:
    """The teacher's one prediction, at the temperature that its round was judged with."""
    logits = pool_logits(teacher.model).astype(np.float64)  # (N, C)
    probs = softmax(logits / teacher.temperature, axis=1)
    return Seen(softmax(logits, axis=1), probs, teacher.val_probs)


def ask_often(teacher: Round[Model], asking: Asking[Model], validation: RealValidation[Model]) -> Seen:
    """The mean of several predictions, at a temperature fitted on such means of real images."""
    model, made_in = teacher.model, teacher.round_index
    val = asking.ask(model, made_in, "val")
    held_out = None
    if validation.held_out is not None:
        held_out = asking.ask(model, made_in, "calibration").logits, validation.held_out.labels
    found = calibrate(validation.fit_temperature, val.logits, validation.labels, UNDIVIDED, held_out)
    pool = asking.ask(model, made_in, "pool")
    logits = pool.logits.astype(np.float64)
    return Seen(
        softmax(logits, axis=1),
        softmax(logits / found.temperature, axis=1),
        found.probs,
        asking.doubt(pool, found.temperature),
        asking.is_certain(val),
    )


def run_rounds(
    teacher: Model,
    num_rounds: int,
    *,
    val_logits: Callable[[Model], np.ndarray],
    val_labels: np.ndarray,
    pool_logits: Callable[[Model], np.ndarray],
    select: Rule,
    train_student: Callable[[Selection, int], Model],
    fit_temperature: FitTemperature | None,
    metrics: Metrics,
    stop: StopRules = NEVER,
    parts: Parts = UNDIVIDED,
    held_out: HeldOut[Model] | None = None,
    asking: Asking[Model] | None = None,
    gated: Gated | None = None,
    relabel: bool = True,
    negative: float | None = None,
    progress: Callable[[int, str], None] = lambda done, message: None,
) -> RoundsResult[Model]:
    """Run the loop and keep the round that is best on the real validation part.

    Args:
        teacher: round 0, trained on the labeled images alone.
        num_rounds: students to train after it; 0 keeps the teacher.
        val_logits: gives the (V, C) logits of the real validation images.
        pool_logits: gives the (N, C) logits of the pool, in pool order.
        select: the rule; it sees the pool and the real validation images through the same teacher.
        train_student: trains a model from scratch on the labeled images and a selection; takes the round too.
        fit_temperature: calibration; None leaves the probabilities as they are.
        metrics: must give `balanced_accuracy`, `nll` and `ece`.
        stop: when to end before `num_rounds`.
        parts: of the validation images by subject, for a calibration error that was not fitted away.
        held_out: images to fit the temperature on; None = the validation images.
        asking: how a teacher is asked several times about an image; None = once, by `pool_logits`. Rounds are
            judged by one prediction either way, as the test part will be.
        gated: which images of the pool the rule may see; None = all.
        relabel: False = what was selected once keeps its label in all later rounds.
        negative: images that did not reach get negative labels of the classes at or below this probability.

    Returns:
        Every round with its record. Where nothing is selected the loop ends early: a student
        trained on the labeled images alone would be the teacher again.
    """
    validation = RealValidation(val_logits, val_labels, fit_temperature, metrics, parts, held_out)
    judge = validation.judge
    weigh = asking.weigh if asking is not None else None
    choosing = Choosing(select, gated, weigh, relabel, negative)
    rounds = [judge(0, teacher, None)]
    stopped, unused = "all rounds done", None
    for round_index in range(1, num_rounds + 1):
        last = rounds[-1]
        progress(round_index - 1, f"round {round_index}: scoring the pool")
        seen = ask_once(last, pool_logits) if asking is None else ask_often(last, asking, validation)
        earlier = last.scores.selection if last.scores else None
        scores, num_new = choosing.choose(round_index, seen, val_labels, earlier)
        selection = scores.selection
        if earlier is not None and len(selection) and not num_new:
            stopped = f"nothing new selected in round {round_index}, and labels are kept"
            break
        if not len(selection):
            reason = f": {selection.note}" if selection.note else ""
            stopped, unused = f"nothing selected in round {round_index}{reason}", scores
            break
        drift = stop.class_drift.reason(selection) if stop.class_drift else ""
        if drift:
            stopped = f"{drift} in round {round_index}"
            break
        if earlier is not None and stop.flip_rate is not None:
            rate = flip_rate(earlier, selection, len(seen.probs))
            if rate <= stop.flip_rate:
                stopped = f"{rate:.1%} of the pseudo-labels would change in round {round_index}"
                break
        progress(round_index - 1, f"round {round_index}: training on {len(scores.selection)} pseudo-labels")
        rounds.append(judge(round_index, train_student(scores.selection, round_index), scores))
        num_without_gain = round_index - best_round(rounds).round_index
        if (
            stop.without_gain is not None
            and num_without_gain >= stop.without_gain
            and round_index < num_rounds
        ):
            stopped = f"no gain on real validation in {num_without_gain} rounds"
            break
    return RoundsResult(tuple(rounds), best_round(rounds), stopped, unused)


def best_round(rounds: list[Round[Model]]) -> Round[Model]:
    """Highest balanced accuracy on real validation, then lowest NLL, then the earlier round."""
    return max(
        rounds, key=lambda r: (r.val_metrics["balanced_accuracy"], -r.val_metrics["nll"], -r.round_index)
    )


def mixing(num_labeled: int, num_pseudo: int, pseudo_share: float) -> tuple[int, float]:
    """How often to repeat each labeled image, and what one pseudo-labeled image weighs.

    Pseudo-labeled images together then count at most `pseudo_share` of the training set. Few labeled
    images are repeated rather than the pool merely weighted down: with weights alone a batch of 64 would
    hold one or two images that matter.

    Returns:
        (repeats, weight): repeats >= 1, weight in (0, 1].
    """
    if pseudo_share >= 1.0 or not num_pseudo:
        return 1, 1.0
    wanted = num_pseudo * (1 - pseudo_share) / pseudo_share  # labeled images to balance the pseudo-labeled
    repeats = max(1, round(wanted / num_labeled))
    return repeats, min(1.0, repeats * num_labeled / wanted)
