"""One run of a study: one arm at one fold, seed and fraction, from the archives to a finished run folder."""

from pathlib import Path
from typing import Any

import numpy as np

from classifier.run import Classifier
from extract.progress import Progress, no_progress
from semisup.arms import ARMS
from semisup.folders import PREDICTIONS, RUN_JSON, replace_folder, write_json
from semisup.guards import refuse_seen_subjects
from semisup.machine import Stopwatch, describe_machine
from semisup.outcomes import describe_run
from semisup.plan import Basis, RunJob
from semisup.run_data import RunData, opened_run_data
from semisup.run_leaks import MODELS, commit_fault
from semisup.run_methods import METHODS
from semisup.run_record import (
    describe_agreement,
    describe_calibration,
    describe_round,
    write_predictions,
)


def perform_run(job: RunJob, basis: Basis, progress: Progress = no_progress) -> None:
    """Train, choose the best round by real validation, open the test part once, and leave `runs/<key>/`."""
    watch = Stopwatch()
    with (
        opened_run_data(job, basis) as data,
        replace_folder(basis.study_dir / job.folder / job.key) as folder,
    ):
        arm = ARMS[job.arm]
        models = MODELS[arm.judged_by](folder, job, basis, data, progress)
        perform_method = METHODS[arm.method]
        result = perform_method(job, basis, data, models, folder)
        claim: dict[str, Any] = {}
        if arm.is_leak:
            result, claim = commit_fault(job, basis, data, models, result, folder)
        best = result.best.model
        best.temperature = result.best.temperature
        test_metrics = _predict_test(best, data, folder, arm.is_leak)
        models.keep(result.best)
        write_json(
            folder / RUN_JSON,
            {
                **describe_run(job),
                "status": "done",
                "error": None,
                "best_round": result.best.round_index,
                "stopped": result.stopped,
                "test_metrics": test_metrics,
                "val_metrics": result.best.val_metrics,
                "temperature": result.best.temperature,
                "num_labeled_images": len(data.labeled),
                "num_labeled_subjects": len(np.unique(data.labeled.subjects)),
                "num_val_images": len(data.val),
                "num_val_subjects": len(np.unique(data.val.subjects)),
                "num_test_images": len(data.test_files),
                "steps_per_training": basis.config.classifier_config(0).steps,
                "trainings": len(result.rounds) + models.num_members,  # a shared round 0 counts
                "trainings_here": models.num_trained,
                **watch.read(),
                **describe_machine(basis.config.classifier.device),
                "test_openings": data.test.openings,
                **describe_calibration(job, data, basis),
                **describe_agreement(models.agreement),
                **({"claim": claim} if claim else {}),
                "rounds": [describe_round(done, data, models, basis) for done in result.rounds],
            },
        )


def _predict_test(model: Classifier, data: RunData, folder: Path, deliberate_leak: bool) -> dict[str, float]:
    test = data.test.open(deliberate_leak=deliberate_leak)
    if not deliberate_leak:
        refuse_seen_subjects([*model.train_subjects, *model.val_subjects], test.subjects)
    return write_predictions(model, test, data, folder / PREDICTIONS)
