"""Work in the background that ends with the page.

A thread that Python ends amidst OpenCV or PyTorch takes the whole process down with it. So at the end each is
waited for, and long work asks now and then whether it should stop.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable

MAX_CLOSING_SEC = 10.0  # waited for a thread
_is_closing = threading.Event()
_threads: list[threading.Thread] = []


def in_thread(work: Callable[[], None]) -> None:
    """Do some work in a thread of its own."""
    thread = threading.Thread(target=work, daemon=True)
    _threads[:] = [other for other in _threads if other.is_alive()]
    _threads.append(thread)
    thread.start()


def stop_if_closing() -> None:
    """Raise InterruptedError where the page is being closed."""
    if _is_closing.is_set():
        raise InterruptedError("the page is being closed")


@atexit.register
def _end_threads() -> None:
    _is_closing.set()
    for thread in list(_threads):
        thread.join(MAX_CLOSING_SEC)
