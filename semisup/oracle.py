"""The pool of the `oracle` arm: fresh true samples of the process behind an archive of phantoms.

It stands in place of a generator's images, as many of them, and gives the ceiling of what a perfect generator
could do. Its subjects are new: no image of the archive is among them.
"""

from collections.abc import Iterator

import numpy as np

from classifier.data import ImageTable
from extract.archive import Archive, ArchiveWriter, open_archive
from extract.cache import open_images
from extract.fresh_phantoms import fresh_slices
from extract.phantom_origin import read_phantom_origin
from extract.progress import Progress, no_progress
from extract.seeds import derive_seed
from extract.volumes import EncodedSlice
from semisup.errors import StudyError
from semisup.folders import read_json, write_json
from semisup.ledger import PoolIdentity
from semisup.plan import Basis, PoolJob, open_data
from semisup.pool import POOL_ARCHIVE, POOL_JSON, Pool

SUBJECT = "oracle"  # and a number: no phantom of an archive is called so


def perform_oracle(job: PoolJob, basis: Basis, progress: Progress = no_progress) -> None:
    """Draw new subjects and slice them as the archive was, into `pools/<key>/synthetic.zip`.

    All slices of a subject are taken, of the last one as many as are wanted, drawn at random.
    """
    folder = basis.study_dir / job.folder / job.key
    dest, wanted = folder / POOL_ARCHIVE, basis.config.pool.num_images
    with open_data(basis) as (archive, _):
        origin = read_phantom_origin(archive.preparation, f"{archive.path}")
        classes, preparation = archive.classes, archive.preparation
    if job.first_seed in origin.seeds:
        raise StudyError(
            f"{basis.config.data}: expected a seed that made none of its phantoms, got {job.first_seed}"
        )
    num_done = 0
    with ArchiveWriter(dest, overwrite=True, classes=classes, preparation=preparation) as writer:
        writer.describe(phantom={**preparation["phantom"], "seeds": [job.first_seed]}, left_out=[])
        for slices in fresh_slices(origin, job.first_seed, SUBJECT):
            for one in _some(slices, wanted - num_done, job.first_seed):
                writer.add_png(one.png, origin.slicing.pixel_shape, one.record)
                num_done += 1
            progress(num_done, wanted, "fresh phantoms")
            if num_done == wanted:
                break
    with open_archive(dest) as made:
        open_images(made, progress)  # decoded once here, not in every run
        archive_sha256 = made.sha256
    write_json(
        folder / POOL_JSON,
        {
            "key": job.key,
            "fold": job.fold,
            "oracle": True,
            "archive_sha256": archive_sha256,
            "num_images": wanted,
            "first_seed": job.first_seed,
        },
    )


def _some(slices: tuple[EncodedSlice, ...], num_left: int, seed: int) -> Iterator[EncodedSlice]:
    """All of them where they are not too many, else a random choice in their order."""
    chosen = np.arange(len(slices))
    if len(slices) > num_left:
        rng = np.random.default_rng(derive_seed("last subject", seed))
        chosen = np.sort(rng.choice(len(slices), size=num_left, replace=False))
    yield from (slices[index] for index in chosen)


def oracle_pool(basis: Basis, key: str, real: Archive) -> Pool:
    """The pool of `pools/<key>/`; its true labels are there to judge pseudo-labels, and for nothing else.

    Raises:
        StudyError: if it is not the archive that was made, or shows anybody of the study.
    """
    folder = basis.study_dir / PoolJob.folder / key
    made = read_json(folder / POOL_JSON)
    with open_archive(folder / POOL_ARCHIVE) as archive:
        known = set(real.manifest["sha256"]) & set(archive.manifest["sha256"])
        shared = set(real.subjects.tolist()) & set(archive.subjects.tolist())
        if archive.sha256 != made["archive_sha256"] or archive.classes != real.classes or known or shared:
            raise StudyError(
                f"{archive.path}: expected the fresh phantoms that were made for this study "
                f"({made['archive_sha256'][:12]}...), got {archive.sha256[:12]}... with {len(shared)} "
                f"subjects and {len(known)} pictures of the study's own; remove {folder} to make them anew"
            )
        rows = np.arange(len(archive))
        return Pool(
            ImageTable(open_images(archive), rows),
            archive.subjects[rows],
            np.full(len(archive), "real"),
            PoolIdentity.of_rows(archive.manifest, rows, archive.sha256),
            np.asarray(archive.labels, dtype=np.int64),
        )
