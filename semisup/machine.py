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


def device_name(setting: str) -> str:
    """What `auto`, `cpu` or `cuda` stands for on this machine: "cpu", or a GPU by its name."""
    import torch

    from classifier.models import choose_device

    device = choose_device(setting)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def describe_machine(setting: str) -> dict[str, Any]:
    """Device and versions of what could move a number, for the record of one job."""
    from semisup.versions import versions

    return {"device": device_name(setting), "versions": versions()}
