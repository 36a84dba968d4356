"""Where a job was computed and how long it took, for the compute ledger of the report."""

import time
from typing import Any


class Stopwatch:
    """Counts wall and processor seconds from the moment that it is made."""

    def __init__(self) -> None:
        self._wall, self._process = time.monotonic(), time.process_time()

    def read(self) -> dict[str, float]:
        """Seconds so far: on the clock, and of all cores of this process together."""
        return {
            "seconds": round(time.monotonic() - self._wall, 3),
            "process_seconds": round(time.process_time() - self._process, 3),
        }


def describe_machine(setting: str) -> dict[str, Any]:
    """Device and versions of what could move a number, for the record of one job."""
    from classifier.models import device_name  # torch: where work is done, not where it is planned
    from semisup.versions import versions

    return {"device": device_name(setting), "versions": versions()}
