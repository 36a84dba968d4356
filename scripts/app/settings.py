"""What the page was started with: the command checks it and sets it, pages read it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from classifier.errors import ClassifierError
from extract.errors import SettingsError

LANGUAGES = {"en": "English", "es": "Español"}
LOCAL = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class AppSettings:
    """What `synthlabel app` was told."""

    model: Path | None = None  # folder of a classifier run, or an exported .onnx file
    study: Path | None = None  # folder of a study
    archive: Path | None = None  # that the model was trained on, or that is to be reviewed
    split: Path | None = None  # of that archive: what is for training, and what is locked
    fold: int = 0  # outer fold of the split
    network: Path | None = None  # generator snapshot, or the folder of a GAN run
    audit: Path | None = None  # folder of an `audit export` of that study
    language: str = "en"  # to begin with
    is_local: bool = True  # whether this machine alone can open the page


_current = AppSettings()


def current_settings() -> AppSettings:
    """What the server of this process was started with."""
    return _current


def use_settings(settings: AppSettings) -> None:
    """Set them, before the server starts."""
    global _current
    _current = settings


def check_settings(settings: AppSettings) -> None:
    """Look at everything that was named, before a server is started for it.

    Raises:
        ClassifierError, ExtractError, StudyError, GanError: if a model, archive, split, study or network
            cannot be used.
        SettingsError: for an unknown language, a split without an archive, or a fold that it does not have.
    """
    if settings.language not in LANGUAGES:
        raise SettingsError(f"--lang must be one of {', '.join(LANGUAGES)}, got {settings.language!r}")
    if settings.model is not None:
        from classifier.card import model_card

        try:
            model_card(settings.model)
        except (KeyError, TypeError, ValueError) as error:
            raise ClassifierError(
                f"{settings.model}: expected a classifier run, got an entry that is missing or malformed "
                f"({error}); restore the files or train again"
            ) from error
    if settings.archive is not None:
        from extract.archive import open_archive

        with open_archive(settings.archive) as archive:
            if settings.split is not None or settings.fold:
                from extract.review_scope import find_split
                from extract.split import read_split

                split = read_split(settings.split or find_split(settings.archive), archive)
                split.subjects(settings.fold, "train")  # raises where there is no such fold
    elif settings.split is not None:
        raise SettingsError(
            f"--split {settings.split}: expected the archive that it splits, got none; name it with --archive"
        )
    if settings.network is not None:
        from gan.snapshot import read_snapshot

        read_snapshot(settings.network)
    if settings.study is not None:
        from semisup.status import study_status

        study_status(settings.study)
    if settings.audit is not None:
        if settings.study is None:
            raise SettingsError(
                f"--audit {settings.audit}: expected its study with it, got none; add --study DIR"
            )
        from semisup.audit_reading import open_export

        open_export(settings.study, settings.audit)
