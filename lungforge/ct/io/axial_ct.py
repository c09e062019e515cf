"""The gate for volumes that are to be used as CT: are they axial slices in Hounsfield units?

Lung masks, MR, PET, dose, reformats and values without rescale read just as well, and would be trained on.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.classes import LEFT_LUNG, RIGHT_LUNG
from lungforge.ct.geometry import Geometry, VolumeError

_MOST_TILT_DEGREES = 15.0
"""How far slices may be inclined: a tilted gantry is, a reformat in another plane is more."""

_NOT_AS_SCANNED = {
    "MIP": "a maximum intensity projection",
    "MINIP": "a minimum intensity projection",
    "MAX_IP": "a maximum intensity projection",
    "MIN_IP": "a minimum intensity projection",
    "PROJECTION IMAGE": "a projection",
    "REFORMATTED": "a reformatted series",
    "MPR": "a reformatted series",
    "CPR": "a reformatted series",
    "VRT": "a rendering",
    "VOLREN": "a rendering",
    "3D RENDERED": "a rendering",
    "SSD": "a rendering",
    "SUBTRACTION": "a subtraction",
    "PERFUSION": "a parameter map",
    "LOCALIZER": "a localizer",
}
"""Values of ImageType, or words of them, of series that are no slices as the scanner made them."""

_HOUNSFIELD = {"", "HU", "HU_MOD", "US"}
"""Rescale types that may be Hounsfield units: US is unspecified."""

_AIR_HU = (-1200, -500)
_TISSUE_HU = (-200, 300)
"""Every slice of a chest shows air (around the body, in the lungs) and soft tissue."""
_LEAST = 1e-3
"""The least share of voxels that air and tissue have."""
_FEW_VALUES = 8
"""A mask or a map of classes has no more different values."""


@dataclass(frozen=True)
class VolumeHeader:
    """What the files of a volume state without their voxels."""

    geometry: Geometry
    modality: str
    """CT, MR, ..., or nothing if it is not stated."""
    image_type: tuple[str, ...]
    """DICOM's ImageType."""
    rescale_type: str
    """DICOM's RescaleType."""
    lowest: float
    """The lowest value that a voxel can have."""
    stored_as: str
    """How the voxels are stored, in words."""


def check_header(uri: str, header: VolumeHeader) -> None:
    """Refuse a volume whose headers show that it is not an axial CT in Hounsfield units.

    Args:
        uri: The volume, for the message.
        header: What its files state.

    Raises:
        VolumeError: Says what it is instead.
    """
    if header.modality not in {"", "CT"}:
        raise VolumeError(f"{uri}: its modality is {header.modality}, not CT")
    for value in header.image_type:
        for words in (value, *value.split()):
            if words in _NOT_AS_SCANNED:
                stated = "\\".join(header.image_type)
                raise VolumeError(
                    f"it is {_NOT_AS_SCANNED[words]} (ImageType {stated}), not slices as scanned"
                )
    if header.rescale_type not in _HOUNSFIELD:
        raise VolumeError(f"{uri}: its values are {header.rescale_type} (RescaleType), not Hounsfield units")
    if header.lowest > _AIR_HU[1]:
        raise VolumeError(
            f"{uri}: its values ({header.stored_as}) cannot be below {header.lowest:g}, so they are no "
            "Hounsfield units, in which air is -1000: a mask, or values that lack their rescale intercept"
        )
    plane = plane_of(header.geometry)
    if plane != "axial":
        raise VolumeError(f"{uri}: its slices are {plane}, not axial")


def plane_of(geometry: Geometry) -> str:
    """The plane of the slices: axial, coronal, sagittal or oblique.

    Axial slices may face either way and be turned in their plane; neither their normal nor the way from slice
    to slice is inclined by more than 15 degrees.
    """
    matrix = np.asarray(geometry.direction)
    normal, stacking = np.cross(matrix[:, 0], matrix[:, 1]), matrix[:, 2]
    cosines = np.abs([normal / np.linalg.norm(normal), stacking / np.linalg.norm(stacking)])
    along = np.flatnonzero(cosines.min(axis=0) >= np.cos(np.radians(_MOST_TILT_DEGREES)))
    return ("sagittal", "coronal", "axial")[along[0]] if len(along) else "oblique"


def check_values(uri: str, slices: Iterable[NDArray[np.int16]]) -> None:
    """Refuse values that are no Hounsfield units of a chest.

    Args:
        uri: The volume, for the message.
        slices: Slices of the volume, each [H, W]; none prove nothing.

    Raises:
        VolumeError: Says which.
    """
    lowest, highest, voxels, air, tissue = 32767, -32768, 0, 0, 0
    different = np.zeros(0, np.int16)
    for plane in slices:
        lowest, highest = min(lowest, int(plane.min())), max(highest, int(plane.max()))
        voxels += plane.size
        air += _count(plane, _AIR_HU)
        tissue += _count(plane, _TISSUE_HU)
        if len(different) <= _FEW_VALUES:
            different = np.union1d(different, plane)
    if not voxels:
        return
    what = f"{uri}: its values run from {lowest} to {highest}"
    if len(different) <= _FEW_VALUES:
        raise VolumeError(f"{what}, only {len(different)} different ones: a mask, not a CT")
    if lowest >= 0:
        raise VolumeError(
            f"{what}: none is negative, so they are no Hounsfield units, in which air is -1000; the rescale "
            "intercept is missing"
        )
    if air < _LEAST * voxels:
        raise VolumeError(f"{what}, with no air (-1000 HU) among them, so they are no Hounsfield units")
    if tissue < _LEAST * voxels:
        raise VolumeError(f"{what}, with no soft tissue (0 HU) among them, so they are no Hounsfield units")


def check_lungs(uri: str, anatomy: NDArray[np.uint8]) -> None:
    """Refuse a volume in which no lung is found.

    Args:
        uri: The volume, for the message.
        anatomy: The anatomy map of the whole volume.

    Raises:
        VolumeError: It has no lung.
    """
    if not ((anatomy == LEFT_LUNG) | (anatomy == RIGHT_LUNG)).any():
        raise VolumeError(f"{uri}: no lung is found in it: not a CT of the chest, or not in Hounsfield units")


def _count(plane: NDArray[np.int16], between: tuple[int, int]) -> int:
    return int(np.count_nonzero((plane >= between[0]) & (plane <= between[1])))
