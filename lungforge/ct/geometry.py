"""The voxel grid of a volume, and its mapping to world coordinates.

Index points are (x = column, y = row, z = slice) with voxel centres at integers; world points are in
millimetres in the DICOM patient system LPS (x to the patient's left, y to the back, z to the head).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lungforge.errors import ContentError

Triple = tuple[float, float, float]

Rows = tuple[Triple, Triple, Triple]

IDENTITY: Rows = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
"""Direction of a volume whose axes are aligned with the world axes."""

PLAUSIBLE_SPACING_MM = (0.05, 20.0)
"""The distance of voxels in a CT: of micro-CT the least, of thick and apart slices the most."""

MOST_VOXELS_A_SIDE, MOST_VOXELS = 4096, 2**30
"""A scan of 2048 slices of 512 x 512 has half as many voxels; they take 2 GiB as int16."""


class VolumeError(ContentError):
    """A volume cannot be used: its bytes prove it. The message is one line that names it and the reason."""


@dataclass(frozen=True)
class Geometry:
    """The voxel grid of a volume: world = origin + direction · (spacing x index).

    Raises:
        VolumeError: A size or a spacing is not positive, a value is not finite, or the direction has no
            inverse.
    """

    size: tuple[int, int, int]
    """Number of voxels along x, y and z."""
    spacing_mm: Triple
    """Distance between voxel centres along x, y and z."""
    origin_mm: Triple = (0.0, 0.0, 0.0)
    """World point of the voxel (0, 0, 0)."""
    direction: Rows = IDENTITY
    """Rows of the matrix whose columns are the world directions of the x, y and z axes."""

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise VolumeError(
                f"the size is {_joined(self.size)} voxels; it must be at least 1 along each axis"
            )
        if not all(math.isfinite(spacing) and spacing > 0 for spacing in self.spacing_mm):
            raise VolumeError(
                f"the spacing is {_joined(self.spacing_mm)} mm; it must be positive along each axis"
            )
        if not all(math.isfinite(value) for value in self.origin_mm):
            raise VolumeError(f"the origin is {_joined(self.origin_mm)} mm; it must be finite")
        matrix = np.asarray(self.direction)
        if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-6:
            raise VolumeError(f"the direction matrix ({_joined(matrix.ravel())}) has no inverse")

    @cached_property
    def _index_to_world(self) -> NDArray[np.float64]:
        return np.asarray(self.direction) * np.asarray(self.spacing_mm)

    @cached_property
    def _world_to_index(self) -> NDArray[np.float64]:
        return np.linalg.inv(self._index_to_world).astype(np.float64)

    def world_to_index(self, points_mm: ArrayLike) -> NDArray[np.float64]:
        """Map world points to index points.

        Equal to SimpleITK's ``TransformPhysicalPointToContinuousIndex``, vectorised.

        Args:
            points_mm: World points, shape [..., 3], in mm.

        Returns:
            Index points (x, y, z), shape [..., 3], in voxels; they may lie outside the volume.
        """
        return (np.asarray(points_mm, np.float64) - self.origin_mm) @ self._world_to_index.T

    def index_to_world(self, points: ArrayLike) -> NDArray[np.float64]:
        """Map index points to world points.

        Args:
            points: Index points (x, y, z), shape [..., 3], in voxels.

        Returns:
            World points, shape [..., 3], in mm.
        """
        return np.asarray(points, np.float64) @ self._index_to_world.T + self.origin_mm

    def contains(self, points: ArrayLike) -> NDArray[np.bool_]:
        """Whether index points lie in the volume, which extends half a voxel beyond the outermost centres.

        Args:
            points: Index points (x, y, z), shape [..., 3].

        Returns:
            Shape [...].
        """
        points = np.asarray(points, np.float64)
        return np.all((points >= -0.5) & (points <= np.asarray(self.size) - 0.5), axis=-1)


def check_plausible(geometry: Geometry) -> None:
    """Refuse a grid that no CT has: its header is wrong, or made to exhaust the memory.

    Raises:
        VolumeError: The spacing or the number of voxels is not plausible.
    """
    low, high = PLAUSIBLE_SPACING_MM
    if not all(low <= spacing <= high for spacing in geometry.spacing_mm):
        raise VolumeError(
            f"the spacing is {_joined(geometry.spacing_mm)} mm; that of a CT is {low} to {high} mm"
        )
    if max(geometry.size) > MOST_VOXELS_A_SIDE or math.prod(geometry.size) > MOST_VOXELS:
        raise VolumeError(
            f"the size is {_joined(geometry.size)} voxels; at most {MOST_VOXELS_A_SIDE} along an axis and "
            f"{MOST_VOXELS} in all are read"
        )


def check_slices(indices: Sequence[int], geometry: Geometry) -> None:
    """Refuse slice indices that a volume lacks.

    Raises:
        VolumeError: An index is not in 0..Z-1.
    """
    depth = geometry.size[2]
    for index in indices:
        if not 0 <= index < depth:
            raise VolumeError(f"there is no slice {index}; the slices are 0 to {depth - 1}")


def as_triple(values: ArrayLike) -> Triple:
    """A vector of three as Python floats."""
    x, y, z = np.asarray(values, np.float64).tolist()
    return x, y, z


def as_rows(matrix: ArrayLike) -> Rows:
    """A 3 x 3 matrix as Python floats, row by row."""
    first, second, third = np.asarray(matrix, np.float64)
    return as_triple(first), as_triple(second), as_triple(third)


def to_int16(values: NDArray[np.generic]) -> NDArray[np.int16]:
    """Convert stored values to int16, rounding fractions.

    Raises:
        VolumeError: A value is not finite or outside the range of int16.
    """
    if (values.dtype.kind in "iu" and values.dtype.itemsize < 2) or values.dtype == np.int16:
        return values.astype(np.int16)
    lowest, highest = values.min(), values.max()
    if not (lowest >= -32768 and highest <= 32767):  # false for NaN too
        raise VolumeError(f"its values run from {lowest:g} to {highest:g}; Hounsfield units fit into int16")
    return np.rint(values).astype(np.int16) if values.dtype.kind == "f" else values.astype(np.int16)


def _joined(values: ArrayLike) -> str:
    return " ".join(f"{value:g}" for value in np.asarray(values).tolist())
