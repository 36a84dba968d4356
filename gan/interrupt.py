"""SIGINT and SIGTERM as a wish to stop that the training loop looks up when it can."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """The signal that asked to stop, if one came."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.came_at = 0.0


@contextmanager
def listen_for_stop(same_wish_sec: float = 0.0) -> Iterator[StopRequest]:
    """Note the first SIGINT or SIGTERM instead of dying of it; a second one of either kind acts as usual.

    Outside the main thread no signal can be caught, and none is.

    Args:
        same_wish_sec: signals within so many seconds of the first count as one. A terminal sends Ctrl-C to
            `torchrun` and to its processes, and `torchrun` then sends them another.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        if request.signal is None:
            request.signal, request.came_at = signal.Signals(number), time.monotonic()
        if same_wish_sec == 0:
            restore()
        elif time.monotonic() - request.came_at > same_wish_sec:
            restore()
            signal.raise_signal(number)

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    for number in previous:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
