"""The layout of LUNA16, and plain folders: which series a source holds, and where their files are.

A source is a folder at any URI that holds ``subset0`` to ``subset9`` with one MetaImage a series,
``seg-lungs-LUNA16`` with the lung masks, ``annotations.csv`` and ``candidates_V2.csv``. A source may also be
a folder of MetaImages, or of folders that hold a DICOM series each (at any depth up to four); such series
have the subset -1.
"""

import re
from dataclasses import dataclass, field, replace

from lungforge.ct.io import metaimage
from lungforge.ct.io.dicom_series import find_dicom_series
from lungforge.errors import AccessError, InputError
from lungforge.storage.files import absolute_uri
from lungforge.storage.reading import Entry, list_folder

MASK_FOLDER = "seg-lungs-LUNA16"
"""Where LUNA16 keeps its lung masks."""

UNKNOWN_SUBSET = -1
"""The subset of a series that lies in none."""

_SUBSET = re.compile(r"subset(\d)")
_DEEPEST = 4


@dataclass(frozen=True)
class SeriesEntry:
    """One series of a source."""

    series_uid: str
    """The uid that annotations.csv and candidates_V2.csv name it by."""
    subset: int
    """The LUNA16 fold 0..9, or -1."""
    uri: str
    """The MetaImage header, or the folder of the first file of the DICOM series."""
    lung_mask_uri: str | None = None
    """The MetaImage header of its lung mask, when the source has one."""
    files: tuple[str, ...] = ()
    """URIs of the files of the DICOM series; none of a MetaImage."""
    listed: tuple[str, ...] = field(default=(), compare=False, repr=False)
    """URIs of all that it was listed with: its files, and those of its lung mask."""


@dataclass(frozen=True)
class RejectedSeries:
    """A series of a source that cannot be used, and why."""

    series_uid: str
    uri: str
    reason: str


@dataclass(frozen=True)
class Source:
    """What a source holds."""

    entries: tuple[SeriesEntry, ...]
    """The series, sorted by subset and uid; each uid once."""
    rejected: tuple[RejectedSeries, ...]
    """What looks like a series but is not used: a uid that an earlier entry has, a broken DICOM file."""
    annotations_uri: str | None
    """annotations.csv, when it is there."""
    candidates_uri: str | None
    """candidates_V2.csv, when it is there."""


def list_series(source: str) -> Source:
    """List the series of a source; no voxel is read, but the headers of DICOM files are.

    Args:
        source: The folder, a local path or any URI that fsspec opens.

    Returns:
        What is there. Of a uid that is there twice, the first by subset and URI is kept and the
        others are rejected.

    Raises:
        InputError: There is no such folder, or it holds no series.
        AccessError: A folder cannot be listed now, or is gone since it was listed.
    """
    root = absolute_uri(source)
    try:
        folders, files = _list(root)
    except FileNotFoundError as error:
        raise InputError(
            f"{source}: there is no such folder; give the folder that holds subset0 to subset9"
        ) from error
    series: list[SeriesEntry] = []
    rejected: list[RejectedSeries] = []
    others: dict[str, tuple[Entry, int]] = {}
    _gather(folders, files, UNKNOWN_SUBSET, 0, series, others)
    found, left_out = find_dicom_series([entry for entry, _ in others.values()])
    for file in left_out:
        if file.may_be_slice:
            name = file.series_uid or file.uri.rpartition("/")[2]
            rejected.append(RejectedSeries(name, file.uri, file.reason))
    for one in found:
        first = one.files[0]
        subset = others[first][1]
        folder = first.rpartition("/")[0]
        series.append(SeriesEntry(one.series_uid, subset, folder, files=one.files, listed=one.files))
    masks = _list_below(folders[MASK_FOLDER])[1] if MASK_FOLDER in folders else {}
    mask_files = _by_header(masks)
    entries: dict[str, SeriesEntry] = {}
    for entry in sorted(series, key=lambda entry: (entry.subset, entry.series_uid, entry.uri)):
        kept = entries.get(entry.series_uid)
        if kept is not None:
            reason = f"the same series is there twice; {kept.uri} is used"
            rejected.append(RejectedSeries(entry.series_uid, entry.uri, reason))
            continue
        mask = masks.get(f"{entry.series_uid}.mhd")
        if mask is not None:
            listed = (*entry.listed, *mask_files[mask.uri])
            entry = replace(entry, lung_mask_uri=mask.uri, listed=listed)
        entries[entry.series_uid] = entry
    if not entries and not rejected:
        raise InputError(
            f"{source}: there is no CT series; a source holds subset0/*.mhd and so on as LUNA16 does, "
            "*.mhd files, or folders of DICOM series"
        )
    return Source(
        entries=tuple(entries.values()),
        rejected=tuple(sorted(rejected, key=lambda entry: (entry.series_uid, entry.uri))),
        annotations_uri=_uri_of("annotations.csv", files),
        candidates_uri=_uri_of("candidates_V2.csv", files),
    )


def _gather(
    folders: dict[str, str],
    files: dict[str, Entry],
    subset: int,
    depth: int,
    series: list[SeriesEntry],
    others: dict[str, tuple[Entry, int]],
) -> None:
    """Add the MetaImages in a folder and in the folders below it, and of folders without any all files."""
    headers = _by_header(files)
    for uri, listed in headers.items():
        uid = uri.rpartition("/")[2].rpartition(".")[0]
        series.append(SeriesEntry(uid, subset, uri, listed=listed))
    if not headers:
        others.update((entry.uri, (entry, subset)) for entry in files.values())
    if depth < _DEEPEST:
        for name, uri in folders.items():
            if name != MASK_FOLDER and not name.startswith("."):
                match = _SUBSET.fullmatch(name) if depth == 0 else None
                below = _list_below(uri)
                _gather(*below, int(match[1]) if match else subset, depth + 1, series, others)


def _list(folder: str) -> tuple[dict[str, str], dict[str, Entry]]:
    """The folders (name to URI) and the files in a folder, by name."""
    entries = list_folder(folder)
    folders = {entry.name: entry.uri for entry in entries if entry.is_folder}
    return folders, {entry.name: entry for entry in entries if not entry.is_folder}


def _list_below(folder: str) -> tuple[dict[str, str], dict[str, Entry]]:
    """As ``_list``, for a folder that a listing shows.

    Raises:
        AccessError: It is gone since.
    """
    try:
        return _list(folder)
    except FileNotFoundError as error:
        raise AccessError(f"{folder}: gone since it was listed") from error


def _by_header(files: dict[str, Entry]) -> dict[str, tuple[str, ...]]:
    """For each MetaImage header in a folder, its URI and those of the files that may hold its voxels.

    Those are the files that share its name up to the ending, and those that share it with no header.
    """
    headers = [(_stem(name), entry.uri) for name, entry in files.items() if metaimage.is_name(name)]
    shared: list[str] = []
    beside: dict[str, list[str]] = {stem: [] for stem, _ in headers}
    for name, entry in files.items():
        if not metaimage.is_name(name):
            beside.get(_stem(name), shared).append(entry.uri)
    return {uri: (uri, *beside[stem], *shared) for stem, uri in headers}


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _uri_of(name: str, files: dict[str, Entry]) -> str | None:
    return files[name].uri if name in files else None
