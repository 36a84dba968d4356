"""Lists of numbers as flags give them."""

from extract.errors import SettingsError


def parse_angles(text: str, flag: str = "--angles") -> tuple[float, ...]:
    """Angles in degrees from `start:stop:step` (the stop belongs to it) or a list with commas.

    Raises:
        SettingsError: if the text is neither.
    """
    if ":" not in text:
        return parse_numbers(text, flag)
    try:
        start, stop, step = (float(part) for part in text.split(":"))
        num = int((stop - start) / step + 1e-9) + 1
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise SettingsError(
            f"{flag} must be start:stop:step such as -21:21:5 or a list, got {text!r}"
        ) from error
    if num < 1 or num > 1000:
        raise SettingsError(
            f"{flag} must give at least one angle on the way from start to stop, got {text!r}"
        )
    return tuple(start + step * number for number in range(num))


def parse_numbers(text: str, flag: str) -> tuple[float, ...]:
    """Numbers from a list with commas.

    Raises:
        SettingsError: if one is none.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise SettingsError(f"{flag} must be numbers with commas between them, got {text!r}") from error
