"""Work in the background that ends with the page.

A thread that Python ends amidst OpenCV or PyTorch takes the whole process down with it. So at the end each is
waited for, and long work asks now and then whether it should stop.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")
MAX_CLOSING_SEC = 10.0  # waited for a thread
_is_closing = threading.Event()
_threads: list[threading.Thread] = []


def in_thread(work: Callable[[], None]) -> None:
    """Do some work in a thread of its own."""
    thread = threading.Thread(target=work, daemon=True)
    _threads[:] = [other for other in _threads if other.is_alive()]
    _threads.append(thread)
    thread.start()


def in_background(work: Callable[[], Result]) -> Future[Result]:
    """The result of some work on its way."""
    future: Future[Result] = Future()
    run_in(future, work)
    return future


def run_in(future: Future[Result], work: Callable[[], Result]) -> None:
    """Do some work in a thread of its own; its result or error goes to the future."""

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # whoever asks for the result gets it
            future.set_exception(error)

    in_thread(run)


def stop_if_closing() -> None:
    """Raise InterruptedError where the page is being closed."""
    if _is_closing.is_set():
        raise InterruptedError("the page is being closed")


@atexit.register
def _end_threads() -> None:
    _is_closing.set()
    for thread in list(_threads):
        thread.join(MAX_CLOSING_SEC)
