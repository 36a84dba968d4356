"""What a training run tells: `log.txt`, the status line, and the statistics of `stats.jsonl`."""

import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from extract.json_values import json_value

Echo = Callable[[str], None]


class RunLog:
    """Appends lines to `log.txt`, flushed one by one, and shows them where `echo` is given.

    Without a path it is silent: the log of a process that leaves writing to the first.
    """

    def __init__(self, path: Path | None, echo: Echo | None = None) -> None:
        self.path, self.echo = path, echo
        if path is not None and path.is_file() and path.read_bytes()[-1:] not in (b"", b"\n"):
            self()  # ends the line that a killed process could not finish

    def __call__(self, text: str = "") -> None:
        if self.path is None:
            return
        with open(self.path, "a", encoding="utf-8") as handle:
            handle.write(text + "\n")
        if self.echo is not None:
            self.echo(text)


class Statistics:
    """Collects values between two ticks; each name gives count, mean and population deviation.

    A name without new values keeps its last mean and says `num` 0.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}  # name -> (3,) float64: count, sum, sum of squares
        self._last: dict[str, dict[str, float | None]] = {}

    def report(self, name: str, values: Tensor | float) -> None:
        """Add values; they are summed on their own device, so that nothing waits for a GPU."""
        numbers = torch.as_tensor(values, dtype=torch.float32).detach().flatten()
        count = numbers.new_tensor(numbers.numel())
        sums = torch.stack([count, numbers.sum(), numbers.square().sum()])
        sums = sums if sums.device.type == "mps" else sums.double()
        self._sums[name] = self._sums[name] + sums if name in self._sums else sums

    def end_tick(self) -> dict[str, dict[str, float | None]]:
        """The statistics of the tick by name, in order of their first report; starts the next tick."""
        for name, sums in self._sums.items():
            num, total, squares = sums.tolist()
            if num == 0:
                mean = self._last.get(name, {}).get("mean")
                self._last[name] = {"num": 0, "mean": mean, "std": None}
                continue
            mean = total / num
            variance = 0.0 if num == 1 else max(squares / num - mean**2, 0.0)  # one value is rounded, no more
            std = math.sqrt(variance) if math.isfinite(squares) else math.nan
            self._last[name] = {"num": int(num), "mean": _finite(mean), "std": _finite(std)}
        self._sums = {name: torch.zeros_like(sums) for name, sums in self._sums.items()}
        return dict(self._last)

    def take(self) -> dict[str, list[float]]:
        """Hand over what was collected since the last tick, for another process to `add`; keeps nothing."""
        taken = {name: sums.tolist() for name, sums in self._sums.items()}
        self._sums = {name: torch.zeros_like(sums) for name, sums in self._sums.items()}
        return taken

    def add(self, taken: Mapping[str, Sequence[float | None]]) -> None:
        """Count what another process took as if it had been reported here; None is no number."""
        for name, values in taken.items():
            sums = torch.tensor([math.nan if v is None else v for v in values], dtype=torch.float64)
            if name in self._sums:
                self._sums[name] = self._sums[name] + sums.to(self._sums[name])
            else:
                self._sums[name] = sums

    def state(self) -> dict[str, Any]:
        sums = {name: [_finite(value) for value in sums.tolist()] for name, sums in self._sums.items()}
        return {"sums": sums, "last": self._last}

    def restore(self, state: Mapping[str, Any], device: torch.device) -> None:
        self._sums = {
            name: torch.tensor(
                [math.nan if v is None else v for v in sums], dtype=torch.float64, device=device
            )
            for name, sums in state["sums"].items()
        }
        self._last = dict(state["last"])


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def to_json_line(values: Mapping[str, Any]) -> str:
    """One line of valid JSON: what is not a number is null."""
    return json.dumps(json_value(values), allow_nan=False) + "\n"


def format_time(seconds: float) -> str:
    """`17s`, `12m 31s`, `1h 02m 03s`, `4d 06h 10m`."""
    total = round(seconds)
    if total < 60:
        return f"{total}s"
    if total < 60 * 60:
        return f"{total // 60}m {total % 60:02d}s"
    if total < 24 * 60 * 60:
        return f"{total // 3600}h {total // 60 % 60:02d}m {total % 60:02d}s"
    return f"{total // 86400}d {total // 3600 % 24:02d}h {total // 60 % 60:02d}m"


def status_line(
    *,
    tick: int,
    kimg: float,
    elapsed_sec: float,
    tick_sec: float,
    sec_per_kimg: float,
    maintenance_sec: float,
    cpu_mem_gb: float,
    gpu_mem_gb: float,
    augment_p: float,
    left_sec: float | None,
) -> str:
    """The official status line, and the time left behind it."""
    fields = [
        f"tick {tick:<5d}",
        f"kimg {kimg:<8.1f}",
        f"time {format_time(elapsed_sec):<12s}",
        f"sec/tick {tick_sec:<7.1f}",
        f"sec/kimg {sec_per_kimg:<7.2f}",
        f"maintenance {maintenance_sec:<6.1f}",
        f"cpumem {cpu_mem_gb:<6.2f}",
        f"gpumem {gpu_mem_gb:<6.2f}",
        f"augment {augment_p:.3f}",
    ]
    if left_sec is not None:
        fields.append(f"left {format_time(left_sec)}")
    return " ".join(fields)


def resident_memory_gb() -> float:
    """Memory of this process in GiB: resident now on Linux, the peak elsewhere."""
    if sys.platform.startswith("linux"):
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**30
    try:
        import resource
    except ImportError:  # Windows
        return math.nan
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
