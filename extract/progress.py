"""How long functions report where they are, without knowing who watches."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]  # (done, total, message)


def no_progress(done: int, total: int, message: str) -> None:
    """Report to nobody."""
