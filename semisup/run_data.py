"""What a run works on: labeled images of its fold, the validation part, the pool, the sealed test part."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial, reduce
from typing import Any

import numpy as np

from classifier.data import LabeledImages, real_part, rows_with_labels
from classifier.encoder_file import check_weights_for_fold
from classifier.preparation import kept_settings
from extract.archive import Archive
from extract.cache import open_images
from extract.split import Split
from semisup.arms import ARMS
from semisup.by_image import split_by_image
from semisup.calibrating import draw_held_out
from semisup.controls import POOL_CONTROLS
from semisup.errors import StudyError
from semisup.gating import GateBasis
from semisup.oracle import oracle_pool
from semisup.plan import Basis, RunJob, generator_data, open_data
from semisup.pool import COPY_GATES, Pool, copies_of_pool, real_pool, seen_images, synthetic_pool


class SealedTest:
    """The test part of a run: closed until the best round is chosen, and opened once."""

    def __init__(self, load: Callable[[], LabeledImages]) -> None:
        self._load = load
        self.openings = 0

    def open(self, *, deliberate_leak: bool = False) -> LabeledImages:
        """Its images; the run that asks a second time would choose by them.

        Args:
            deliberate_leak: open it as often as asked for: for `leak_test_selection`, which chooses so.

        Raises:
            StudyError: at a second opening.
        """
        if self.openings and not deliberate_leak:
            raise StudyError("the test part was opened already in this run; a second look could choose by it")
        self.openings += 1
        return self._load()


@dataclass(frozen=True)
class RunData:
    """What a run works on; the rows of the archive that carry no label here are in `pool` alone."""

    classes: tuple[str, ...]
    labeled: LabeledImages
    val: LabeledImages
    calibration: LabeledImages | None  # validation subjects held out for the temperature alone
    test: SealedTest
    test_files: np.ndarray  # (T,) str
    pool: Pool | None
    gate_basis: GateBasis | None  # what gates compare the pool's synthetic images with; None = no gate
    preparation: Mapping[str, Any]  # settings that made the archive's images
    honest_labeled: LabeledImages | None = None  # of `leak_slices`: the same, without the tested subjects


@contextmanager
def opened_run_data(job: RunJob, basis: Basis) -> Iterator[RunData]:
    """Open a run's archives, checked against the plan and against each other.

    Raises:
        StudyError: if the data are not those of the plan.
        GanError: if the pool's generator saw a validation or test subject.
        ClassifierError: if the encoder that the classifiers start from saw one.
    """
    with open_data(basis) as (archive, split):
        check_weights_for_fold(basis.config.classifier_config(job.seed).weights, archive, split, job.fold)
        images = open_images(archive)
        part = partial(real_part, archive, images, split, job.fold)
        val, calibration = _divide(part("val", job.fraction), basis.config.pseudo.calibration_share, job)
        rows = split.rows(archive, job.fold, "test")
        data = RunData(
            archive.classes,
            part("train", job.fraction),
            val,
            calibration,
            SealedTest(partial(part, "test")),
            archive.manifest["file"].to_numpy(str)[rows],
            _open_pool(job, basis, archive, images, split),
            _open_gate_basis(job, basis, archive, images, split),
            kept_settings(archive.preparation),
        )
        if ARMS[job.arm].method == "by image":
            data = _by_image(data, job, archive, images, split)
        yield data


def _by_image(data: RunData, job: RunJob, archive: Archive, images: np.ndarray, split: Split) -> RunData:
    """What a split by image would give: half of the test part is tested, some of the rest trained on."""
    drawn = split_by_image(archive, split, job.fold, job.fraction)
    return replace(
        data,
        labeled=rows_with_labels(archive, images, drawn.leaky),
        test=SealedTest(partial(rows_with_labels, archive, images, drawn.tested)),
        test_files=archive.manifest["file"].to_numpy(str)[drawn.tested],
        honest_labeled=rows_with_labels(archive, images, drawn.honest),
    )


def _divide(val: LabeledImages, share: float, job: RunJob) -> tuple[LabeledImages, LabeledImages | None]:
    """The validation images to choose by, and those held out for calibration; the same for all arms."""
    if not share:
        return val, None
    is_held_out = draw_held_out(val.subjects, val.labels, share, job.classifier_seed)
    return val.subset(~is_held_out), val.subset(is_held_out)


def _open_pool(job: RunJob, basis: Basis, archive: Archive, images: np.ndarray, split: Split) -> Pool | None:
    arm = ARMS[job.arm]
    if job.arm in POOL_CONTROLS or arm.is_leak:
        arm = ARMS[basis.config.pool_arm(job.arm)]
    pools = []
    if arm.pool == "oracle":
        assert job.pool_key is not None
        pools.append(oracle_pool(basis, job.pool_key, archive))
    if arm.pool in ("real", "both"):
        pools.append(real_pool(archive, images, split, job.fold, job.fraction))
    if arm.draws_images:
        assert job.pool_key is not None
        seen, conditional = generator_data(arm, job.fraction)
        pools.append(
            synthetic_pool(
                basis,
                job.pool_key,
                archive,
                split,
                job.fold,
                fraction=seen,
                conditional=conditional,
                deliberate_leak=arm.generator == "everyone",
            )
        )
    return reduce(Pool.concat, pools) if pools else None


def _open_gate_basis(
    job: RunJob, basis: Basis, archive: Archive, images: np.ndarray, split: Split
) -> GateBasis | None:
    """None where no gate is asked; a control asks none itself, a deliberate fault those of its pool's arm."""
    names = basis.config.pseudo.gates
    arm = ARMS[basis.config.pool_arm(job.arm)] if ARMS[job.arm].is_leak else ARMS[job.arm]
    if not names or not arm.is_gated:
        return None
    assert job.pool_key is not None
    # Of a generator that saw everybody, too, the training part alone is compared with: gates must not hide
    # that fault by turning away copies of test images.
    seen, _ = generator_data(arm, job.fraction)
    copies = None
    if COPY_GATES & set(names):
        copies = copies_of_pool(basis, job.pool_key, archive, images, split, job.fold, seen)
    return GateBasis(seen_images(archive, images, split, job.fold, seen), copies)
