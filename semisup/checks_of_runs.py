"""Lines of the leakage sheet about the runs: whom each model saw, its tests, and how it was chosen."""

from collections import Counter

import numpy as np

from extract.archive import Archive
from extract.language import Message
from semisup.checks import NUM_NAMED, Check, Material, name_few, no_data, no_split
from semisup.ledger import LEDGER_FILE, ledger_images
from semisup.plan import settings_key
from semisup.records import FinishedRun


def run_checks(material: Material) -> list[Check]:
    """The models' own records, predictions, ledgers and choices."""
    return [
        _check_models(material),
        _check_validation(material),
        _check_expert_labels(material),
        _check_pools(material),
        _check_scaling(material),
        _check_kept_rounds(material),
        _check_openings(material),
        _check_settings(material),
    ]


def _check_models(material: Material) -> Check:
    what = Message("No model was trained or chosen on a subject that it was tested on")
    seen, faults = 0, []
    for run in material.runs:
        own = (material.models.get(run.folder.name) or {}).get("subjects")
        if not own:
            continue
        seen += 1
        tested = set(run.subjects.tolist())
        both = sorted(tested & {*map(str, own.get("train", ())), *map(str, own.get("val", ()))})
        if both:
            faults.append(f"{_title(run)}: {name_few(both, 3)}")
    evidence = Message(
        "models: {seen} of {all}, with a subject in common: {faults}",
        seen=seen,
        all=len(material.runs),
        faults=len(faults),
    )
    if faults:
        found = Message("in common: {runs}", runs="; ".join(faults[:NUM_NAMED]))
        return Check("models' subjects", what, "failed", found, evidence, vetoes=True)
    if seen < len(material.runs) or not seen:
        return Check(
            "models' subjects", what, "unknown", Message("not every model says whom it saw"), evidence
        )
    found = Message("the subjects that each model names against those of its predictions")
    return Check("models' subjects", what, "passed", found, evidence)


def _check_expert_labels(material: Material) -> Check:
    what = Message("Tests are on real images with the archive's labels, and with all images of the test part")
    archive = material.archive
    if archive is None or not material.runs:
        return Check("test labels", what, "unknown", no_data(material))
    place = {name: row for row, name in enumerate(archive.names)}
    faults = []
    for run in material.runs:
        rows = np.array([place.get(name, -1) for name in run.files.tolist()], dtype=np.int64)
        known = rows[rows >= 0]
        wrong = int((rows < 0).sum() + (~archive.is_real[known]).sum())
        wrong += int((archive.labels[known] != run.labels[rows >= 0]).sum())
        if material.sides and run.fold < len(material.sides):
            whole = np.isin(archive.subjects, sorted(material.sides[run.fold]["test"])) & archive.is_real
            wrong += abs(int(whole.sum()) - len(rows))
        if wrong:
            faults.append(f"{_title(run)}: {wrong} images")
    evidence = Message(
        "predictions: {predictions}, runs: {runs}",
        predictions=sum(len(run.files) for run in material.runs),
        runs=len(material.runs),
    )
    if faults:
        found = Message("otherwise: {runs}", runs="; ".join(faults[:NUM_NAMED]))
        return Check("test labels", what, "failed", found, evidence, vetoes=True)
    found = Message("each prediction compared with its row of the archive: no pseudo-label among them")
    return Check("test labels", what, "passed", found, evidence)


def _check_pools(material: Material) -> Check:
    what = Message("No image of validation or test was pseudo-labeled")
    archive = material.archive
    runs = [run for run in material.runs if (run.folder / LEDGER_FILE).exists()]
    if not runs:
        return Check("pools", what, "noted", Message("no finished run has a pool"))
    if archive is None or material.sides is None:
        return Check("pools", what, "unknown", no_data(material))
    digests, subjects = archive.manifest["sha256"].to_numpy(str), archive.subjects
    judged: dict[int, set[str]] = {}
    for fold in {run.fold for run in runs}:
        judges = sorted(material.sides[fold]["val"] | material.sides[fold]["test"])
        judged[fold] = set(digests[np.isin(subjects, judges) & archive.is_real].tolist())
    faults, num_images = [], 0
    for run in runs:
        images = ledger_images(run.folder / LEDGER_FILE)
        num_images += len(images)
        if images & judged[run.fold]:
            faults.append(f"{_title(run)}: {len(images & judged[run.fold])} images")
    evidence = Message(
        "pool images: {images}, ledgers: {ledgers}, pictures of validation and test: {pictures}",
        images=num_images,
        ledgers=len(runs),
        pictures=sum(map(len, judged.values())),
    )
    if faults:
        found = Message("found: {runs}", runs="; ".join(faults[:NUM_NAMED]))
        return Check("pools", what, "failed", found, evidence, vetoes=True)
    found = Message("the hash of every image of every ledger compared; synthetic copies would be found, too")
    return Check("pools", what, "passed", found, evidence)


def _check_validation(material: Material) -> Check:
    what = Message("Validation holds real, labeled images of the split's validation part alone")
    if material.sides is None or material.folds is None:
        return Check("validation", what, "unknown", no_split(material))
    faults, seen = [], 0
    for run in material.runs:
        own = (material.models.get(run.folder.name) or {}).get("subjects")
        if not own:
            continue
        seen += 1
        allowed = set(map(str, material.folds[run.fold]["val"].get(str(run.fraction), ())))
        foreign = sorted(set(map(str, own.get("val", ()))) - allowed)
        num_images = run.info.get("num_val_images")
        apart = run.info.get("calibration") or {}
        if num_images is not None and apart.get("is_held_out"):
            num_images += apart["num_images"]  # held out for the temperature alone
        if material.archive is not None and num_images is not None:
            there = np.isin(material.archive.subjects, sorted(allowed)) & material.archive.is_real
            there &= material.archive.labels >= 0
            if int(there.sum()) != num_images:
                foreign.append(f"{num_images} images where the part has {int(there.sum())}")
        if foreign:
            faults.append(f"{_title(run)}: {name_few(foreign, 3)}")
    evidence = Message("models: {seen} of {all}", seen=seen, all=len(material.runs))
    if faults:
        found = Message("otherwise: {runs}", runs="; ".join(faults[:NUM_NAMED]))
        return Check("validation", what, "failed", found, evidence, vetoes=True)
    if not seen:
        return Check("validation", what, "unknown", Message("not every model says whom it saw"), evidence)
    found = Message("subjects and number of images of each model compared with the split")
    return Check("validation", what, "passed", found, evidence)


def _check_kept_rounds(material: Material) -> Check:
    what = Message("The kept round is the best on real validation, not on the test part")
    runs = [run for run in material.runs if len(run.rounds) > 1 and run.info.get("best_round") is not None]
    if not runs:
        return Check("kept rounds", what, "noted", Message("no finished run has rounds to choose from"))
    faults = []
    for run in runs:
        best = max(
            run.rounds,
            key=lambda entry: (entry["val_balanced_accuracy"], -entry["val_nll"], -entry["round_index"]),
        )
        if best["round_index"] != run.info["best_round"]:
            faults.append(f"{_title(run)}: round {run.info['best_round']}")
    evidence = Message("runs: {runs}, with another round: {faults}", runs=len(runs), faults=len(faults))
    if faults:
        found = Message("another round was kept: {runs}", runs="; ".join(faults[:NUM_NAMED]))
        return Check("kept rounds", what, "failed", found, evidence, vetoes=True)
    return Check("kept rounds", what, "passed", Message("chosen anew from the validation results"), evidence)


def _check_openings(material: Material) -> Check:
    what = Message("Each run opened the test part once, after its round was chosen")
    counts = Counter(int(run.info["test_openings"]) for run in material.runs)
    if not counts:
        return Check("test openings", what, "noted", Message("no run has finished yet"))
    evidence = Message(
        "openings: {openings}, runs: {runs}",
        openings=sum(n * times for n, times in counts.items()),
        runs=len(material.runs),
    )
    if set(counts) != {1}:
        found = Message("{most} times in a run", most=max(counts))
        return Check("test openings", what, "failed", found, evidence, vetoes=True)
    found = Message("in this study; how often the same test part was used elsewhere, no file can say")
    return Check("test openings", what, "passed", found, evidence)


def _check_scaling(material: Material) -> Check:
    what = Message("Preprocessing was fitted on training images alone")
    primary = material.records.study.get("primary") or {}
    runs = [
        run
        for run in material.records.select("supervised", float(primary.get("fraction", 1.0)))
        if run.folder.name in material.models
    ]
    archive = material.archive
    if archive is None or material.folds is None or not runs:
        return Check("preprocessing", what, "unknown", no_data(material))
    faults, measured = [], {}
    for run in runs:
        scaling = material.models[run.folder.name].get("preprocessing") or {}
        if (
            scaling.get("steps") not in (None, {}, [])
            or len(scaling.get("mean") or ()) != archive.image_shape[0]
        ):
            found = Message(
                "the study prepares its images first; the scaling after that is not measured anew here"
            )
            return Check(
                "preprocessing", what, "unknown", found, Message("models: {models}", models=len(runs))
            )
        if run.fold not in measured:
            labeled = material.folds[run.fold]["labeled"].get(str(run.fraction), ())
            rows = (
                np.isin(archive.subjects, list(map(str, labeled))) & archive.is_real & (archive.labels >= 0)
            )
            measured[run.fold] = _mean_of(archive, np.flatnonzero(rows))
        if not np.allclose(scaling["mean"], measured[run.fold], atol=1e-6):
            faults.append(f"fold {run.fold}, seed {run.seed}")
    evidence = Message(
        "supervised models: {models}, folds: {folds}, decimals: 6", models=len(runs), folds=len(measured)
    )
    if faults:
        found = Message(
            "another mean than that of the labeled training images: {runs}", runs="; ".join(faults)
        )
        return Check("preprocessing", what, "failed", found, evidence, vetoes=True)
    found = Message("the mean that the supervised models scale by, measured anew on their training images")
    return Check("preprocessing", what, "passed", found, evidence)


def _mean_of(archive: Archive, rows: np.ndarray) -> np.ndarray:
    """(C,) mean of the pixels on the scale 0 ... 1."""
    total = np.zeros(archive.image_shape[0], dtype=np.int64)
    for row in rows.tolist():
        total += archive.read_image(row).sum(axis=(1, 2), dtype=np.int64)
    return total / (len(rows) * archive.image_shape[1] * archive.image_shape[2]) / 255


def _check_settings(material: Material) -> Check:
    what = Message("Every run has the settings that its folder is named after")
    runs = [run for run in material.records.runs if run.info.get("settings")]
    wrong = [_title(run) for run in runs if settings_key(run.info["settings"]) != run.folder.name]
    evidence = Message(
        "runs: {runs} of {all}, with others: {wrong}",
        runs=len(runs),
        all=len(material.runs),
        wrong=len(wrong),
    )
    if not runs:
        return Check("settings", what, "unknown", Message("no run says what it was made with"), evidence)
    if wrong:
        found = Message("changed by hand, or made by another release: {runs}", runs=name_few(wrong))
        return Check("settings", what, "failed", found, evidence)
    return Check("settings", what, "passed", Message("each hash computed anew"), evidence)


def _title(run: FinishedRun) -> str:
    return f"{run.arm}, fold {run.fold}, seed {run.seed}"
