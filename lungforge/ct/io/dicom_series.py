"""Which DICOM series the files of a source make up, told from the headers alone.

A hospital's folder holds more than slices: localizers, reports, copies, several series, or a part of one.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from lungforge.ct.geometry import VolumeError
from lungforge.ct.io.dicom_header import DicomHeader, NotDicomError, read_header
from lungforge.storage.reading import Entry

_READERS = 16
"""Headers that are read at a time: on object storage each is a round trip."""

_OTHER_ENDINGS = (
    ".csv", ".tsv", ".xls", ".xlsx", ".json", ".txt", ".md", ".xml", ".html", ".pdf", ".py", ".log",
    ".raw", ".zraw", ".nii", ".nrrd", ".npy", ".npz", ".h5", ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif",
    ".zip", ".gz", ".tgz", ".tar", ".7z", ".bz2", ".rar", ".sqlite", ".db", ".exe", ".dll", ".ini", ".inf",
)  # fmt: skip
"""Names that end so are not of DICOM files; they are not opened."""

_DIRECTORY = "1.2.840.10008.1.3.10"
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_NOT_OF_THE_PATIENT = {"SEG": "a segmentation", "PR": "a presentation state", "DOC": "a document"}


@dataclass(frozen=True)
class DicomSeries:
    """The files of one volume."""

    series_uid: str
    files: tuple[str, ...]
    """URIs, sorted; they may lie in several folders."""


@dataclass(frozen=True)
class LeftOut:
    """A file that belongs to no volume, and why."""

    uri: str
    reason: str
    series_uid: str = ""
    """The DICOM series that it states, if any."""
    may_be_slice: bool = False
    """Whether it may be a slice, so that a scan may lack it; otherwise it is known to be none."""


def find_dicom_series(files: Sequence[Entry]) -> tuple[list[DicomSeries], list[LeftOut]]:
    """Find the DICOM series among files, and what each other file is.

    Files of one series uid make one volume, wherever they lie. Localizers, objects without an image, and
    copies (of one SOP instance uid) are left out. Of slices of several orientations or grids within a series,
    the main ones (axial, then the most) are kept.

    Args:
        files: Files of all folders of a source.

    Returns:
        The series, by uid, each uid once: not all need be CT, or whole; reading tells. And the files that are
        no part of them, by URI.

    Raises:
        AccessError: A file cannot be read now, or is gone since it was listed.
    """
    left: list[LeftOut] = []
    series: dict[str, list[DicomHeader]] = {}
    for entry, header in zip(files, _headers(files), strict=True):
        if isinstance(header, LeftOut):
            left.append(header)
        elif reason := _no_slice(header):
            uid, unknown = (header.series_uid, False) if _is_uid(header.series_uid) else ("", True)
            left.append(LeftOut(entry.uri, reason, uid, may_be_slice=unknown))
        else:
            series.setdefault(header.series_uid, []).append(header)
    found = []
    for uid, headers in series.items():
        slices, copies = _without_copies(headers)
        slices, others = _main_slices(slices)
        left += copies + others
        found.append(DicomSeries(uid, tuple(sorted(header.uri for header in slices))))
    return sorted(found, key=lambda one: one.series_uid), sorted(left, key=lambda file: file.uri)


def _headers(files: Sequence[Entry]) -> Iterable[DicomHeader | LeftOut]:
    """The header of each file, or what it is if it is not DICOM."""

    def read(entry: Entry) -> DicomHeader | LeftOut:
        if entry.name.lower().endswith(_OTHER_ENDINGS):
            return LeftOut(entry.uri, "not a DICOM file")
        try:
            return read_header(entry.uri, entry.size)
        except VolumeError as error:
            return LeftOut(entry.uri, str(error), may_be_slice=not isinstance(error, NotDicomError))

    with ThreadPoolExecutor(_READERS) as pool:
        return list(pool.map(read, files))


def _no_slice(header: DicomHeader) -> str | None:
    """Why a DICOM file can be no slice of any volume."""
    if header.sop_class == _DIRECTORY:
        return "an index of files (DICOMDIR)"
    if header.size is None:
        return f"not an image ({header.modality or 'no rows and columns'})"
    if header.modality in _NOT_OF_THE_PATIENT:
        return f"{_NOT_OF_THE_PATIENT[header.modality]} ({header.modality})"
    if "LOCALIZER" in header.image_type:
        return "a localizer"
    if header.sop_class == _SECONDARY_CAPTURE and header.position_mm is None:
        return "a secondary capture without a position"
    if not _is_uid(header.series_uid):
        return f"its SeriesInstanceUID {header.series_uid[:64]!r} is no uid"
    return None


def _is_uid(text: str) -> bool:
    """Whether a text can name a series; anonymisers also write words."""
    return 0 < len(text) <= 64 and text.isprintable()


def _without_copies(headers: list[DicomHeader]) -> tuple[list[DicomHeader], list[LeftOut]]:
    """Keep one file of each SOP instance.

    Two slices at different places are no copies, whatever their uids: careless anonymisers give all slices
    the same one. Of copies the longest is kept, since a copy may have been cut off.
    """
    kept: dict[tuple[object, ...], DicomHeader] = {}
    copies = []
    for header in sorted(headers, key=lambda header: (-header.file_bytes, header.uri)):
        key = (header.instance_uid or header.uri, header.position_mm, header.orientation)
        first = kept.setdefault(key, header)
        if first is not header:
            reason = f"the same SOPInstanceUID as {first.uri}"
            copies.append(LeftOut(header.uri, reason, header.series_uid))
    return sorted(kept.values(), key=lambda header: header.uri), copies


def _main_slices(headers: list[DicomHeader]) -> tuple[list[DicomHeader], list[LeftOut]]:
    """Of the grids that the slices of a series lie on, keep the axial one, or the one with the most slices.

    A part of the same scan with another grid is not left out, lest half of a scan pass for the whole: then
    all are kept, and reading refuses them. So it does if a header is wrong.
    """
    grids: list[list[DicomHeader]] = []
    broken = [header for header in headers if header.wrong]
    for header in (header for header in headers if not header.wrong):
        for grid in grids:
            if same_grid(header, grid[0]):
                grid.append(header)
                break
        else:
            grids.append([header])
    grids.sort(key=lambda grid: (not _is_axial(grid[0]), -len(grid), grid[0].uri))
    if not grids or broken:
        return headers, []
    main, *others = grids
    left = []
    for grid in others:
        if same_orientation(grid[0], main[0]) and not _overlap(main, grid):
            return headers, []
        reason = (
            f"another size, pixel spacing or orientation than {len(main)} other slices of its series; "
            f"{main[0].uri} and the others are used"
        )
        left += [LeftOut(header.uri, reason, header.series_uid, True) for header in grid]
    return main, left


def same_grid(one: DicomHeader, other: DicomHeader) -> bool:
    """Whether two slices have the same size, pixel spacing, orientation and number of frames."""
    shape = (one.size, one.frames, one.samples) == (other.size, other.frames, other.samples)
    return (
        shape and _close(one.pixel_spacing_mm, other.pixel_spacing_mm, 1e-4) and same_orientation(one, other)
    )


def same_orientation(one: DicomHeader, other: DicomHeader) -> bool:
    """Whether two slices have the same orientation, or neither has one."""
    return _close(one.orientation, other.orientation, 1e-3)


def _close(one: tuple[float, ...] | None, other: tuple[float, ...] | None, tolerance: float) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.allclose(one, other, rtol=tolerance, atol=tolerance))


def _is_axial(header: DicomHeader) -> bool:
    if header.orientation is None:
        return False
    normal = np.cross(header.orientation[:3], header.orientation[3:])
    return bool(np.abs(normal).argmax() == 2)


def _overlap(one: list[DicomHeader], other: list[DicomHeader]) -> bool:
    """Whether the heights of two stacks of slices overlap by half of the lower one."""
    (low, high), (other_low, other_high) = _extent(one), _extent(other)
    shared = min(high, other_high) - max(low, other_low)
    return shared >= 0.5 * min(high - low, other_high - other_low)


def _extent(headers: list[DicomHeader]) -> tuple[float, float]:
    heights = [_height(header) for header in headers]
    return min(heights), max(heights)


def _height(header: DicomHeader) -> float:
    """Where a slice lies along the normal of its plane, in mm."""
    if header.position_mm is None or header.orientation is None:
        return 0.0
    return float(np.dot(np.cross(header.orientation[:3], header.orientation[3:]), header.position_mm))
