"""Vessels and nodules of phantoms: tubes and spheres, rendered into a volume with soft edges."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_THINNEST_MM = 0.55
_MOST_TUBES = 900


@dataclass(frozen=True)
class Tube:
    """A segment of a vessel; points are (u, v, w) in mm."""

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    radius_mm: float


@dataclass(frozen=True)
class Grid:
    """Voxel positions of a volume in mm along each axis, in ascending order."""

    u: NDArray[np.float32]
    v: NDArray[np.float32]
    w: NDArray[np.float32]

    @property
    def pixel_mm(self) -> float:
        """In-plane spacing."""
        return float(self.u[1] - self.u[0])

    @property
    def thickness_mm(self) -> float:
        """Distance between slices."""
        return float(self.w[1] - self.w[0])

    def box(self, low: NDArray[np.float64], high: NDArray[np.float64]) -> tuple[slice, slice, slice]:
        """Slices [z, y, x] of the volume between two corners."""
        axes = zip((self.w, self.v, self.u), low[::-1], high[::-1], strict=True)
        z, y, x = (slice(*np.searchsorted(axis, (first, last))) for axis, first, last in axes)
        return z, y, x


def generate_vessels(
    random: np.random.Generator,
    root: NDArray[np.float64],
    outwards: NDArray[np.float64],
    inside: Callable[[NDArray[np.float64]], bool],
) -> list[Tube]:
    """Generate the vessel tree of one lung: each tube branches in two until it is thin or leaves the lung.

    The radii follow Murray's law: the cube of the parent's is the sum of the cubes of the children's.

    Args:
        random: Source of randomness.
        root: The hilum.
        outwards: Unit vector from the hilum into the lung.
        inside: Whether a point is in the lung.

    Returns:
        The tubes, thick ones first.
    """
    tubes: list[Tube] = []
    growing: deque[tuple[NDArray[np.float64], NDArray[np.float64], float]] = deque()
    for angle in np.linspace(0, 2 * math.pi, 7, endpoint=False):
        fan = np.array([0.0, math.sin(angle), math.cos(angle)])
        growing.append(
            (root, _unit(0.75 * outwards + fan + random.normal(0, 0.15, 3)), random.uniform(2.6, 4.2))
        )
    while growing and len(tubes) < _MOST_TUBES:
        start, heading, radius = growing.popleft()
        end = start + heading * random.uniform(0.75, 1.25) * (6 + 4.2 * radius)
        # The first tubes begin in the hilum, which is not lung.
        if len(tubes) >= 14 and not inside(end):
            continue
        tubes.append(Tube(start, end, radius))
        share = random.uniform(0.35, 0.65)
        other = random.normal(0, 1, 3)
        side = _unit(other - (other @ heading) * heading)
        for part, sign in ((share, 1), (1 - share, -1)):
            child = radius * part ** (1 / 3)
            # The thinner child turns further.
            turn = sign * (1.25 - part) * random.uniform(0.6, 1.1)
            if child >= _THINNEST_MM:
                growing.append((end, _unit(heading + turn * side + random.normal(0, 0.08, 3)), child))
    return tubes


def render_tube(hu: NDArray[np.int16], lung: NDArray[np.bool_], grid: Grid, tube: Tube, value: float) -> None:
    """Render a tube into the lung, in place.

    Args:
        hu: Volume, [Z, H, W].
        lung: Mask that tubes are clipped to, [Z, H, W].
        grid: Voxel positions.
        tube: The tube.
        value: Hounsfield units of the tube.
    """
    reach = tube.radius_mm + grid.pixel_mm
    margin = np.array([reach, reach, reach + grid.thickness_mm / 2])
    box = grid.box(np.minimum(tube.start, tube.end) - margin, np.maximum(tube.start, tube.end) + margin)
    du, dv, dw = _offsets(grid, box, tube.start)
    axis = (tube.end - tube.start).astype(np.float32)
    along = np.clip((du * axis[0] + dv * axis[1] + dw * axis[2]) / max(float(axis @ axis), 1e-6), 0, 1)
    # A slice shows everything within its thickness; otherwise thin vessels would be dotted.
    away = np.maximum(np.abs(dw - along * axis[2]) - grid.thickness_mm / 2, 0)
    distance = np.sqrt((du - along * axis[0]) ** 2 + (dv - along * axis[1]) ** 2 + away**2)
    weight = _coverage(distance, tube.radius_mm, grid) * min(1.0, 2 * tube.radius_mm / grid.pixel_mm)
    region = hu[box]
    blended = region + weight * (value - region)
    np.copyto(region, blended.astype(np.int16), where=lung[box] & (blended > region))


def render_sphere(
    hu: NDArray[np.int16], grid: Grid, centre: NDArray[np.float64], radius_mm: float, value: float
) -> None:
    """Render a sphere, in place."""
    reach = radius_mm + grid.pixel_mm
    box = grid.box(centre - reach, centre + reach)
    du, dv, dw = _offsets(grid, box, centre)
    weight = _coverage(np.sqrt(du**2 + dv**2 + dw**2), radius_mm, grid)
    region = hu[box]
    region[:] = (region + weight * (value - region)).astype(np.int16)


def _offsets(
    grid: Grid, box: tuple[slice, slice, slice], point: NDArray[np.float64]
) -> tuple[NDArray[np.float32], ...]:
    u, v, w = (float(value) for value in point)
    return grid.u[box[2]] - u, grid.v[box[1], None] - v, grid.w[box[0], None, None] - w


def _coverage(distance: NDArray[np.float32], radius_mm: float, grid: Grid) -> NDArray[np.float32]:
    """Covered share of a pixel, approximating the edge as straight."""
    return np.clip(0.5 + (radius_mm - distance) / grid.pixel_mm, 0, 1).astype(np.float32)


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)
