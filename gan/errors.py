"""The one error of this package, and how a stopped training says so."""

from pathlib import Path

from extract.errors import SynthlabelError


class GanError(SynthlabelError):
    """A snapshot, training state or run folder that cannot be used as it is, or a training that failed."""


class LostProcess(GanError):
    """Another process of the same training is gone: killed, or out of reach."""


class PeerFailed(GanError):
    """Another process of the same training failed and has told why; this one ends without a word."""


class TrainingInterrupted(KeyboardInterrupt):
    """Training was stopped by a signal after its state was written.

    A `KeyboardInterrupt`, so that no caller mistakes it for a failed training and goes on with the next one.
    """

    def __init__(self, signal_name: str, signal_number: int, run_dir: Path, kimg: float) -> None:
        self.signal_number = signal_number
        self.run_dir = run_dir
        self.kimg = kimg
        super().__init__(
            f"stopped by {signal_name} at {kimg:.1f} kimg; the state is saved, and this goes on with it to "
            f"the same result: synthlabel gan train --resume {run_dir}"
        )
