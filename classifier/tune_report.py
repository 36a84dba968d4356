"""What a tuning found: table of trials, best settings, importance of each setting, pictures."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from classifier.trial import InnerData, Order
from classifier.tune_plots import plot_tuning
from extract.atomic import write_text
from extract.json_values import json_value

if TYPE_CHECKING:
    import optuna

TRIALS, BEST, SUMMARY, PICTURE = "trials.csv", "best-settings.json", "tuning.json", "tuning.png"
RESULTS = (TRIALS, BEST, SUMMARY, PICTURE)
INTERRUPTED = "interrupted"  # mark of a trial whose process was killed; it is run again
STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
NOT_ASKED = "not set"  # of a freeze depth where a network starts from nothing
FEW_TRIALS = 20  # below this an importance says little
NOTE = (
    "The best inner score is the best of many and therefore too good: do not report it. Train with these "
    "settings, judge on the validation part, which no trial has seen, and open the test part once."
)


@dataclass(frozen=True)
class Session:
    """What the present command found when it began."""

    num_before: int = 0  # trials that were finished
    num_interrupted: int = 0  # trials that were running when their process was killed


@dataclass(frozen=True)
class BestTrial:
    """The trial with the best score on the inner folds."""

    trial: int
    score: float
    fold_scores: list[float]
    settings: dict[str, Any]  # as best-settings.json holds them


@dataclass(frozen=True)
class Tuning:
    """Where a tuning stands; the same stands in tuning.json and trials.csv."""

    best: BestTrial | None  # None as long as no trial is complete
    trials: pd.DataFrame  # one row a finished trial
    importance: dict[str, float]  # shares of the scores' variance by setting, largest first; sum to 1
    monitor: str
    num_images: int  # of the labeled training part
    num_subjects: int
    inner_sizes: list[tuple[int, int]]  # images of inner training and validation, by fold
    session: Session

    @property
    def counts(self) -> dict[str, int]:
        """Trials by how they ended."""
        return dict(Counter(self.trials["state"])) if len(self.trials) else {}


def finished_trials(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Complete, pruned and failed trials by their ordinal; those of killed processes are left out."""
    found = [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state.is_finished() and INTERRUPTED not in trial.user_attrs and "ordinal" in trial.user_attrs
    ]
    return sorted(found, key=lambda trial: trial.user_attrs["ordinal"])


def best_message(study: optuna.Study) -> str:
    """A word on the best trial for a progress bar."""
    best = _best(study)
    return f"best {best.score:.3f} (trial {best.trial})" if best else ""


def write_results(
    study: optuna.Study, order: Order, inner: InnerData, session: Session, *, is_end: bool = False
) -> Tuning:
    """Write trials.csv and, once a trial is complete, best-settings.json; at the end the rest as well."""
    best = _best(study)
    tuning = Tuning(
        best=best,
        trials=_table(study),
        importance=_importance(study, order.tune.seed) if is_end else {},
        monitor=order.config.monitor,
        num_images=len(inner.images),
        num_subjects=len(set(inner.images.subjects.tolist())),
        inner_sizes=[(len(train), len(val)) for train, val in inner.folds],
        session=session,
    )
    write_text(order.outdir / TRIALS, tuning.trials.to_csv(index=False))
    if best is not None:
        write_text(order.outdir / BEST, json.dumps(best.settings, indent=2) + "\n")
    if is_end:
        write_text(order.outdir / SUMMARY, json.dumps(_summary(tuning, study), indent=2) + "\n")
        if best is not None:
            plot_tuning(tuning.trials, tuning.importance, tuning.monitor, order.outdir / PICTURE)
    return tuning


def _best(study: optuna.Study) -> BestTrial | None:
    """The best complete trial; of equal ones the first by ordinal, in whatever order they ended."""
    complete = [trial for trial in finished_trials(study) if trial.state.name == "COMPLETE"]
    if not complete:
        return None
    sign = -1 if study.direction.name == "MINIMIZE" else 1
    best = max(complete, key=lambda trial: sign * float(trial.value or 0.0))
    return BestTrial(
        trial=best.user_attrs["ordinal"],
        score=float(best.value or 0.0),
        fold_scores=best.user_attrs["fold_scores"],
        settings=json.loads(best.user_attrs["settings"]),
    )


def _table(study: optuna.Study) -> pd.DataFrame:
    rows = []
    names: dict[str, None] = {}
    for trial in finished_trials(study):
        names |= dict.fromkeys(trial.params)
        last_step, last = max(trial.intermediate_values.items(), default=(0, float("nan")))
        rows.append({
            "trial": trial.user_attrs["ordinal"],
            "state": STATES[trial.state.name],
            "score": trial.value if trial.state.name == "COMPLETE" else float("nan"),
            "last_look": last,
            "steps": last_step,  # until its end or until it was pruned, over the inner folds
            "seconds": trial.user_attrs.get("seconds", float("nan")),
            **trial.params,
            "note": trial.user_attrs.get("failure", ""),
        })  # fmt: skip
    columns = ["trial", "state", "score", "last_look", "steps", "seconds", *names, "note"]
    return pd.DataFrame(rows, columns=columns)


def _importance(study: optuna.Study, seed: int) -> dict[str, float]:
    """Shares by functional ANOVA over a forest (Hutter et al. 2014); empty where nothing can be said."""
    import optuna

    complete = [trial for trial in finished_trials(study) if trial.state.name == "COMPLETE"]
    choices = {name: dist for trial in complete for name, dist in trial.distributions.items()}
    varied = [name for name in choices if len({trial.params.get(name) for trial in complete}) > 1]
    if len(complete) < 3 or not varied or len({trial.value for trial in complete}) < 2:
        return {}
    asked = optuna.create_study(direction=study.direction)  # in memory
    for name in varied:
        dist = choices[name]
        if isinstance(dist, optuna.distributions.CategoricalDistribution) and any(
            name not in trial.params for trial in complete
        ):
            choices[name] = optuna.distributions.CategoricalDistribution((*dist.choices, NOT_ASKED))
    for trial in complete:
        asked.add_trial(
            optuna.trial.create_trial(
                params={name: trial.params.get(name, NOT_ASKED) for name in varied},
                distributions={name: choices[name] for name in varied},
                value=trial.value,
            )
        )
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    shares: Mapping[str, float] = optuna.importance.get_param_importances(asked, evaluator=evaluator)
    total = sum(shares.values())
    if not np.isfinite(total) or total <= 0:
        return {}
    return {name: float(share / total) for name, share in sorted(shares.items(), key=lambda item: -item[1])}


def _summary(tuning: Tuning, study: optuna.Study) -> dict[str, Any]:
    best = tuning.best
    num_complete = tuning.counts.get("complete", 0)
    importance_note = f"from {num_complete} complete trials" + (
        f"; below {FEW_TRIALS} this says little" if num_complete < FEW_TRIALS else ""
    )
    content = {
        "monitor": tuning.monitor,
        "best": None
        if best is None
        else {"trial": best.trial, "inner_score": best.score, "fold_scores": best.fold_scores},
        "note": NOTE,
        "trials": tuning.counts,
        "interrupted_and_run_again": sum(
            INTERRUPTED in trial.user_attrs for trial in study.get_trials(deepcopy=False)
        ),
        "importance": tuning.importance,
        "importance_note": importance_note,
        "training_part": {"images": tuning.num_images, "subjects": tuning.num_subjects},
        "inner_folds": [{"training": train, "validation": val} for train, val in tuning.inner_sizes],
        "made_with": study.user_attrs["made_with"],
    }
    return json_value(content)
