"""Synthetic thorax phantoms with known anatomy and nodules, in the layout of LUNA16.

They stand in for LUNA16 in the demo, in tests and in benchmarks, including its pitfalls: some have the
direction matrix -1 0 0 0 -1 0 0 0 1, some a padding cylinder, some no nodule, and some no lung mask.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lungforge.ct.classes import LEFT_LUNG, LUNA16_MASK_VALUES, RIGHT_LUNG
from lungforge.ct.geometry import IDENTITY, Geometry
from lungforge.ct.io.volume import Volume
from lungforge.ct.nodules import Annotation, Candidate
from lungforge.ct.phantoms.chest import CHEST_HEIGHT_MM, Chest
from lungforge.ct.phantoms.rendering import render_slice
from lungforge.ct.phantoms.vessels import Grid, Tube, generate_vessels, render_sphere, render_tube
from lungforge.ct.phantoms.writing import Write, write_csv, write_metaimage
from lungforge.storage import write_bytes_atomic

MIRRORED = ((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, 1.0))
"""Direction of the LUNA16 scans whose rows and columns are reversed."""

#: In a folder of phantoms: which they are, from the first file on; and, with the last, size and sha256 of
#: each file. By it, what is made from phantoms is called so.
RECORD_NAME = "phantoms.json"

_THICKEST_MM = 2.5
_VESSEL_CANDIDATES = 16
_VESSEL_HU, _SOLID_HU, _GROUND_GLASS_HU = 38.0, 45.0, -430.0


@dataclass(frozen=True)
class Phantom:
    """A synthetic scan and its ground truth."""

    index: int
    """Index among the phantoms of the seed."""
    volume: Volume
    """The scan."""
    anatomy: NDArray[np.uint8]
    """Classes of body, lungs and trachea, without nodules, shape [Z, H, W]."""
    nodules: tuple[Annotation, ...]
    """The nodules, as listed in annotations.csv."""
    candidates: tuple[Candidate, ...]
    """The nodules with label 1, and points on vessels with label 0."""
    has_mask: bool
    """Whether the data set contains its lung mask."""


def phantom_series_uid(seed: int, index: int, *, size: int = 256, slices: int = 60) -> str:
    """Series UID of a phantom, a function of the arguments of :func:`generate_phantom`."""
    digest = hashlib.sha256(f"{seed} {index} {size} {slices}".encode()).digest()
    # 2.25 is the root of UIDs made from a UUID, 128 bits (ITU-T X.667).
    return f"2.25.{int.from_bytes(digest[:16], 'big')}"


def generate_phantom(seed: int, index: int, *, size: int = 256, slices: int = 60) -> Phantom:
    """Generate a thorax phantom.

    The scan covers the whole lungs with slices of at most 2.5 mm, so with fewer than 120 slices the chest is
    compressed along z. By index, every third phantom is mirrored, every second has a padding cylinder, every
    fifth has no mask, and every eighth no nodule.

    Args:
        seed: Seed of the data set.
        index: Index of the scan; it decides the traits above.
        size: Rows and columns.
        slices: Number of slices, at least 10.

    Returns:
        The phantom, byte for byte the same for the same arguments.
    """
    random = np.random.default_rng([seed, index])
    uid = phantom_series_uid(seed, index, size=size, slices=slices)
    pixel = random.uniform(1.03, 1.1) * 2 * 162 / size
    chest = Chest.sample(random, pixel_mm=pixel)
    pixel *= chest.half_width / 162
    thickness = min(_THICKEST_MM, CHEST_HEIGHT_MM / slices)
    # Shifted to make room for the table below the patient.
    centred = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * pixel
    grid = Grid(centred, centred + np.float32(6), np.arange(slices, dtype=np.float32) * thickness)
    hu, anatomy = _render_chest(chest, grid)
    lung = (anatomy == LEFT_LUNG) | (anatomy == RIGHT_LUNG)
    squeeze = slices * thickness / CHEST_HEIGHT_MM
    tubes = _add_vessels(random, chest, grid, squeeze, hu, lung)
    spheres = _place_nodules(random, chest, grid, squeeze) if index % 8 != 7 else []
    for centre, radius in spheres:
        value = _GROUND_GLASS_HU if random.uniform() < 0.12 and radius > 4 else _SOLID_HU
        render_sphere(hu, grid, centre, radius, value + random.normal(0, 12))
    _blur_and_add_noise(random, hu)
    if index % 2:
        outside = grid.u[None, :] ** 2 + centred[:, None] ** 2 > (size * pixel / 2) ** 2
        hu[:, outside] = -2000 if index % 4 == 1 else -3024
        anatomy[:, outside] = 0
    left, front = random.normal(0, 8, 2)
    origin = np.round([left + grid.u[0], front + grid.v[0], -random.uniform(120, 330)], 4)
    shift = origin - [grid.u[0], grid.v[0], grid.w[0]]
    nodules = tuple(_annotation(uid, centre + shift, 2 * radius) for centre, radius in spheres)
    candidates = _candidates(random, uid, nodules, tubes, grid, lung, shift)
    geometry = Geometry((size, size, slices), (pixel, pixel, thickness), _triple(origin), IDENTITY)
    if index % 3 == 2:
        hu, anatomy = hu[:, ::-1, ::-1], anatomy[:, ::-1, ::-1]
        first = geometry.index_to_world([size - 1, size - 1, 0])
        geometry = Geometry(geometry.size, geometry.spacing_mm, _triple(first), MIRRORED)
    volume = Volume(uid, np.ascontiguousarray(hu), geometry)
    return Phantom(index, volume, np.ascontiguousarray(anatomy), nodules, candidates, has_mask=index % 5 != 4)


def write_phantoms(
    out: str,
    *,
    series: int = 8,
    seed: int = 0,
    size: int = 256,
    slices: int = 60,
    compressed: bool = False,
    advance: Callable[[], None] | None = None,
    write: Write = write_bytes_atomic,
) -> list[Annotation]:
    """Write phantoms in the layout of LUNA16: ten subsets, seg-lungs-LUNA16, annotations and candidates.

    The annotations are written last.

    Args:
        out: Folder: a local path or any URI that fsspec opens. Existing files are overwritten.
        series: Number of scans; scan i is in subset i % 10.
        seed: Seed of the data set.
        size: Rows and columns.
        slices: Number of slices of a scan.
        compressed: Write ``.zraw`` instead of the ``.raw`` of LUNA16.
        advance: Callback after each scan.
        write: Writes each file, given its URI and its content.

    Returns:
        The nodules of all scans.
    """
    annotations: list[Annotation] = []
    candidates: list[Candidate] = []
    for index in range(series):
        phantom = generate_phantom(seed, index, size=size, slices=slices)
        volume = phantom.volume
        write_metaimage(
            f"{out}/subset{index % 10}/{volume.series_uid}.mhd", volume.hu, volume.geometry, compressed, write
        )
        if phantom.has_mask:
            values = np.zeros(256, np.uint8)
            values[list(LUNA16_MASK_VALUES)] = list(LUNA16_MASK_VALUES.values())
            mask = values[phantom.anatomy]
            write_metaimage(
                f"{out}/seg-lungs-LUNA16/{volume.series_uid}.mhd", mask, volume.geometry, True, write
            )
        annotations += phantom.nodules
        candidates += phantom.candidates
        if advance:
            advance()
    places = [(place.series_uid, place.x_mm, place.y_mm, place.z_mm, place.label) for place in candidates]
    write_csv(f"{out}/candidates_V2.csv", ("seriesuid", "coordX", "coordY", "coordZ", "class"), places, write)
    rows = [
        (nodule.series_uid, nodule.x_mm, nodule.y_mm, nodule.z_mm, nodule.diameter_mm)
        for nodule in annotations
    ]
    write_csv(
        f"{out}/annotations.csv", ("seriesuid", "coordX", "coordY", "coordZ", "diameter_mm"), rows, write
    )
    return annotations


def _render_chest(chest: Chest, grid: Grid) -> tuple[NDArray[np.int16], NDArray[np.uint8]]:
    shape = (len(grid.w), len(grid.v), len(grid.u))
    hu, anatomy = np.empty(shape, np.int16), np.empty(shape, np.uint8)
    for z in range(shape[0]):
        zeta = CHEST_HEIGHT_MM * (z + 0.5) / shape[0]
        hu[z], anatomy[z] = render_slice(chest, grid.u[None, :], grid.v[:, None], zeta)
    return hu, anatomy


def _add_vessels(
    random: np.random.Generator,
    chest: Chest,
    grid: Grid,
    squeeze: float,
    hu: NDArray[np.int16],
    lung: NDArray[np.bool_],
) -> list[Tube]:
    """Add the vessels of both lungs; ``squeeze`` is mm of the scan per mm of the chest along z."""
    tubes = []
    for side, (u, v, zeta) in zip((1, -1), chest.hila(), strict=True):

        def inside(point: NDArray[np.float64], side: int = side) -> bool:
            return bool(_depth(chest, side, point) > 2)

        for tube in generate_vessels(random, np.array([u, v, zeta]), np.array([float(side), 0, 0]), inside):
            scale = np.array([1, 1, squeeze])
            tube = Tube(tube.start * scale, tube.end * scale, tube.radius_mm)
            render_tube(hu, lung, grid, tube, _VESSEL_HU)
            tubes.append(tube)
    return tubes


def _place_nodules(
    random: np.random.Generator, chest: Chest, grid: Grid, squeeze: float
) -> list[tuple[NDArray[np.float64], float]]:
    """Sample centres (u, v, w) and radii in mm; every third nodule is attached to the chest wall."""
    placed: list[tuple[NDArray[np.float64], float]] = []
    first = int(random.integers(3))
    for number in range(int(random.integers(1, 5))):
        attached = (first + number) % 3 == 0
        low, high = ((3.5, 5.5), (5, 11), (9, 20))[(first + number) % 3]
        radius = round(float(random.uniform(low, high)), 3) / 2
        for _ in range(4000):
            side = int(random.choice((-1, 1)))
            zeta = random.uniform(40, 265)
            point = np.array([side * random.uniform(10, 130), random.uniform(-80, 80), zeta])
            # Rounded like the table, so that ground truth and table agree exactly.
            centre = np.round(point * [1, 1, squeeze], 3)
            depth = _depth(chest, side, point)
            wall = -float(np.max(chest.lungs(point[0], point[1], zeta)[2]))
            fits = 0.5 * radius < depth < 0.8 * radius and wall == depth if attached else depth > radius + 4
            apart = all(np.linalg.norm(centre - other) > radius + r + 8 for other, r in placed)
            within = radius < centre[2] < grid.w[-1] - radius
            if fits and apart and within:
                placed.append((centre, radius))
                break
    return placed


def _depth(chest: Chest, side: int, point: NDArray[np.float64]) -> float:
    """Approximate depth of a point inside the left (side 1) or right (-1) lung, in mm."""
    left, right, outside = chest.lungs(*(float(value) for value in point))
    return -float(max(left if side > 0 else right, outside))


def _blur_and_add_noise(random: np.random.Generator, hu: NDArray[np.int16]) -> None:
    """Add the sharpness, texture and noise of a scanner, in place."""
    _, height, width = hu.shape
    bank = random.standard_normal((2 * height, 2 * width), np.float32)
    noise = ndimage.gaussian_filter(bank, 0.6, mode="wrap")
    noise *= random.uniform(14, 24) / noise.std()
    # Alveoli and the finest vessels, below voxel size: coarser, and correlated between neighbouring slices.
    texture = ndimage.gaussian_filter(bank, 1.8, mode="wrap")
    texture *= 26 / texture.std()
    for z, image in enumerate(hu):
        row, column = random.integers(0, (height, width))
        blurred = ndimage.gaussian_filter(image.astype(np.float32), 0.6, truncate=2)
        grain, step = divmod(z, 4)
        for layer, share in ((grain, 1 - step / 4), (grain + 1, step / 4)):
            top, left = (layer * 37) % height, (layer * 61) % width
            patch = texture[top : top + height, left : left + width]
            blurred += np.float32(share) * patch * ((image < -600) & (image > -950))
        blurred += noise[row : row + height, column : column + width]
        image[:] = np.maximum(np.rint(blurred), -1024)


def _candidates(
    random: np.random.Generator,
    uid: str,
    nodules: tuple[Annotation, ...],
    tubes: list[Tube],
    grid: Grid,
    lung: NDArray[np.bool_],
    shift: NDArray[np.float64],
) -> tuple[Candidate, ...]:
    """The nodules, and points on vessels inside the lungs and away from nodules."""
    places = [Candidate(uid, nodule.x_mm, nodule.y_mm, nodule.z_mm, 1) for nodule in nodules]
    known = [(np.array([nodule.x_mm, nodule.y_mm, nodule.z_mm]), nodule.diameter_mm) for nodule in nodules]
    for number in random.permutation(len(tubes)):
        middle = (tubes[number].start + tubes[number].end) / 2
        voxel = tuple(
            min(int(np.searchsorted(axis, at)), len(axis) - 1)
            for axis, at in zip((grid.w, grid.v, grid.u), middle[::-1], strict=True)
        )
        place = middle + shift
        if lung[voxel] and all(
            np.linalg.norm(place - centre) > diameter / 2 + 12 for centre, diameter in known
        ):
            x, y, z = (round(float(value), 6) for value in place)
            places.append(Candidate(uid, x, y, z, 0))
        if len(places) == len(nodules) + _VESSEL_CANDIDATES:
            break
    return tuple(places)


def _annotation(uid: str, centre: NDArray[np.float64], diameter: float) -> Annotation:
    x, y, z = (round(float(value), 6) for value in centre)
    return Annotation(uid, x, y, z, round(diameter, 6))


def _triple(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(value) for value in values)
    return x, y, z
