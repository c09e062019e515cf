"""How the slices of a DICOM series lie: their order, and the grid that they make up."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.geometry import Geometry, Triple, VolumeError, as_rows, as_triple, check_plausible
from lungforge.ct.io.dicom_header import DicomHeader
from lungforge.ct.io.dicom_series import same_grid

_UNEVEN = 0.1
"""How far a slice may lie from its place on the fitted line, as a fraction of the slice spacing."""

_MOST_UNEVEN = 0.21
"""The same for positions that were rounded. A missing slice shows as 0.214 or more (that is of five slices
without the third)."""


def stack_slices(headers: Sequence[DicomHeader]) -> tuple[list[DicomHeader], Geometry]:
    """Order the slices by position, and fit the grid.

    The slices lie evenly along a line, which need not be perpendicular to them (a tilted gantry). The line
    is fitted to all positions, so that rounded ones do no harm.

    Args:
        headers: The headers of all slices, in any order.

    Returns:
        The headers from the first slice to the last along the normal of their plane, and the geometry.

    Raises:
        VolumeError: They are no evenly spaced slices of one grid, or do not state where they lie.
    """
    if not headers:
        raise VolumeError("the series has no files")
    first = headers[0]
    for header in headers:
        _check_slice(header, first)
    assert first.size is not None
    assert first.orientation is not None
    assert first.pixel_spacing_mm is not None
    direction = _direction(first.orientation)
    positions = np.asarray([header.position_mm for header in headers], np.float64)
    order = np.argsort(positions @ direction[:, 2], kind="stable")
    ordered = [headers[index] for index in order]
    if len(headers) > 1:
        origin, direction[:, 2], step = _fit(positions[order], ordered)
    elif first.thickness_mm is None:
        raise VolumeError("its only slice states no SliceThickness, so its height is unknown")
    else:
        origin, step = as_triple(positions[0]), first.thickness_mm
    geometry = Geometry(
        size=(*first.size, len(headers)),
        spacing_mm=(*first.pixel_spacing_mm, step),
        origin_mm=origin,
        direction=as_rows(direction),
    )
    check_plausible(geometry)
    return ordered, geometry


def _check_slice(header: DicomHeader, first: DicomHeader) -> None:
    """Refuse a file that is no slice of the same grid as the first."""
    if header.wrong is not None:
        raise VolumeError(f"{header.name}: {header.wrong}")
    kind = f" ({header.modality})" if header.modality not in {"", "CT"} else ""
    if header.frames != 1 or header.samples != 1 or header.size is None:
        raise VolumeError(
            f"{header.name}{kind} is not one slice of one channel (multi-frame files are not supported)"
        )
    if header.position_mm is None or header.orientation is None:
        raise VolumeError(
            f"{header.name}{kind} has no position or orientation (a scout view, or not an axial CT)"
        )
    if header.pixel_spacing_mm is None:
        raise VolumeError(f"{header.name} states no PixelSpacing, so the size of its pixels is unknown")
    if not same_grid(header, first):
        raise VolumeError(
            f"{header.name} has another size, pixel spacing or orientation than the other slices"
        )
    for what, value, other in (
        ("study", header.study_uid, first.study_uid),
        ("modality", header.modality, first.modality),
    ):
        if value and other and value != other:
            raise VolumeError(f"{header.name} is of another {what} than {first.name}, in one series uid")


def _direction(orientation: Sequence[float]) -> NDArray[np.float64]:
    """The matrix whose columns are the directions of the columns, the rows and the slices' normal."""
    along_row, along_column = np.reshape(np.asarray(orientation, np.float64), (2, 3))
    lengths = np.linalg.norm([along_row, along_column], axis=1)
    if np.abs(lengths - 1).max() > 0.01 or abs(along_row @ along_column) > 0.01:
        raise VolumeError(
            f"its ImageOrientationPatient {tuple(orientation)} are not two perpendicular directions"
        )
    along_row = along_row / lengths[0]
    normal = np.cross(along_row, along_column)
    normal /= np.linalg.norm(normal)
    return np.stack([along_row, np.cross(normal, along_row), normal], axis=1)


def _fit(
    positions: NDArray[np.float64], ordered: Sequence[DicomHeader]
) -> tuple[Triple, NDArray[np.float64], float]:
    """The first slice's place on the line through all positions, the line's direction, and the step along it.

    Args:
        positions: The places of the slices in order, shape [Z, 3], in mm.
        ordered: The headers, for names.
    """
    gaps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    median = float(np.median(gaps))
    closest = int(gaps.argmin())
    if gaps[closest] <= 1e-3 * max(median, 1e-3):
        names = f"{ordered[closest].name} and {ordered[closest + 1].name}"
        raise VolumeError(f"two of its slices lie at the same position ({names}); remove the double ones")
    index = np.arange(len(positions)) - (len(positions) - 1) / 2
    step = index @ positions / (index @ index)
    length = float(np.linalg.norm(step))
    beside = np.linalg.norm(positions - positions.mean(axis=0) - np.outer(index, step), axis=1)
    rounding = min(_rounding(positions), _MOST_UNEVEN * length)
    if beside.max() > max(_UNEVEN * length, rounding):
        worst = int(np.abs(gaps - median).argmax())
        raise VolumeError(
            f"its slices {worst} and {worst + 1} lie {gaps[worst]:.3g} mm apart and the others "
            f"{median:.3g} mm: slices are missing or unevenly spaced"
        )
    origin = positions.mean(axis=0) + index[0] * step
    return as_triple(origin), step / length, length


def _rounding(positions: NDArray[np.float64]) -> float:
    """How far positions, shape [Z, 3], may have been moved by writing them with few decimals, in mm."""
    varying = positions[:, np.ptp(positions, axis=0) > 1e-3]
    for decimals in range(3):
        scaled = varying * 10**decimals
        if np.abs(scaled - np.rint(scaled)).max() < 1e-3:
            # Half of the last digit, and a tenth of that because the line is fitted to rounded positions.
            return float(0.55 * 10.0**-decimals)
    return 0.0
