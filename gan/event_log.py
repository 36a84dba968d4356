"""What TensorBoard shows of a training: scalars, grids, warnings. Works without TensorBoard, and says so."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gan.log import Echo


class EventLog:
    """Writes `events.out.tfevents.*` into a run folder; the steps are kimg, the times seconds of training.

    Args:
        run_dir: None = writes nothing, as a process does that leaves writing to the first.
        log: told where events are skipped, and why.
        resumed_at_kimg: of a training that goes on: what was written beyond it is discarded by TensorBoard,
            since it will be trained, and written, again; None = a new training.
    """

    def __init__(self, run_dir: Path | None, log: Echo, resumed_at_kimg: float | None = None) -> None:
        self._writer: Any = None
        if run_dir is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            log(f"Skipping tfevents export: {error}; install the extra 'tensorboard' to have it")
            return
        purge_step = None if resumed_at_kimg is None else int(resumed_at_kimg) + 1
        self._writer = SummaryWriter(str(run_dir), purge_step=purge_step)

    def add_means(self, statistics: Mapping[str, Any], kimg: float, elapsed_sec: float) -> None:
        """Every mean of a line of `stats.jsonl` under its own name."""
        for name, value in statistics.items():
            if isinstance(value, Mapping) and value.get("mean") is not None:
                self.add_scalar(name, value["mean"], kimg, elapsed_sec)

    def add_scalar(self, name: str, value: float, kimg: float, elapsed_sec: float) -> None:
        if self._writer is not None:
            self._writer.add_scalar(name, value, global_step=int(kimg), walltime=elapsed_sec)

    def add_picture(self, name: str, picture: np.ndarray, kimg: float, elapsed_sec: float) -> None:
        """A grid (H, W) or (H, W, 3) of uint8."""
        if self._writer is not None:
            layout = "HW" if picture.ndim == 2 else "HWC"
            self._writer.add_image(name, picture, int(kimg), elapsed_sec, dataformats=layout)

    def add_text(self, name: str, text: str, kimg: float, elapsed_sec: float) -> None:
        if self._writer is not None:
            self._writer.add_text(name, text, int(kimg), elapsed_sec)

    def flush(self) -> None:
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
