"""Volumes in Hounsfield units, from MetaImage files and from DICOM series."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.geometry import Geometry, VolumeError, check_slices
from lungforge.ct.io import dicom, metaimage
from lungforge.ct.io.axial_ct import VolumeHeader
from lungforge.errors import AccessError, InputError

__all__ = ["Geometry", "Volume", "VolumeError", "read_geometry", "read_header", "read_slices", "read_volume"]


@dataclass(frozen=True)
class Volume:
    """One CT series."""

    series_uid: str
    """The DICOM series uid; for a MetaImage the name of its header without the ending."""
    hu: NDArray[np.int16]
    """Hounsfield units, shape [Z, H, W], on the grid of the file. Padding stays as it is (down to -3024)."""
    geometry: Geometry
    """Where the voxels lie."""


def read_volume(uri: str, *, files: Sequence[str] = (), listed: Collection[str] = ()) -> Volume:
    """Read a volume.

    Args:
        uri: A MetaImage header (``.mhd`` with its ``.raw`` or ``.zraw`` beside it, or ``.mha``) or a
            folder that holds the files of one DICOM series; a local path or any URI that fsspec opens.
        files: The files of the DICOM series (``SeriesEntry.files``), which need not be all that the folder
            holds, nor all lie in it. Without them they are found in the folder.
        listed: URIs that are known to have been there (``SeriesEntry.listed``). One of them that is gone
            says nothing about the volume, so it is an AccessError.

    Returns:
        The volume. A mask (``seg-lungs-LUNA16``) reads just as well; its values are then in ``hu``.

    Raises:
        VolumeError: The volume is damaged, incomplete, or of a kind that is not supported.
        InputError: There is no such file or folder.
        AccessError: A file cannot be read now: denied, expired, gone since it was listed, cut short, ...
    """
    with _naming(uri, listed):
        if metaimage.is_name(uri):
            header = metaimage.read_header(uri, listed)
            return Volume(header.series_uid, metaimage.read_pixels(header), header.geometry)
        files = files or dicom.series_files(uri)
        return Volume(*dicom.read_series(files))


def read_header(uri: str, *, files: Sequence[str] = (), listed: Collection[str] = ()) -> VolumeHeader:
    """Read what the files of a volume state, without its voxels.

    Notices all that ``read_volume`` notices, but for damage within the pixels of a file of the right size.

    Args:
        uri: As for ``read_volume``.
        files: As for ``read_volume``.
        listed: As for ``read_volume``.

    Raises:
        VolumeError: As for ``read_volume``; also when the pixel file is missing or of another size than
            the header states.
        InputError: There is no such file or folder.
        AccessError: As for ``read_volume``.
    """
    with _naming(uri, listed):
        if not metaimage.is_name(uri):
            return dicom.read_volume_header(files or dicom.series_files(uri))
        header = metaimage.read_header(uri, listed)
        return VolumeHeader(
            geometry=header.geometry,
            modality=header.modality,
            image_type=(),
            rescale_type="",
            lowest=header.lowest,
            stored_as=header.element_type,
        )


def read_geometry(uri: str, *, files: Sequence[str] = (), listed: Collection[str] = ()) -> Geometry:
    """Read where the voxels of a volume lie; arguments and errors as for ``read_header``."""
    return read_header(uri, files=files, listed=listed).geometry


def read_slices(
    uri: str, indices: Sequence[int], *, files: Sequence[str] = (), listed: Collection[str] = ()
) -> NDArray[np.int16]:
    """Read some slices of a volume: only their bytes, unless a MetaImage is compressed.

    Args:
        uri: As for ``read_volume``.
        indices: Slice indices in any order, each in 0..Z-1.
        files: As for ``read_volume``.
        listed: As for ``read_volume``.

    Returns:
        Hounsfield units, shape [len(indices), H, W], the same as ``read_volume(uri).hu[indices]``.

    Raises:
        VolumeError: As for ``read_volume``; or the volume has no such slice.
        InputError: There is no such file or folder.
        AccessError: As for ``read_volume``.
    """
    with _naming(uri, listed):
        if metaimage.is_name(uri):
            header = metaimage.read_header(uri, listed)
            check_slices(indices, header.geometry)
            if not header.compressed:
                return metaimage.read_raw_slices(header, indices)
            return metaimage.read_pixels(header)[list(indices)]
        return dicom.read_series(files or dicom.series_files(uri), indices)[1]


@contextmanager
def _naming(uri: str, listed: Collection[str]) -> Iterator[None]:
    """Put the URI before the reason of a VolumeError, and say what a missing file means."""
    try:
        yield
    except VolumeError as error:
        raise VolumeError(f"{uri}: {error}") from error
    except FileNotFoundError as error:
        if uri in listed:
            raise AccessError(f"{uri}: gone since it was listed") from error
        raise InputError(f"{uri}: there is no such file or folder") from error
