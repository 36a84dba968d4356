"""Where a slice's pixels are in the patient: twelve numbers, as text in the manifest."""

from dataclasses import dataclass

import numpy as np

from extract.errors import ExtractError

NUM_NUMBERS = 12


@dataclass(frozen=True)
class SlicePlace:
    """The affine of a slice.

    `matrix` @ (column, row, depth_mm, 1) is the position in mm (RAS) of a pixel's center, counted from the
    picture's upper left pixel; `depth_mm` is the distance along the slice's normal, 0 in the slice.
    """

    matrix: np.ndarray  # (3, 4): a column's step, a row's step, the unit normal, the first pixel

    @staticmethod
    def of_plane(
        center_mm: np.ndarray, axes: tuple[np.ndarray, np.ndarray, np.ndarray], pixel_mm: float, size: int
    ) -> "SlicePlace":
        """The place of a square picture.

        Args:
            center_mm: (3,) the picture's center, RAS.
            axes: normal, image-right and image-down as unit vectors, RAS.
            pixel_mm: side of a pixel.
            size: pixels a side.
        """
        normal, right, down = axes
        corner = center_mm - (size - 1) / 2 * pixel_mm * (right + down)
        return SlicePlace(np.stack([right * pixel_mm, down * pixel_mm, normal, corner], axis=1))

    def to_text(self) -> str:
        """Twelve numbers row by row, to a thousandth of a mm over any picture."""
        return " ".join(f"{value + 0.0:.7g}" for value in self.matrix.ravel().round(7))

    @staticmethod
    def from_text(text: str, where: str) -> "SlicePlace":
        """Read what `to_text` wrote.

        Raises:
            ExtractError: if it is anything else; `where` names the file and the row.
        """
        try:
            numbers = np.array([float(part) for part in text.split()])
        except ValueError:
            numbers = np.empty(0)
        if numbers.size != NUM_NUMBERS or not np.isfinite(numbers).all():
            raise ExtractError(
                f"{where}: expected {NUM_NUMBERS} numbers as the slice's affine, got {text!r:.80}"
            )
        place = SlicePlace(numbers.reshape(3, 4))
        if abs(np.linalg.det(place.matrix[:, :3])) < 1e-12:
            raise ExtractError(f"{where}: expected a slice's affine that can be inverted, got {text!r}")
        return place

    def resized(self, factor_across: float, factor_down: float) -> "SlicePlace":
        """The place of the same picture with so many times the pixels along each side."""
        across, down, normal, corner = self.matrix.T
        shift = across * (1 / factor_across - 1) / 2 + down * (1 / factor_down - 1) / 2
        return SlicePlace(
            np.stack([across / factor_across, down / factor_down, normal, corner + shift], axis=1)
        )

    def inverse(self) -> np.ndarray:
        """(3, 4) from a position in mm (RAS) to column, row and depth in mm."""
        back = np.linalg.inv(self.matrix[:, :3])
        return np.concatenate([back, -back @ self.matrix[:, 3:]], axis=1)
