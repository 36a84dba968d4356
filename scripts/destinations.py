"""What commands ask of the files that they shall write."""

from pathlib import Path

from extract.errors import ExtractError, SettingsError


def check_suffix(dest: Path, suffix: str, flag: str = "--dest") -> None:
    """Raise SettingsError unless the name says what will be written: a mix-up could cost an archive."""
    if dest.suffix.lower() != suffix:
        raise SettingsError(f"{flag} must end in {suffix}, got {dest}")


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raise ExtractError where a file stands that may not be replaced."""
    if path.exists() and not overwrite:
        raise ExtractError(
            f"{path}: already exists and is left alone; choose another name or pass --overwrite"
        )
