"""What an audit leaves behind: figures, one row an image, the list of copies, and the worst pairs."""

import csv
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from extract.atomic import replace_file, write_text
from extract.errors import name_some
from extract.json_values import json_value
from gan.audit import Audit
from gan.copies import CLEAR, LOOKALIKE, NUM_CANDIDATES, QUANTILE
from gan.errors import GanError

FORMAT = "synthlabel-audit-1"
FILES = ("audit.json", "nearest.csv", "copies.csv", "worst-pairs.png")
NUM_WORST = 12
COLUMNS_OF_PAIRS = 2

CANNOT_SAY = (
    "Only copies that lie on a training image after a shift of 5 %, a change of brightness and contrast, or "
    "in a mirror are looked for: a turned, stretched or partial copy is not found.",
    "No figure here is a guarantee of privacy: it says what these images show, not what an attacker who has "
    "the network could find out.",
)


def describe_rule(audit: Audit) -> str:
    """How copies were told, in words with numbers."""
    calibration = audit.calibration
    if calibration is None:
        return "no rule: too few real images of other people to calibrate on"
    return (
        f"an image is flagged where its copy score is below {calibration.threshold:.3f}, which only "
        f"{QUANTILE:.1%} of {calibration.num_images:,} real images of {calibration.num_groups} unseen "
        f"subjects are (their median {calibration.median:.2f}, lowest {calibration.lowest:.2f}; 0 = the same "
        f"picture, 1 = as alike as two people), and beyond doubt below {CLEAR * calibration.threshold:.3f}"
    )


def write_audit(audit: Audit, outdir: Path, *, overwrite: bool = False) -> list[Path]:
    """Write the four files; the picture needs at least one image.

    Raises:
        GanError: if one of them exists and may not be overwritten.
    """
    check_outdir(outdir, overwrite)
    outdir.mkdir(parents=True, exist_ok=True)
    rows = _rows(audit)
    write_text(outdir / "nearest.csv", _csv(rows))
    flagged = [row for row, is_copy in zip(rows, audit.flagged, strict=True) if is_copy]
    columns = ("file", "sha256", "seed", "class", "copy_of", "copy_of_subject", "copy_score", "correlation")
    write_text(
        outdir / "copies.csv", _csv([{name: row[name] for name in columns} for row in flagged], columns)
    )
    _draw_worst(audit, outdir / "worst-pairs.png")
    text = json.dumps(json_value(audit_figures(audit)), indent=1, allow_nan=False) + "\n"
    write_text(outdir / "audit.json", text)  # last: it completes the audit
    return [outdir / name for name in FILES]


def check_outdir(outdir: Path, overwrite: bool) -> None:
    """Refuse to replace an earlier audit, before any work."""
    there = [name for name in FILES if (outdir / name).exists()]
    if there and not overwrite:
        raise GanError(
            f"{outdir}: {name_some(there)} exist already and are left alone; choose another --outdir or pass "
            "--overwrite"
        )


def audit_figures(audit: Audit) -> dict[str, Any]:
    """The content of `audit.json`."""
    calibration, reals = audit.calibration, audit.reals
    return {
        "format": FORMAT,
        "verdict": audit.verdict.word,
        "sentence": audit.verdict.sentence,
        "rule": describe_rule(audit),
        "notes": audit.notes,
        "cannot_say": list(CANNOT_SAY),
        "num_images": len(audit.generated.files),
        "num_train": len(reals.train),
        "num_train_subjects": len(np.unique(audit.train.groups)),
        "num_held_out": len(reals.held_out),
        "num_held_out_subjects": 0 if audit.held_out is None else len(np.unique(audit.held_out.groups)),
        "mirrored_copies_count": audit.train.mirror,
        "authenticity": float(audit.authentic.mean()),
        "authenticity_of_held_out_images": audit.authentic_held_out,
        "leaning": None if audit.leaning is None else asdict(audit.leaning),
        "copies": None if audit.copies is None else asdict(audit.copies),
        "calibration": None
        if calibration is None
        else {
            "threshold": calibration.threshold,
            "quantile": QUANTILE,
            "num_images": calibration.num_images,
            "num_subjects": calibration.num_groups,
            "median": calibration.median,
            "lowest": calibration.lowest,
            "false_alarms": calibration.false_alarms,
            "num_lookalikes_left_out": len(calibration.lookalikes),
            "lookalike_limit": LOOKALIKE,
            "num_candidates": NUM_CANDIDATES,
        },
        "extractor": audit.extractor,
        "weights_sha256": audit.weights_sha256,
        "source": str(audit.generated.source),
        "snapshot_sha256": audit.generated.snapshot_sha256,
        "archive_sha256": reals.archive_sha256,
        "split_sha256": reals.split_sha256,
        "fold": reals.fold,
    }


def _rows(audit: Audit) -> list[dict[str, Any]]:
    reals, train = audit.reals, audit.train
    near = train.rows[audit.to_train.places % len(train)]
    like = train.rows[audit.scores.places % len(train)]
    rows = []
    for index, file in enumerate(audit.generated.files):
        row = {
            "file": file,
            "sha256": audit.generated.sha256[index],
            "seed": audit.generated.seeds[index],
            "class": audit.generated.classes[index],
            "train_file": reals.files[near[index]],
            "train_subject": reals.subjects[near[index]],
            "train_mirrored": int(audit.to_train.places[index] >= len(train)),
            "train_distance": f"{audit.to_train.distances[index]:.6g}",
            "held_out_file": "",
            "held_out_subject": "",
            "held_out_distance": "",
            "authentic": int(audit.authentic[index]),
            "copy_of": reals.files[like[index]],
            "copy_of_subject": reals.subjects[like[index]],
            "copy_score": f"{audit.scores.values[index]:.4f}",
            "correlation": f"{audit.scores.correlations[index]:.4f}",
            "copy": int(audit.flagged[index]),
        }
        if audit.held_out is not None and audit.to_held_out is not None:
            other = audit.held_out.rows[audit.to_held_out.places[index] % len(audit.held_out)]
            row["held_out_file"], row["held_out_subject"] = reals.files[other], reals.subjects[other]
            row["held_out_distance"] = f"{audit.to_held_out.distances[index]:.6g}"
        rows.append(row)
    return rows


def _csv(rows: list[dict[str, Any]], columns: tuple[str, ...] = ()) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _draw_worst(audit: Audit, path: Path) -> None:
    """The images most like a training image: each beside that one and its nearest held-out image."""
    from matplotlib.figure import Figure

    worst = np.argsort(audit.scores.values, kind="stable")[:NUM_WORST]
    num_rows = -(-len(worst) // COLUMNS_OF_PAIRS)
    figure = Figure(figsize=(5.4 * COLUMNS_OF_PAIRS, 2.25 * num_rows + 0.6), layout="constrained")
    figure.suptitle(_wrapped(audit.verdict.sentence), fontsize=10)
    axes = figure.subplots(num_rows, 3 * COLUMNS_OF_PAIRS, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for order, index in enumerate(worst):
        row, column = order // COLUMNS_OF_PAIRS, order % COLUMNS_OF_PAIRS * 3
        score, correlation = audit.scores.values[index], audit.scores.correlations[index]
        place = audit.scores.places[index : index + 1]
        mirrored = " (mirrored)" if place[0] >= len(audit.train) else ""
        flag = "FLAGGED " if audit.flagged[index] else ""
        seed = audit.generated.seeds[index]
        name = f"seed {seed}" if seed else audit.generated.files[index].rpartition("/")[2]
        twin = audit.reals.subjects[audit.train.rows[place % len(audit.train)]][0]
        shown = [
            (audit.generated.images[index], f"{flag}generated\n{name}\nscore {score:.2f}"),
            (
                audit.train.pixels(place)[0],
                f"training{mirrored}\n{_short(twin)}\ncorrelation {correlation:.3f}",
            ),
        ]
        if audit.held_out is not None and audit.to_held_out is not None:
            place = audit.to_held_out.places[index : index + 1]
            other = audit.reals.subjects[audit.held_out.rows[place % len(audit.held_out)]][0]
            ratio = audit.to_train.distances[index] / max(audit.to_held_out.distances[index], 1e-12)
            shown.append(
                (
                    audit.held_out.pixels(place)[0],
                    f"nearest held-out\n{_short(other)}\ntraining {ratio:.2f} x as far",
                )
            )
        for axis, (image, title) in zip(axes[row, column : column + 3], shown, strict=False):
            picture = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
            axis.imshow(picture, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axis.set_title(title, fontsize=7.5)
    with replace_file(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _short(subject: str) -> str:
    return subject if len(subject) <= 18 else f"{subject[:16]}..."


def _wrapped(sentence: str, width: int = 110) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(sentence, width))
