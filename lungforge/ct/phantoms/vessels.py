"""The vessels and the nodules of phantoms: tubes and spheres, drawn into a volume with soft edges."""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Point = NDArray[np.float64]

_THINNEST_MM = 0.55
_MOST_TUBES = 900


@dataclass(frozen=True)
class Tube:
    """A piece of a vessel; points are (u, v, w) in mm."""

    start: Point
    end: Point
    radius_mm: float


@dataclass(frozen=True)
class Grid:
    """Where the voxels of a volume lie: positions in mm along each axis, in ascending order."""

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

    def box(self, low: Point, high: Point) -> tuple[slice, slice, slice]:
        """The part [z, y, x] of the volume between two corners."""
        axes = zip((self.w, self.v, self.u), low[::-1], high[::-1], strict=True)
        z, y, x = (slice(*np.searchsorted(axis, (first, last))) for axis, first, last in axes)
        return z, y, x


def grow_vessels(
    random: np.random.Generator, root: Point, outwards: Point, inside: Callable[[Point], bool]
) -> list[Tube]:
    """Grow the vessels of one lung: each branches in two until it is thin or leaves the lung.

    The radii follow Murray's law: the cube of the parent's is the sum of the cubes of the children's.

    Args:
        random: Where the shape comes from.
        root: The hilum.
        outwards: Unit vector from the hilum into the lung.
        inside: Whether a point is in the lung.

    Returns:
        The tubes, thick ones first.
    """
    tubes: list[Tube] = []
    growing: deque[tuple[Point, Point, float]] = deque()
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


def draw_tube(hu: NDArray[np.int16], lung: NDArray[np.bool_], grid: Grid, tube: Tube, value: float) -> None:
    """Draw a tube into the lung, in place.

    Args:
        hu: Volume, [Z, H, W].
        lung: Where tubes are drawn, [Z, H, W].
        grid: Where the voxels lie.
        tube: The tube.
        value: Its Hounsfield units.
    """
    reach = tube.radius_mm + grid.pixel_mm
    margin = np.array([reach, reach, reach + grid.thickness_mm / 2])
    box = grid.box(np.minimum(tube.start, tube.end) - margin, np.maximum(tube.start, tube.end) + margin)
    du, dv, dw = _offsets(grid, box, tube.start)
    axis = (tube.end - tube.start).astype(np.float32)
    along = np.clip((du * axis[0] + dv * axis[1] + dw * axis[2]) / max(float(axis @ axis), 1e-6), 0, 1)
    # A slice shows what lies anywhere within its thickness, or thin vessels would be dotted.
    away = np.maximum(np.abs(dw - along * axis[2]) - grid.thickness_mm / 2, 0)
    distance = np.sqrt((du - along * axis[0]) ** 2 + (dv - along * axis[1]) ** 2 + away**2)
    weight = _coverage(distance, tube.radius_mm, grid) * min(1.0, 2 * tube.radius_mm / grid.pixel_mm)
    region = hu[box]
    drawn = region + weight * (value - region)
    np.copyto(region, drawn.astype(np.int16), where=lung[box] & (drawn > region))


def draw_sphere(hu: NDArray[np.int16], grid: Grid, centre: Point, radius_mm: float, value: float) -> None:
    """Draw a sphere over what is there, in place."""
    reach = radius_mm + grid.pixel_mm
    box = grid.box(centre - reach, centre + reach)
    du, dv, dw = _offsets(grid, box, centre)
    weight = _coverage(np.sqrt(du**2 + dv**2 + dw**2), radius_mm, grid)
    region = hu[box]
    region[:] = (region + weight * (value - region)).astype(np.int16)


def _offsets(grid: Grid, box: tuple[slice, slice, slice], point: Point) -> tuple[NDArray[np.float32], ...]:
    u, v, w = (float(value) for value in point)
    return grid.u[box[2]] - u, grid.v[box[1], None] - v, grid.w[box[0], None, None] - w


def _coverage(distance: NDArray[np.float32], radius_mm: float, grid: Grid) -> NDArray[np.float32]:
    """The share of a pixel that is covered, as if an edge ran straight through it."""
    return np.clip(0.5 + (radius_mm - distance) / grid.pixel_mm, 0, 1).astype(np.float32)


def _unit(vector: Point) -> Point:
    return vector / max(float(np.linalg.norm(vector)), 1e-9)
