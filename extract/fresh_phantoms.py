"""New subjects from the very process that an archive of phantoms was made by, without a file between."""

from collections.abc import Iterator

from extract.phantom import numbered_phantom, stored_phantom
from extract.phantom_origin import PhantomOrigin
from extract.volume import load_volume
from extract.volume_survey import survey_volume
from extract.volumes import EncodedSlice, encode_slices


def fresh_slices(origin: PhantomOrigin, seed: int, name: str) -> Iterator[tuple[EncodedSlice, ...]]:
    """The slices of one new subject after the other, without end; a seed of the archive gives its own images.

    Args:
        seed: as that of `extract phantom`.
        name: of the subjects, before their number.
    """
    fov_mm, windows = origin.slicing.fov_mm, origin.slicing.parsed_windows()
    assert fov_mm is not None  # an archive says what it was sliced with
    number = 0
    while True:
        subject = f"{name}{number:04d}"
        phantom = numbered_phantom(seed, number, origin.phantom)
        volume = load_volume(stored_phantom(f"{subject}.nrrd", phantom))
        survey = survey_volume(volume, windows)
        yield encode_slices(volume, survey, origin.slicing, fov_mm, subject=subject, source=f"{subject}.nrrd")
        number += 1
