"""What the tables of `query` and their columns mean, a line each; no values."""

import re

TABLE_MEANINGS = {
    "ledger": "one row a pool image and round of a finished run: what the teacher said, what became of it",
    "predictions": "one row an image of the test part and finished run, by the kept model",
    "runs": "one row a run: its settings, its numbers, or why it failed",
    "rounds": "one row a round of a finished run; round 0 is the model without pseudo-labels",
    "arms": "one row an arm of the study",
    "classes": "one row a class: its number and its name",
}

_RUN = {
    "run": "the run's key: the name of its folder in runs/",
    "arm": "what the run trains on",
    "fold": "outer fold",
    "seed": "the run's seed",
    "fraction": "share of labels that the run may use",
}
_JUDGED = {
    "predicted": "number of the most probable class",
    "predicted_class": "name of the most probable class",
    "p_*": "calibrated probability of a class, by its number",
}
COLUMN_MEANINGS: dict[str, dict[str, str]] = {
    "ledger": {
        **_RUN,
        "round_index": "round that the pseudo-label was for; its teacher is the model of the round before",
        "image": "the image's name in its archive",
        "archive_sha256": "hash of that archive",
        "image_sha256": "hash of the image's PNG bytes",
        "snapshot_sha256": "generator that drew the image; empty for a real one",
        "image_seed": "seed that the generator drew it from; -1 for a real image",
        "truncation_psi": "truncation of the generator; NULL for a real image",
        "teacher_sha256": "hash of the weights of the model that judged",
        "raw_p_*": "probability of a class before calibration, by its number",
        **_JUDGED,
        "confidence": "calibrated probability of the most probable class",
        "aligned_p_*": "the same aligned to the labels' shares, which the rule then judged (align: true)",
        "rule": "selection rule",
        "threshold": "what the rule asked for of the predicted class; NULL where no threshold qualified",
        "decision": "selected, negative, below threshold, over cap, too uncertain, or a gate",
        "weight": "what the image weighed in the student's loss; 0 where it was not selected",
        "gate": "gate that held the image back before the rule saw it; empty or NULL where none did",
        "gate_value": "what that gate measured of the image; NULL where none held it back",
        "gate_nearest": "training image that it was held against; empty or NULL where there is none",
        "uncertainty": "how unsure the teacher was beyond its probabilities; NULL where it was not measured",
        "uncertainty_method": "how that was measured",
        "pseudo_label": "number of the class that a selected image was given (controls, kept labels)",
        "excluded": "numbers of the classes that an image was taught not to be (negative labels)",
        "in_validation": "of leak_validation: whether a selected image judged instead of being learned from",
    },
    "predictions": {
        **_RUN,
        "file": "the image's name in the study's archive",
        "subject": "whom it shows",
        "label": "number of the expert's class",
        "label_class": "name of the expert's class",
        **_JUDGED,
        "is_correct": "whether the model said what the expert said",
    },
    "runs": {
        **_RUN,
        "status": "done or failed; a run that has not begun has no row",
        "error": "why it failed",
        "best_round": "round that was kept by real validation; 0 = no pseudo-labels",
        "stopped": "why there were no more rounds",
        "temperature": "of the kept model's calibration",
        "test_*": "the kept model on the test part, opened once",
        "val_*": "the kept model on the real validation part",
        "test_openings": "how often the test part was opened; 1 is the only honest number",
        "num_labeled_images": "labeled images that it trained on",
        "num_labeled_subjects": "labeled subjects that it trained on",
        "num_val_images": "images of the validation part",
        "num_val_subjects": "subjects of the validation part",
        "calibration_is_held_out": "whether the temperature was fitted on subjects that chose nothing",
        "calibration_num_images": "images that the temperature was fitted on",
        "calibration_num_subjects": "and their subjects",
        "calibration_ece_after_measured": "on whose images, in words",
        "num_test_images": "images of the test part",
        "steps_per_training": "optimiser steps of each of its trainings",
        "trainings": "trainings that the result rests on, a shared round 0 included",
        "trainings_here": "trainings of this run alone",
        "seconds": "how long it took",
        "process_seconds": "processor time of all its cores together",
        "device": "what it was computed on",
        "versions_*": "version of what could move a number",
        "teacher_key": "the supervised run whose model is round 0",
        "pool_key": "the folder of its synthetic images in pools/",
        "reference_key": "of a control: the run whose rounds it repeats",
        "leak": "true where the run commits a fault on purpose: never a result; NULL elsewhere",
        "fault": "which fault",
        "claim_*": "of some of these: what such a project would report, and by which images",
        "agreement_num_views": "of FixMatch: weak views of unlabeled images in the course of the training",
        "agreement_share_passed": "share of them that reached the threshold",
        "agreement_per_class_passed": "how many did, by class, as a list",
    },
    "rounds": {
        **_RUN,
        "round_index": "0 = labeled images alone",
        "is_kept": "whether real validation preferred this round to the others",
        "pool_size": "images that could be selected: those that passed the gates",
        "num_gated": "images that a gate turned away before",
        "gates": "for each gate how many it turned away first, and its limit, as JSON",
        "num_selected": "images that were",
        "num_uncertain": "images that the teacher was too unsure of",
        "mean_uncertainty": "how unsure it was on average; NULL where it was asked once",
        "pool_temperature": "of the mean predictions that it was asked for; NULL where it was asked once",
        "num_negative": "images that were taught what they are not",
        "coverage": "the share of the pool that was selected",
        "per_class_selected": "selected images by predicted class, as a list",
        "rule": "selection rule",
        "threshold": "what the rule asked for; NULL where it differs by class, or none qualified",
        "thresholds": "the same by class, as a list",
        "selection_note": "what the rule says of its choice",
        "val_balanced_accuracy": "on the real validation part",
        "val_nll": "on the real validation part",
        "ece_before": "calibration error on real validation before the temperature",
        "ece_after": "and after it",
        "ece_after_is_cross_fitted": "whether at a temperature of other subjects; NULL: not known",
        "temperature": "fitted on real validation subjects",
        "num_train_images": "labeled and selected images of the training",
        "labeled_repeats": "how often each labeled image stood in the training set",
        "pseudo_weight": "what one selected image weighed",
        "alarm": "whether nearly the whole pool passed",
        "oracle_accuracy": "share of pseudo-labels that withheld labels agree with; real pools alone",
    },
    "arms": {
        "arm": "name",
        "text": "what it is for",
        "pool": "where its unlabeled images come from",
        "num_planned": "runs of the plan",
        "num_done": "finished ones",
        "num_failed": "failed ones",
    },
    "classes": {"number": "as in label, predicted and p_...", "name": "as in the archive"},
}


def column_meaning(table: str, column: str) -> str:
    """One line about a column; of one that a later version has added, where to look."""
    meanings = COLUMN_MEANINGS.get(table, {})
    if column in meanings:
        return meanings[column]
    for pattern, meaning in meanings.items():
        if pattern.endswith("*") and re.fullmatch(re.escape(pattern[:-1]) + r"[\w-]+", column):
            return meaning
    return "as in run.json" if table in ("runs", "rounds") else "as in the run's file"


def all_columns() -> list[str]:
    """Every column's name that is known beforehand, for suggestions."""
    return sorted({name for table in COLUMN_MEANINGS.values() for name in table if not name.endswith("*")})
