"""The layout of LUNA16, and plain folders: which series a source holds, and where their files are.

A source is a folder at any URI that holds ``subset0`` to ``subset9`` with one MetaImage a series,
``seg-lungs-LUNA16`` with the lung masks, ``annotations.csv`` and ``candidates_V2.csv``. A source may also be
a folder of MetaImages, or of folders that hold a DICOM series each (at any depth up to four); such series
have the subset -1.
"""

import re
from dataclasses import dataclass

from fsspec import AbstractFileSystem
from fsspec.core import url_to_fs

from lungforge.ct.geometry import VolumeError
from lungforge.ct.io import dicom, metaimage
from lungforge.errors import InputError

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
    """The MetaImage header or the folder of the DICOM series."""
    lung_mask_uri: str | None = None
    """The MetaImage header of its lung mask, when the source has one."""


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
    """List the series of a source; no voxel is read, and of DICOM series one file each.

    Args:
        source: The folder, a local path or any URI that fsspec opens.

    Returns:
        What is there. Of a uid that is there twice, the first by subset and URI is kept and the
        others are rejected.

    Raises:
        InputError: There is no such folder, or it holds no series.
    """
    filesystem, root = url_to_fs(source)
    filesystem.invalidate_cache()
    if not filesystem.isdir(root):
        raise InputError(f"{source}: there is no such folder; give the folder that holds subset0 to subset9")
    folders, files = _list(filesystem, root)
    found: list[SeriesEntry] = []
    rejected: list[RejectedSeries] = []
    _gather(filesystem, root, UNKNOWN_SUBSET, 0, found, rejected)
    masks = _list(filesystem, f"{root.rstrip('/')}/{MASK_FOLDER}")[1] if MASK_FOLDER in folders else {}
    entries: dict[str, SeriesEntry] = {}
    for entry in sorted(found, key=lambda entry: (entry.subset, entry.series_uid, entry.uri)):
        kept = entries.get(entry.series_uid)
        if kept is not None:
            reason = f"the same series is there twice; {kept.uri} is used"
            rejected.append(RejectedSeries(entry.series_uid, entry.uri, reason))
            continue
        mask = masks.get(f"{entry.series_uid}.mhd")
        mask_uri = None if mask is None else _uri(filesystem, mask)
        entries[entry.series_uid] = SeriesEntry(entry.series_uid, entry.subset, entry.uri, mask_uri)
    if not entries and not rejected:
        raise InputError(
            f"{source}: there is no CT series; a source holds subset0/*.mhd and so on as LUNA16 does, "
            "*.mhd files, or folders of DICOM series"
        )
    return Source(
        entries=tuple(entries.values()),
        rejected=tuple(sorted(rejected, key=lambda entry: (entry.series_uid, entry.uri))),
        annotations_uri=_table(filesystem, files, "annotations.csv"),
        candidates_uri=_table(filesystem, files, "candidates_V2.csv"),
    )


def _gather(
    filesystem: AbstractFileSystem,
    folder: str,
    subset: int,
    depth: int,
    found: list[SeriesEntry],
    rejected: list[RejectedSeries],
) -> None:
    """Add the series in a folder and in the folders below it."""
    folders, files = _list(filesystem, folder)
    headers = [path for name, path in sorted(files.items()) if metaimage.is_name(name)]
    for path in headers:
        uid = path.rpartition("/")[2].rpartition(".")[0]
        found.append(SeriesEntry(uid, subset, _uri(filesystem, path)))
    if not headers:
        first = next((path for _, path in sorted(files.items()) if _is_dicom(filesystem, path)), None)
        if first is not None:
            uri = _uri(filesystem, folder)
            try:
                found.append(SeriesEntry(dicom.read_series_uid(filesystem, first), subset, uri))
            except VolumeError as error:
                rejected.append(RejectedSeries(folder.rpartition("/")[2], uri, str(error)))
    if depth < _DEEPEST:
        for name, path in sorted(folders.items()):
            if name != MASK_FOLDER and not name.startswith("."):
                match = _SUBSET.fullmatch(name) if depth == 0 else None
                _gather(filesystem, path, int(match[1]) if match else subset, depth + 1, found, rejected)


def _list(filesystem: AbstractFileSystem, folder: str) -> tuple[dict[str, str], dict[str, str]]:
    """The folders and the files in a folder: name to path."""
    folders: dict[str, str] = {}
    files: dict[str, str] = {}
    for entry in filesystem.ls(folder, detail=True):
        path = entry["name"].rstrip("/")
        kind = folders if entry["type"] == "directory" else files
        kind[path.rpartition("/")[2]] = path
    return folders, files


def _is_dicom(filesystem: AbstractFileSystem, path: str) -> bool:
    """Whether a file is DICOM: after 128 bytes of anything come the letters DICM (PS3.10, 7.1)."""
    if path.lower().endswith((".csv", ".raw", ".zraw", ".json", ".txt", ".md", ".png", ".xml")):
        return False
    return filesystem.cat_file(path, start=0, end=132)[128:] == b"DICM"


def _table(filesystem: AbstractFileSystem, files: dict[str, str], name: str) -> str | None:
    return _uri(filesystem, files[name]) if name in files else None


def _uri(filesystem: AbstractFileSystem, path: str) -> str:
    """A path of this file system as a URI; a local path stays a path."""
    return path if "file" in filesystem.protocol else filesystem.unstrip_protocol(path)
