"""A folder with the files of one DICOM CT series, read through SimpleITK (GDCM)."""

import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from lungforge.ct.geometry import Geometry, VolumeError, as_rows, as_triple, to_int16
from lungforge.errors import AccessError
from lungforge.storage.reading import list_folder, local_folder, read_file

# A damaged file makes ITK talk on stderr besides raising; the error says it already.
sitk.ProcessObject.SetGlobalWarningDisplay(False)

_SPACING_TOLERANCE = 0.1
"""How far the distance of two slices may lie from the median one, as a fraction of it."""


def read_series(uri: str, listed: Collection[str] = ()) -> tuple[str, NDArray[np.int16], Geometry]:
    """Read a series, its slices in the order of their positions.

    Args:
        uri: The folder.
        listed: URIs of files that are known to have been there.

    Returns:
        The series uid, the Hounsfield units [Z, H, W] (rescale slope and intercept applied), the geometry.

    Raises:
        VolumeError: The folder does not hold one series of evenly spaced slices, or a file is damaged.
        AccessError: A file cannot be read now, or is gone since it was listed.
        FileNotFoundError: There is no such folder.
    """
    with _local_series(uri, listed) as folder:
        series_uid, names, geometry = _read_headers(folder)
        reader = sitk.ImageSeriesReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileNames(names)
        try:
            image = reader.Execute()
        except RuntimeError as error:
            raise VolumeError(f"its voxels cannot be read: {_reason(error)}") from error
        return series_uid, to_int16(sitk.GetArrayViewFromImage(image)), geometry


def read_geometry(uri: str, listed: Collection[str] = ()) -> Geometry:
    """Read the geometry of a series from the headers of its files.

    Arguments and errors as for ``read_series``.
    """
    with _local_series(uri, listed) as folder:
        return _read_headers(folder)[2]


def read_series_uid(uri: str) -> str:
    """The series uid of one DICOM file.

    Raises:
        VolumeError: The file is not DICOM.
        AccessError: It cannot be read now.
    """
    with tempfile.TemporaryDirectory() as local:
        path = Path(local) / uri.rpartition("/")[2]
        path.write_bytes(read_file(uri))
        return _read_header(str(path)).GetMetaData("0020|000e").strip("\0 ")


@contextmanager
def _local_series(uri: str, listed: Collection[str]) -> Iterator[str]:
    """The folder with all files that were listed in it, as a local one.

    ITK takes a file that it cannot read for a damaged one, so a fault is believed only when every file can
    be read whole.
    """
    with local_folder(uri) as folder:
        entries = list_folder(uri)
        present = {entry.uri for entry in entries}
        gone = [file for file in listed if file.startswith(f"{uri}/") and file not in present]
        if gone:
            raise AccessError(f"{min(gone)}: gone since it was listed")
        try:
            yield str(folder)
        except VolumeError:
            for entry in entries:
                if not entry.is_folder:
                    read_file(entry.uri)
            raise


def _read_headers(folder: str) -> tuple[str, list[str], Geometry]:
    """The series uid, the files in the order of their positions, and the geometry."""
    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(folder)
    if len(series) != 1:
        held = "no DICOM file" if not series else f"{len(series)} DICOM series ({', '.join(sorted(series))})"
        raise VolumeError(f"the folder holds {held}; a volume is a folder with the files of one series")
    names = sorted(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(folder, series[0]))
    headers = [_read_header(name) for name in names]
    first = headers[0]
    for name, header in zip(names, headers, strict=True):
        _check_alike(Path(name).name, header, first)
    direction = np.asarray(first.GetDirection()).reshape(3, 3)
    origins = np.asarray([header.GetOrigin() for header in headers])
    order = np.argsort(origins @ direction[:, 2], kind="stable")
    origins = origins[order]
    spacing = (first.GetSpacing()[0], first.GetSpacing()[1], first.GetSpacing()[2])
    if len(names) > 1:
        direction[:, 2], step = _stacking(origins)
        spacing = (*spacing[:2], step)
    elif first.HasMetaDataKey("0018|0050"):
        spacing = (*spacing[:2], _number(first.GetMetaData("0018|0050")))
    geometry = Geometry(
        size=(first.GetSize()[0], first.GetSize()[1], len(names)),
        spacing_mm=spacing,
        origin_mm=as_triple(origins[0]),
        direction=as_rows(direction),
    )
    return first.GetMetaData("0020|000e").strip("\0 "), [names[index] for index in order], geometry


def _read_header(name: str) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(name)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise VolumeError(f"{Path(name).name} cannot be read: {_reason(error)}") from error
    return reader


def _check_alike(name: str, header: sitk.ImageFileReader, first: sitk.ImageFileReader) -> None:
    """Refuse a file that is no slice of the same grid as the first."""
    if header.GetDimension() != 3 or header.GetSize()[2] != 1 or header.GetNumberOfComponents() != 1:
        raise VolumeError(f"{name} is not one slice of one channel (multi-frame files are not supported)")
    if not header.HasMetaDataKey("0020|0032") or not header.HasMetaDataKey("0020|0037"):
        raise VolumeError(f"{name} has no position or orientation (a scout view, or not an axial CT)")
    alike = (
        header.GetSize() == first.GetSize()
        and np.allclose(header.GetSpacing()[:2], first.GetSpacing()[:2], rtol=1e-4)
        and np.allclose(header.GetDirection(), first.GetDirection(), atol=1e-3)
    )
    if not alike:
        raise VolumeError(f"{name} has another size, pixel spacing or orientation than the other slices")


def _stacking(origins: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """The direction and the distance from slice to slice, which must be even."""
    steps = np.linalg.norm(np.diff(origins, axis=0), axis=1)
    median = float(np.median(steps))
    if steps.min() <= 1e-3 * max(median, 1e-3):
        raise VolumeError("two of its slices lie at the same position; remove the double ones")
    worst = int(np.abs(steps - median).argmax())
    if abs(steps[worst] - median) > _SPACING_TOLERANCE * median:
        raise VolumeError(
            f"its slices {worst} and {worst + 1} lie {steps[worst]:.3g} mm apart and the others "
            f"{median:.3g} mm: slices are missing or unevenly spaced"
        )
    span = origins[-1] - origins[0]
    length = float(np.linalg.norm(span))
    return span / length, length / (len(origins) - 1)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise VolumeError(f"its slice thickness {text!r} is no number") from error


def _reason(error: RuntimeError) -> str:
    """The last line of what ITK says, without the place in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].rpartition("): ")[2] if lines else "the file is damaged"
