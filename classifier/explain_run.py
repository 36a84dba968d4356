"""From a run and files to pictures of explanations, and to the share of attention outside masks."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from classifier.attention import patch_size
from classifier.attention_share import MaskShare, measure_mask_share
from classifier.calibration import scale_logits
from classifier.data import ImageTable
from classifier.errors import ClassifierError
from classifier.evaluate import refuse_seen_subjects
from classifier.evaluation_files import put_explanation, read_metrics
from classifier.explain import OPACITY, Explained, check_method, explain_batch, overlay, to_rgb
from classifier.explain_pictures import (
    Caption,
    Panel,
    detail_panels,
    draw_explanation,
    draw_sheet,
    map_panels,
    patch_panel,
)
from classifier.gradcam import EXPLAIN_BATCH
from classifier.inputs import InputImage, archive_image, check_archive, list_sources, read_source
from classifier.page import redraw_page
from classifier.preparation import InputSettings, input_settings
from classifier.run import Classifier, load_classifier
from extract.archive import Archive, open_archive
from extract.atomic import replace_file, write_text
from extract.building import Unreadable
from extract.cache import open_images
from extract.errors import SettingsError
from extract.json_values import json_value
from extract.mask_files import open_masks
from extract.progress import Progress, no_progress
from extract.safe_names import encode_name
from extract.show import pick_rows
from extract.split import read_split

LISTING = "explanation.json"
MAX_NAME_CHARS = 80
TITLES = {
    "grad-cam": "Grad-CAM",
    "guided": "guided Grad-CAM",
    "activations": "mean activation",
    "attention": "attention rollout",
}


@dataclass(frozen=True)
class ExplainConfig:
    """What is to be drawn."""

    method: str = "grad-cam"
    class_name: str | None = None  # explain this class; None = the one that each image is given
    layer: str | None = None
    limit: int = 12  # pictures: of an archive for each class, else altogether
    opacity: float = OPACITY
    seed: int = 0  # of the choice of images

    def __post_init__(self) -> None:
        check_method(self.method)
        if self.limit < 1:
            raise SettingsError(f"--limit must be at least 1, got {self.limit}")
        if not 0 <= self.opacity <= 1:
            raise SettingsError(f"--opacity must be in [0, 1], got {self.opacity:g}")


@dataclass(frozen=True)
class ExplainSummary:
    """What was made."""

    outdir: Path
    num_pictures: int
    sheets: tuple[str, ...]  # file names
    layer: str
    notes: tuple[str, ...]
    unreadable: tuple[Unreadable, ...]


def explain_run(
    run_dir: Path,
    data: Path,
    config: ExplainConfig,
    outdir: Path,
    *,
    settings: InputSettings | None = None,
    split_path: Path | None = None,
    part: str | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> ExplainSummary:
    """Draw explanations of images of an archive (some of each class), a folder or one file.

    Writes a PNG an image, a sheet for each class, and `explanation.json`, which lists them.

    Args:
        settings: how files become images; None = as recorded in the run.
        split_path, part: draw from this part of an archive alone, by the run's own fold and fraction.

    Raises:
        ClassifierError, ExtractError, SettingsError: if run, data or settings cannot be used, or `outdir`
            holds explanations already and `overwrite` is not set.
    """
    classifier = load_classifier(run_dir)
    settings = settings or input_settings(classifier)
    target = class_number(classifier, config.class_name)
    images, unreadable = _choose(classifier, data, settings, config, split_path, part)
    if not images:
        listed = "".join(f"\n  {item}" for item in unreadable)
        raise ClassifierError(f"{data}: expected images to explain, got none that can be read{listed}")
    _clear(outdir, overwrite)
    drawn = _Drawn(classifier, config, outdir)
    try:
        for start in range(0, len(images), EXPLAIN_BATCH):
            drawn.add(images[start : start + EXPLAIN_BATCH], target)
            progress(min(start + EXPLAIN_BATCH, len(images)), len(images), config.method)
    finally:
        drawn.finish()
    notes = tuple(dict.fromkeys(drawn.notes))
    return ExplainSummary(
        outdir, len(drawn.listed), tuple(drawn.sheets), drawn.layer, notes, tuple(unreadable)
    )


def write_explanations(
    classifier: Classifier,
    images: Sequence[InputImage],
    config: ExplainConfig,
    outdir: Path,
    *,
    overwrite: bool = False,
) -> ExplainSummary:
    """The same for images that have been read already, of `predict` for instance."""
    _clear(outdir, overwrite)
    drawn = _Drawn(classifier, config, outdir)
    target = class_number(classifier, config.class_name)
    for start in range(0, len(images), EXPLAIN_BATCH):
        drawn.add(images[start : start + EXPLAIN_BATCH], target)
    drawn.finish()
    return ExplainSummary(
        outdir, len(drawn.listed), tuple(drawn.sheets), drawn.layer, tuple(dict.fromkeys(drawn.notes)), ()
    )


def mask_share_run(
    run_dir: Path,
    data: Path,
    masks: Path,
    *,
    class_name: str | None = None,
    layer: str | None = None,
    split_path: Path | None = None,
    part: str | None = None,
    progress: Progress = no_progress,
) -> MaskShare:
    """How much of Grad-CAM lies outside masks, on all images of an archive or of a part of it.

    With a part that was evaluated already, the result is added to the run's `metrics.json` under
    "explanation".

    Args:
        masks: folder or zip of gray PNGs named as the archive's images, 0 outside.

    Raises:
        ClassifierError, ExtractError, SettingsError: if run, archive, masks or part cannot be used.
    """
    classifier = load_classifier(run_dir)
    number = class_number(classifier, class_name)
    if data.suffix.lower() != ".zip":
        raise SettingsError(f"--masks goes with an archive (.zip), whose images name the masks, got {data}")
    if part is not None and part not in read_metrics(run_dir):
        raise ClassifierError(
            f"{run_dir}: expected an evaluation of part {part}, to which the share belongs, got none: run "
            f"`classifier evaluate --part {part}` first"
        )
    with open_archive(data) as archive:
        check_archive(archive, input_settings(classifier))
        rows = _rows(classifier, archive, run_dir, split_path, part)
        names = [archive.names[row] for row in rows]
        share = measure_mask_share(
            classifier,
            ImageTable(open_images(archive), rows),
            open_masks(masks, names),
            archive.subjects[rows],
            targets=None if number is None else np.full(len(rows), number),
            layer=layer,
            progress=progress,
        )
    if part is not None:
        put_explanation(run_dir, part, share.to_json())
        redraw_page(run_dir, part, data)
    return share


def class_number(classifier: Classifier, name: str | None) -> int | None:
    """The number of a class; None for None.

    Raises:
        SettingsError: if the classifier does not know it.
    """
    if name is None:
        return None
    if name not in classifier.classes:
        raise SettingsError(f"--class must be one of {', '.join(classifier.classes)}, got {name!r}")
    return classifier.classes.index(name)


class _Drawn:
    """Draws batches of explanations, and remembers what the sheets and the listing need."""

    def __init__(self, classifier: Classifier, config: ExplainConfig, outdir: Path) -> None:
        self.classifier, self.config, self.outdir = classifier, config, outdir
        self.listed: list[dict[str, object]] = []
        self.notes: list[str] = []
        self.sheets: list[str] = []
        self.layer = ""
        self._tiles: dict[str, list[tuple[np.ndarray, Caption]]] = defaultdict(list)

    def add(self, images: Sequence[InputImage], target: int | None) -> None:
        classifier, method = self.classifier, self.config.method
        table = ImageTable(np.stack([image.pixels for image in images]))
        probs = scale_logits(classifier.predict_logits(table), classifier.temperature)
        chosen = probs.argmax(axis=1) if target is None else np.full(len(images), target)
        prepared = classifier.preprocessing.prepare(table.gather(np.arange(len(images))))
        explained = None
        if method == "patches":
            patch = patch_size(classifier.model)
        else:
            explained = explain_batch(
                classifier, table, method=method, targets=chosen, layer=self.config.layer
            )
            self.layer = explained.layer
            self.notes += [explained.note] if explained.note else []
        for row, image in enumerate(images):
            remark = explained.remarks[row] if explained is not None and explained.remarks else ""
            caption = self._caption(image, probs[row], int(chosen[row]), remark)
            details: list[Panel] = []
            if explained is None:
                panels = [Panel("input", to_rgb(prepared[row])), patch_panel(prepared[row], patch)]
            else:
                panels, details = self._panels(prepared[row], explained, row)
                group = image.label or f"called {classifier.classes[int(probs[row].argmax())]}"
                laid = overlay(prepared[row], explained.maps[row], self.config.opacity)
                self._tiles[group].append((laid, caption))
            name = self._file_name(image)
            self._save(draw_explanation(panels, caption, details), name)
            self.listed.append({
                "picture": name,
                "input": image.given,
                "file": image.file,
                "label": image.label,
                "explained": classifier.classes[int(chosen[row])],
                "class": classifier.classes[int(probs[row].argmax())],
                "probabilities": dict(zip(classifier.classes, probs[row].tolist(), strict=True)),
            })  # fmt: skip

    def finish(self) -> None:
        """Write the sheets, and the listing of all that is there."""
        if not self.listed:
            return
        for group, tiles in sorted(self._tiles.items()):
            name = f"sheet-{encode_name(group).replace(' ', '-')}.png"
            where = f", layer {self.layer}" if self.layer else ""
            how = f"{TITLES[self.config.method]} of {self.classifier.config.arch}{where}"
            title = f"{group}: {how}, {len(tiles)} images"
            self._save(draw_sheet(title, tiles), name)
            self.sheets.append(name)
        content = {
            "method": self.config.method,
            "layer": self.layer,
            "class": self.config.class_name,
            "sheets": self.sheets,
            "notes": list(dict.fromkeys(self.notes)),
            "images": self.listed,
        }
        write_text(self.outdir / LISTING, json.dumps(json_value(content), indent=1) + "\n")

    def _caption(self, image: InputImage, probs: np.ndarray, chosen: int, remark: str) -> Caption:
        classes, best = self.classifier.classes, int(probs.argmax())
        lines = [f"{classes[best]} {probs[best]:.2f}"]
        if self.config.method in ("grad-cam", "guided") and chosen != best:
            lines.append(f"shown: what speaks for {classes[chosen]} ({probs[chosen]:.2f})")
        elif self.config.method in ("grad-cam", "guided"):
            lines.append(f"shown: what speaks for {classes[chosen]}")
        if image.label:
            lines.append(f"labeled {image.label}")
        if remark:
            lines.append(remark)
        file = image.file
        if image.volume:
            file += f", {image.plane} {image.angle_deg:g}°, slice {image.slice_index}"
        return Caption(file, tuple(lines), bool(image.label) and image.label != classes[best])

    def _panels(
        self, prepared: np.ndarray, explained: Explained, row: int
    ) -> tuple[list[Panel], list[Panel]]:
        name = TITLES[explained.method]
        panels = map_panels(prepared, explained.maps[row], self.config.opacity, name)
        if explained.details is None:
            return panels, []
        return panels, detail_panels(explained.details[row], explained.detail_names[row])

    def _file_name(self, image: InputImage) -> str:
        """A name for the picture that no other has."""
        base = image.file.replace("/", "-").rsplit(".", 1)[0]
        if image.volume:
            base += f"-{image.plane}-{image.angle_deg:g}-{image.slice_index}"
        return f"{len(self.listed):04d}-{encode_name(base)[-MAX_NAME_CHARS:]}.png"

    def _save(self, picture: Image.Image, name: str) -> None:
        with replace_file(self.outdir / name) as temporary:
            picture.save(temporary, format="PNG")


def _choose(
    classifier: Classifier,
    data: Path,
    settings: InputSettings,
    config: ExplainConfig,
    split_path: Path | None,
    part: str | None,
) -> tuple[list[InputImage], list[Unreadable]]:
    """The images to draw: of an archive so many of each class, spread over subjects; else evenly spread."""
    if data.suffix.lower() == ".zip" and data.is_file():
        with open_archive(data) as archive:
            check_archive(archive, settings)
            rows = _rows(classifier, archive, data, split_path, part)
            rng = np.random.default_rng(config.seed)
            chosen = [
                row
                for number in (*range(len(archive.classes)), -1)
                for row in pick_rows(archive, rows[archive.labels[rows] == number], config.limit, rng)
            ]
            return [archive_image(archive, int(row), f"{data}") for row in chosen], []
    if part is not None or split_path is not None:
        raise SettingsError(f"--split and --part go with an archive (.zip), got {data}")
    images: list[InputImage] = []
    unreadable: list[Unreadable] = []
    sources = list_sources([data], settings)
    chosen_sources = [sources[place] for place in _spread(len(sources), config.limit)]
    for source in chosen_sources:
        read = list(read_source(source, settings))  # the slices of one volume at a time
        unreadable += [item for item in read if isinstance(item, Unreadable)]
        found = [item for item in read if isinstance(item, InputImage)]
        images += [found[place] for place in _spread(len(found), -(-config.limit // len(chosen_sources)))]
    return [images[place] for place in _spread(len(images), config.limit)], unreadable


def _spread(count: int, limit: int) -> list[int]:
    return sorted(set(np.linspace(0, count - 1, min(count, limit)).round().astype(int).tolist()))


def _rows(
    classifier: Classifier, archive: Archive, where: Path, split_path: Path | None, part: str | None
) -> np.ndarray:
    """Rows of a part (whose subjects the classifier must not have seen), or all of them."""
    if (split_path is None) != (part is None):
        raise SettingsError("give --split and --part together, or neither")
    if split_path is None or part is None:
        return np.arange(len(archive))
    known = classifier.provenance
    if known.fold is None:
        raise SettingsError(f"{where}: the run was not trained on a split: leave --split and --part out")
    split = read_split(split_path, archive)
    rows = split.rows(archive, known.fold, part, 1.0 if known.fraction is None else known.fraction)
    seen = classifier.train_subjects + (() if part == "val" else classifier.val_subjects)
    refuse_seen_subjects(archive.subjects[rows], seen, "the classifier")
    return rows


def _clear(outdir: Path, overwrite: bool) -> None:
    """Refuse to write among other files; with `overwrite` remove the pictures of an earlier time."""
    if not outdir.exists():
        return
    if not outdir.is_dir():
        raise ClassifierError(f"{outdir}: expected a folder to write to, got a file: name another --outdir")
    if not any(outdir.iterdir()):
        return
    if not overwrite:
        raise ClassifierError(f"{outdir} already holds files: name another --outdir, or give --overwrite")
    try:
        content = json.loads((outdir / LISTING).read_text(encoding="utf-8"))
        names = [*content["sheets"], *(item["picture"] for item in content["images"])]
    except (OSError, ValueError, KeyError, TypeError):
        return  # nothing of ours is known to be there; files of the same names are replaced
    for name in names:
        if Path(name).name == name and name.endswith(".png"):
            (outdir / name).unlink(missing_ok=True)
