"""How sure one can be that two arms differ: plain functions over arrays of test predictions.

confusion       predictions counted by subject, and the metrics of such counts
bootstrap       subjects drawn again, all arms in the same draw: values and paired differences
sources         the width of an interval when subjects and trainings are both left to chance
probabilities   AUROC, NLL, Brier and over-confidence, by each subject's influence
calibration     an interval for ECE
mcnemar, delong tests for one image a subject (or one decision a subject)
resampled_t     over the folds
over_seeds      P(A > B)
corrections     Holm; the exact interval of a share
equivalence     label equivalence
power           the smallest difference that a study can show
simulated       studies with known truth: the proof that all this holds
"""

from semisup.statistics.bootstrap import NUM_DRAWS, ArmDraws, SubjectBootstrap
from semisup.statistics.confusion import (
    METRICS,
    RunCounts,
    accuracy,
    balanced_accuracy,
    class_strata,
    count_predictions,
    macro_f1,
    mcc,
    recall_per_class,
)
from semisup.statistics.corrections import clopper_pearson, holm
from semisup.statistics.equivalence import LabelEquivalence, label_equivalence, monotone
from semisup.statistics.estimate import Estimate
from semisup.statistics.sources import CONFIDENCE

MIN_SEEDS = 3  # below either of these a study prints no headline
MIN_TEST_SUBJECTS = 20

__all__ = [
    "CONFIDENCE",
    "METRICS",
    "MIN_SEEDS",
    "MIN_TEST_SUBJECTS",
    "NUM_DRAWS",
    "ArmDraws",
    "Estimate",
    "LabelEquivalence",
    "RunCounts",
    "SubjectBootstrap",
    "accuracy",
    "balanced_accuracy",
    "class_strata",
    "clopper_pearson",
    "count_predictions",
    "holm",
    "label_equivalence",
    "macro_f1",
    "mcc",
    "monotone",
    "recall_per_class",
]
