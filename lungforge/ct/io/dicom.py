"""The files of one DICOM series: their geometry from the headers, their voxels through SimpleITK (GDCM)."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from lungforge.ct.geometry import Geometry, VolumeError, check_slices, to_int16
from lungforge.ct.io.axial_ct import VolumeHeader
from lungforge.ct.io.dicom_header import DicomHeader, read_header
from lungforge.ct.io.dicom_series import find_dicom_series
from lungforge.ct.io.dicom_stack import stack_slices
from lungforge.storage.reading import list_folder, local_files, read_file

# A damaged file makes ITK talk on stderr besides raising; the error says it already.
sitk.ProcessObject.SetGlobalWarningDisplay(False)

_READERS = 16
"""Files that are read at a time: on object storage each is a round trip."""


def series_files(uri: str) -> tuple[str, ...]:
    """The files of the one series that a folder holds.

    Raises:
        VolumeError: It holds none, or several.
        AccessError: A file cannot be read now.
        FileNotFoundError: There is no such folder.
    """
    series, _ = find_dicom_series([entry for entry in list_folder(uri) if not entry.is_folder])
    if len(series) != 1:
        uids = ", ".join(one.series_uid for one in series)
        held = f"{len(series)} DICOM series ({uids})" if series else "no DICOM file"
        raise VolumeError(f"the folder holds {held}; a volume is a folder with the files of one series")
    return series[0].files


def read_volume_header(files: Sequence[str]) -> VolumeHeader:
    """Read what the headers of a series state; errors as for ``read_series``."""
    headers, geometry = _stacked(files)
    first = headers[0]
    stored_as = "stored values" if first.rescaled else "stored values without RescaleIntercept"
    return VolumeHeader(
        geometry=geometry,
        modality=first.modality,
        image_type=first.image_type,
        rescale_type=first.rescale_type,
        lowest=max(header.lowest for header in headers),
        stored_as=stored_as,
    )


def read_series(
    files: Sequence[str], indices: Sequence[int] | None = None
) -> tuple[str, NDArray[np.int16], Geometry]:
    """Read slices of a series, in the order of their positions.

    Args:
        files: URIs of its slices, in any order.
        indices: The slices to read, in any order; all by default.

    Returns:
        The series uid, the Hounsfield units [Z or len(indices), H, W] (rescale slope and intercept applied),
        and the geometry of the whole series.

    Raises:
        VolumeError: The files are no evenly spaced slices of one grid, one is damaged, or there is no such
            slice.
        AccessError: A file cannot be read now, or is gone since it was listed.
    """
    headers, geometry = _stacked(files)
    chosen = range(geometry.size[2]) if indices is None else indices
    check_slices(chosen, geometry)
    uris = [headers[index].uri for index in chosen]
    columns, rows, _ = geometry.size
    hu = np.empty((len(uris), rows, columns), np.int16)
    with local_files(uris) as paths:
        for row, (uri, path) in enumerate(zip(uris, paths, strict=True)):
            hu[row] = _pixels(uri, path, (rows, columns))
    return headers[0].series_uid, hu, geometry


def _stacked(files: Sequence[str]) -> tuple[list[DicomHeader], Geometry]:
    with ThreadPoolExecutor(_READERS) as pool:
        headers = list(pool.map(read_header, files))
    try:
        return stack_slices(headers)
    except VolumeError as error:
        folders = sorted({header.folder for header in headers})
        if len(folders) == 1:
            raise
        raise VolumeError(
            f"{error} (its files lie in {len(folders)} folders: {', '.join(folders)})"
        ) from error


def _pixels(uri: str, path: Path, shape: tuple[int, int]) -> NDArray[np.int16]:
    """The Hounsfield units of one file."""
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(path))
    try:
        image = reader.Execute()
    except RuntimeError as error:
        # ITK takes a file that it cannot read for a damaged one: that is believed when it can be read whole.
        read_file(uri)
        raise VolumeError(f"the voxels of {_name(uri)} cannot be read: {_reason(error)}") from error
    values = sitk.GetArrayViewFromImage(image)
    if values.shape[-2:] != shape or values.size != shape[0] * shape[1]:
        raise VolumeError(f"{_name(uri)} holds voxels of the shape {values.shape}; its header states {shape}")
    return to_int16(values.reshape(shape))


def _reason(error: RuntimeError) -> str:
    """The last line of what ITK says, without the place in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rpartition("): ")[2] if lines else "the file is damaged"


def _name(uri: str) -> str:
    return uri.rpartition("/")[2]
