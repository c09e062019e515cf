"""Volumes in Hounsfield units, from MetaImage files and from DICOM series."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from fsspec.core import url_to_fs
from numpy.typing import NDArray

from lungforge.ct.geometry import Geometry, VolumeError
from lungforge.ct.io import dicom, metaimage

__all__ = ["Geometry", "Volume", "VolumeError", "read_geometry", "read_slices", "read_volume"]


@dataclass(frozen=True)
class Volume:
    """One CT series."""

    series_uid: str
    """The DICOM series uid; for a MetaImage the name of its header without the ending."""
    hu: NDArray[np.int16]
    """Hounsfield units, shape [Z, H, W], on the grid of the file. Padding stays as it is (down to -3024)."""
    geometry: Geometry
    """Where the voxels lie."""


def read_volume(uri: str) -> Volume:
    """Read a volume.

    Args:
        uri: A MetaImage header (``.mhd`` with its ``.raw`` or ``.zraw`` beside it, or ``.mha``) or a
            folder that holds the files of one DICOM series; a local path or any URI that fsspec opens.

    Returns:
        The volume. A mask (``seg-lungs-LUNA16``) reads just as well; its values are then in ``hu``.

    Raises:
        VolumeError: The volume is missing, damaged, or of a kind that is not supported.
    """
    with _naming(uri):
        filesystem, path = url_to_fs(uri)
        if metaimage.is_name(path):
            header = metaimage.read_header(filesystem, path)
            return Volume(header.series_uid, metaimage.read_pixels(filesystem, header), header.geometry)
        return Volume(*dicom.read_series(filesystem, path))


def read_geometry(uri: str) -> Geometry:
    """Read where the voxels of a volume lie, from its header alone.

    Finds all that ``read_volume`` finds, but for damage within the pixels of a file of the right size.

    Args:
        uri: As for ``read_volume``.

    Raises:
        VolumeError: As for ``read_volume``; also when the pixel file is missing or of another size than
            the header states.
    """
    with _naming(uri):
        filesystem, path = url_to_fs(uri)
        if metaimage.is_name(path):
            return metaimage.read_header(filesystem, path).geometry
        return dicom.read_geometry(filesystem, path)


def read_slices(uri: str, indices: Sequence[int]) -> NDArray[np.int16]:
    """Read some slices of a volume: only their bytes from a MetaImage without compression, else all.

    Args:
        uri: As for ``read_volume``.
        indices: Slice indices in any order, each in 0..Z-1.

    Returns:
        Hounsfield units, shape [len(indices), H, W], the same as ``read_volume(uri).hu[indices]``.

    Raises:
        VolumeError: As for ``read_volume``; or the volume has no such slice.
    """
    with _naming(uri):
        filesystem, path = url_to_fs(uri)
        if metaimage.is_name(path):
            header = metaimage.read_header(filesystem, path)
            _check_slices(indices, header.geometry)
            if not header.compressed:
                return metaimage.read_raw_slices(filesystem, header, indices)
            return metaimage.read_pixels(filesystem, header)[list(indices)]
        _, hu, geometry = dicom.read_series(filesystem, path)
        _check_slices(indices, geometry)
        return hu[list(indices)]


def _check_slices(indices: Sequence[int], geometry: Geometry) -> None:
    depth = geometry.size[2]
    for index in indices:
        if not 0 <= index < depth:
            raise VolumeError(f"there is no slice {index}; the slices are 0 to {depth - 1}")


@contextmanager
def _naming(uri: str) -> Iterator[None]:
    """Put the URI before the reason of a VolumeError, and make one of what the file system says."""
    try:
        yield
    except VolumeError as error:
        raise VolumeError(f"{uri}: {error}") from error
    except FileNotFoundError as error:
        raise VolumeError(f"{uri}: there is no such file or folder") from error
    except PermissionError as error:
        raise VolumeError(f"{uri}: reading it is not permitted") from error
