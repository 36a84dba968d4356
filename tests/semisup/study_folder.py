"""A fabricated study folder, written to the contract of docs/architecture.md, for tests of the report."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from extract.archive import ArchiveWriter, ImageRecord, open_archive
from extract.split import make_split, read_split, write_split

ARMS = ("supervised", "supervised_full", "pseudo_real", "pseudo_gan_full")


@dataclass(frozen=True)
class FakeStudy:
    """What the fabricated runs shall look like; `gains` are added to the chance of being right."""

    num_subjects: int = 36
    images_per_subject: int = 6
    folds: tuple[int, ...] = (0, 1, 2)
    seeds: tuple[int, ...] = (0, 1, 2)
    fractions: tuple[float, ...] = (0.2, 0.5, 0.7)
    classes: tuple[str, ...] = ("coronal", "noise", "sagittal")
    gan_gain: float = 0.0
    real_gain: float = 0.02
    pool_size: int = 90
    has_images: bool = True
    image_size: int = 32
    coverage: float = 0.6


def make_study(folder: Path, fake: FakeStudy = FakeStudy()) -> Path:
    """Write the folder; the same settings give the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    subjects = np.repeat([f"subject{i:03d}" for i in range(fake.num_subjects)], fake.images_per_subject)
    labels = np.arange(len(subjects)) % len(fake.classes)
    files, data_sha, data_path = _real_images(folder, fake, subjects, labels)
    folds, split_sha = _folds(folder, fake, subjects)
    pools = {fold: _pool(folder, fake, fold) for fold in fake.folds}
    skill = np.repeat(rng.normal(0, 0.6, fake.num_subjects), fake.images_per_subject)
    luck = rng.random(len(subjects))
    cells = [(arm, f) for arm in ARMS for f in (fake.fractions if arm != "supervised_full" else (1.0,))]
    planned = [(arm, f, k, s) for arm, f in cells for k in fake.folds for s in fake.seeds]
    for number, (arm, fraction, fold, seed) in enumerate(planned):
        rows = np.flatnonzero(folds == fold)
        gain = {"pseudo_gan_full": fake.gan_gain, "pseudo_real": fake.real_gain}.get(arm, 0.0)
        seed_rng = np.random.default_rng([fold, seed, ARMS.index(arm)])
        chance = 0.93 + 0.12 * np.log10(fraction) / np.log10(5) + gain + 0.05 * skill[rows]
        chance = chance + 0.01 * seed_rng.standard_normal() + 0.04 * seed_rng.standard_normal(len(rows))
        _write_run(
            folder / "runs" / f"{number:016x}", fake, arm, fraction, fold, seed,
            files[rows], subjects[rows], labels[rows], luck[rows] < chance, pools[fold], data_sha, files,
        )  # fmt: skip
    study = {
        "name": "phantom planes",
        "data": str(data_path),
        "split": str(folder / "planes.split.json"),
        "archive_sha256": data_sha,
        "split_sha256": split_sha,
        "classes": list(fake.classes),
        "arms": list(ARMS),
        "arm_texts": {"supervised": "labeled images alone: the baseline to beat"},
        "fractions": list(fake.fractions),
        "folds": list(fake.folds),
        "seeds": list(fake.seeds),
        "primary": {"arm": "pseudo_gan_full", "baseline": "supervised", "fraction": fake.fractions[0],
                    "metric": "balanced_accuracy"},
        "classifier": {"arch": "resnet10t", "steps": 200},
        "pseudo": {"threshold": 0.75, "rounds": 2},
        "runs": [{"key": f"{i:016x}", "title": f"{a} at {f:.0%} of the labels, fold {k}, seed {s}",
                  "arm": a, "fold": k, "seed": s, "fraction": f}
                 for i, (a, f, k, s) in enumerate(planned)],
        "pools": {str(fold): f"pool{fold}" for fold in fake.folds},
        "versions": {"python": "3.11.9", "torch": "2.13.0", "platform": "Linux"},
        "command": ["synthlabel", "semisup", "run", "--study", "study.yaml", "--outdir", "study"],
    }  # fmt: skip
    (folder / "study.json").write_text(json.dumps(study))
    return folder


def fail_run(study_dir: Path, cause: str, arm: str = "pseudo_real") -> None:
    """Turn the last run of an arm into a failed one."""
    path = [p for p in sorted(study_dir.glob("runs/*/run.json")) if json.loads(p.read_text())["arm"] == arm][
        -1
    ]
    info = json.loads(path.read_text())
    kept = {key: info[key] for key in ("arm", "fold", "seed", "fraction", "settings")}
    path.write_text(json.dumps({**kept, "status": "failed", "error": cause}))
    (path.parent / "predictions.parquet").unlink()


def _real_images(
    folder: Path, fake: FakeStudy, subjects: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, str, Path]:
    path = folder / "planes.zip"
    names = np.array([f"00000/img{i:08d}.png" for i in range(len(subjects))])
    if not fake.has_images:
        return names, "a" * 64, path
    rng = np.random.default_rng(1)
    with ArchiveWriter(path, overwrite=True) as writer:
        for subject, label in zip(subjects, labels, strict=True):
            writer.add(_picture(rng, label, fake.image_size), ImageRecord(fake.classes[label], str(subject)))
    with open_archive(path) as archive:
        return archive.manifest["file"].to_numpy(str), archive.sha256, path


def _folds(folder: Path, fake: FakeStudy, subjects: np.ndarray) -> tuple[np.ndarray, str]:
    """(fold that tests each image, hash of the split); a real split where there are real images."""
    if not fake.has_images:
        numbers = np.unique(subjects, return_inverse=True)[1] % len(fake.folds)
        return np.array(fake.folds)[numbers], "5" * 64
    path = folder / "planes.split.json"
    with open_archive(folder / "planes.zip") as archive:
        write_split(
            make_split(
                archive, num_folds=max(3, len(fake.folds)), fractions=fake.fractions, val_share=0.15, seed=1
            ),
            path,
        )
        split = read_split(path, archive)
    tested = {subject: fold for fold in fake.folds for subject in split.folds[fold].test}
    return np.array([tested.get(str(subject), -1) for subject in subjects]), split.sha256


def _pool(folder: Path, fake: FakeStudy, fold: int) -> tuple[np.ndarray, str, np.ndarray]:
    """(files, archive hash, what each picture shows)."""
    rng = np.random.default_rng(100 + fold)
    shown = rng.integers(0, len(fake.classes), fake.pool_size)
    names = np.array([f"00000/img{i:08d}.png" for i in range(fake.pool_size)])
    if not fake.has_images:
        return names, f"{fold:064x}", shown
    path = folder / "pools" / f"pool{fold}" / "synthetic.zip"
    with ArchiveWriter(path, overwrite=True) as writer:
        for i, label in enumerate(shown):
            record = ImageRecord(origin="synthetic", seed=i, truncation_psi=0.7, snapshot_sha256="b" * 64)
            writer.add(_picture(rng, label, fake.image_size, blur=True), record)
    with open_archive(path) as archive:
        return archive.manifest["file"].to_numpy(str), archive.sha256, shown


def _picture(rng: np.random.Generator, label: int, size: int, blur: bool = False) -> np.ndarray:
    y, x = np.mgrid[:size, :size] / size - 0.5 + rng.normal(0, 0.03, 2)[:, None, None]
    if label == 1:
        image = rng.normal(60, 25, (size, size))
    else:
        a, b = (0.4, 0.28) if label == 0 else (0.28, 0.4)
        inside = (x / a) ** 2 + (y / b) ** 2
        folds = np.sin(30 * np.arctan2(y, x) + rng.normal(0, 3)) * 20
        image = np.where(inside < 1, 150 + folds - 80 * (inside < 0.08), 12) + rng.normal(
            0, 4 if blur else 9, x.shape
        )
    return np.clip(image, 0, 255).astype(np.uint8)


def _write_run(
    folder, fake, arm, fraction, fold, seed, files, subjects, labels, right, pool, data_sha, all_files
):
    folder.mkdir(parents=True)
    rng = np.random.default_rng([fold, seed, ARMS.index(arm), round(100 * fraction)])
    num_classes = len(fake.classes)
    predicted = np.where(
        right, labels, (labels + 1 + (np.arange(len(labels)) % (num_classes - 1))) % num_classes
    )
    probs = _probs(
        rng,
        predicted,
        num_classes,
        np.where(right, 1 - 0.5 * rng.random(len(right)) ** 2, rng.uniform(0.5, 1, len(right))),
    )
    table = pd.DataFrame({"file": files, "subject": subjects, "label": labels})
    for k in range(num_classes):
        table[f"p_{k}"] = probs[:, k]
    table.to_parquet(folder / "predictions.parquet", index=False)
    has_pool = arm.startswith("pseudo")
    best_round = int(rng.integers(0, 3)) if has_pool else 0
    rounds = [_round(0, 0, np.zeros(num_classes, int), fake, False, best_round)]
    ledgers = []
    if has_pool:
        names, sha, shown = (
            pool if arm == "pseudo_gan_full" else (all_files[:36], data_sha, np.arange(36) % num_classes)
        )
        for index in (1, 2):
            guess = np.where(rng.random(len(names)) < 0.9, shown, rng.integers(0, num_classes, len(names)))
            confidence = np.where(
                rng.random(len(names)) < fake.coverage, rng.uniform(0.75, 1, len(names)), 0.6
            )
            p = _probs(rng, guess, num_classes, confidence, exact=True)
            chosen = confidence >= 0.75
            ledger = {
                "round_index": index, "image": names, "archive_sha256": sha, "image_sha256": "c" * 64,
                "snapshot_sha256": "b" * 64 if arm == "pseudo_gan_full" else "",
                "seed": np.arange(len(names)),
                "truncation_psi": 0.7, "teacher_sha256": "d" * 64,
                **{f"raw_p_{k}": p[:, k] for k in range(num_classes)},
                **{f"p_{k}": p[:, k] for k in range(num_classes)},
                "confidence": p.max(axis=1), "predicted": p.argmax(axis=1), "rule": "confident",
                "threshold": 0.75, "decision": np.where(chosen, "selected", "below threshold"),
                "weight": np.where(chosen, 0.5, 0.0),
            }  # fmt: skip
            ledgers.append(pd.DataFrame(ledger))
            counts = np.bincount(guess[chosen], minlength=num_classes)
            rounds.append(_round(index, len(names), counts, fake, arm == "pseudo_real", best_round))
        pd.concat(ledgers, ignore_index=True).to_parquet(folder / "ledger.parquet", index=False)
    info = {
        "arm": arm, "fold": fold, "seed": seed, "fraction": fraction, "settings": {}, "status": "done",
        "error": None,
        "best_round": best_round,
        "test_metrics": {"balanced_accuracy": float(right.mean()), "auroc": 0.95, "ece": 0.04, "mcc": 0.8},
        "val_metrics": {"balanced_accuracy": 0.9}, "temperature": 1.3,
        "num_labeled_images": round(140 * fraction),
        "num_labeled_subjects": round(24 * fraction), "num_val_images": 12, "num_test_images": len(files),
        "steps_per_training": 200, "trainings": len(rounds), "seconds": 12.5 * len(rounds),
        "trainings_here": max(1, len(rounds) - 1), "test_openings": 1,
        "rounds": rounds,
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(info))


def _probs(rng, predicted, num_classes, confidence, exact=False):
    top = confidence if exact else np.clip(confidence + rng.normal(0, 0.05, len(predicted)), 0.45, 0.99)
    probs = np.repeat(((1 - top) / (num_classes - 1))[:, None], num_classes, axis=1)
    probs[np.arange(len(predicted)), predicted] = top
    return probs


def _round(index, pool_size, per_class, fake, has_oracle, best_round):
    selected = int(per_class.sum())
    coverage = selected / pool_size if pool_size else 0.0
    return {
        "round_index": index, "pool_size": pool_size, "num_selected": selected, "coverage": coverage,
        "per_class_selected": [int(n) for n in per_class], "threshold": 0.75 if index else None,
        "val_balanced_accuracy": 0.85 + 0.01 * index + 0.05 * (index == best_round), "val_nll": 0.5,
        "ece_before": 0.09, "ece_after": 0.04,
        "temperature": 1.3, "num_train_images": 28 + selected, "alarm": coverage > 0.9,
        "oracle_accuracy": 0.91 if has_oracle and index else None,
    }  # fmt: skip
