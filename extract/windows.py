"""Which brightness becomes black and which white: by percentile, by values, or by a named CT window."""

import math
from dataclasses import dataclass

import numpy as np

from extract.errors import ExtractError, SettingsError

# Center and width in Hounsfield units, as radiology's textbooks and viewers list them.
CT_WINDOWS = {
    "brain": (40.0, 80.0),
    "subdural": (75.0, 215.0),
    "stroke": (32.0, 8.0),
    "soft": (50.0, 400.0),
    "abdomen": (60.0, 400.0),
    "liver": (30.0, 150.0),
    "mediastinum": (50.0, 350.0),
    "lung": (-600.0, 1500.0),
    "bone": (400.0, 1800.0),
    "temporal-bone": (600.0, 2800.0),
    "angio": (300.0, 600.0),
}
DEFAULT_WINDOW = "percentile:1,99.5"
KINDS = "percentile:LOW,HIGH, values:LOW,HIGH or ct:NAME"


@dataclass(frozen=True)
class Window:
    """How a volume's brightness is shown; the same text always means the same."""

    kind: str  # percentile, values
    low: float  # percent of the non-zero voxels, or a value
    high: float
    hounsfield: bool = False  # values are Hounsfield units, so that air and tissue are known

    def limits(self, nonzero: np.ndarray, black: float, name: str) -> tuple[float, float]:
        """The values that become black and white.

        Args:
            nonzero: (N,) a sample of the volume's voxels that are not 0.
            black: the volume's lowest value.
            name: of the volume, for the error.

        Raises:
            ExtractError: if all would be one gray.
        """
        if self.kind == "values":
            return self.low, self.high
        low, high = (float(value) for value in np.percentile(nonzero, (self.low, self.high)))
        low = low if low < high else black  # a mask has one value beside its background
        if not low < high:
            raise ExtractError(f"{name}: expected an image with contrast, got {low:g} nearly everywhere")
        return low, high


def parse_window(text: str) -> Window:
    """Read `percentile:1,99.5`, `values:-100,400` or `ct:brain`.

    Raises:
        SettingsError: if it is none of these.
    """
    kind, _, rest = text.strip().partition(":")
    if kind == "ct":
        if rest not in CT_WINDOWS:
            raise SettingsError(f"--window ct: must name one of {', '.join(CT_WINDOWS)}, got {rest!r}")
        center, width = CT_WINDOWS[rest]
        return Window("values", center - width / 2, center + width / 2, hounsfield=True)
    try:
        low, high = (float(part) for part in rest.split(","))
    except ValueError as error:
        raise SettingsError(f"--window must be {KINDS}, got {text!r}") from error
    if kind not in ("percentile", "values"):
        raise SettingsError(f"--window must be {KINDS}, got {text!r}")
    if not (low < high and math.isfinite(low) and math.isfinite(high)):
        raise SettingsError(f"--window must go from a lower to a higher number, got {text!r}")
    if kind == "percentile" and not (low >= 0 and high <= 100):
        raise SettingsError(f"--window percentile: must be between 0 and 100 percent, got {text!r}")
    return Window(kind, low, high)
