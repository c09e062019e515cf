"""The layout of LUNA16, and plain folders: which series a source holds, and where their files are.

A source is a folder at any URI that holds ``subset0`` to ``subset9`` with one MetaImage a series,
``seg-lungs-LUNA16`` with the lung masks, ``annotations.csv`` and ``candidates_V2.csv``, each also in a folder
of its own name, as archives unpack. A source may also be a folder of MetaImages, or of folders with the files
of DICOM series, at any depth up to ``source_walk.DEEPEST``; such series have the subset -1.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from lungforge.ct.geometry import VolumeError
from lungforge.ct.io import metaimage
from lungforge.ct.io.dicom_series import find_dicom_series
from lungforge.ct.io.patient_table import METADATA, PATIENTS
from lungforge.ct.io.source_files import by_header, find_table, note_other
from lungforge.ct.io.source_names import fold_of, holds_luna_masks, holds_masks, is_like_fold, scan_of_mask
from lungforge.ct.io.source_walk import Folder, PassedOver, printable, walk
from lungforge.errors import InputError
from lungforge.storage.files import absolute_uri

MASK_FOLDER = "seg-lungs-LUNA16"
"""Where LUNA16 keeps its lung masks."""

UNKNOWN_SUBSET = -1
"""The subset of a series that lies in none."""

ANNOTATIONS, CANDIDATES, EXCLUDED = "annotations.csv", "candidates_V2.csv", "annotations_excluded.csv"
_TABLES = (ANNOTATIONS, CANDIDATES, EXCLUDED, PATIENTS, METADATA)

_NOT_DICOM = "not a DICOM file"
_OTHER_MASKS = f"masks of scans outside {MASK_FOLDER}, not used"
_LINKED = "links to scans that are used already"


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
    """What looks like a series but is not used: a uid that another entry has, a broken DICOM file."""
    annotations_uri: str | None
    """annotations.csv, when it is there."""
    candidates_uri: str | None
    """candidates_V2.csv, when it is there."""
    excluded_uri: str | None = None
    """annotations_excluded.csv, when it is there."""
    patients_uri: str | None = None
    """patients.csv, when it is there; else the metadata.csv of TCIA."""
    notes: tuple[str, ...] = ()
    """What else of the source is not used, or is not as LUNA16 has it: a line each."""


@dataclass(frozen=True)
class _Found:
    """A series and the folder of its header, or of its first file."""

    entry: SeriesEntry
    folder: Folder
    real: str
    """The path of the header or the first file, without links."""

    @property
    def is_metaimage(self) -> bool:
        return not self.entry.files

    @property
    def in_masks(self) -> bool:
        """Whether the name of a folder says that it is a mask."""
        return self.is_metaimage and any(map(holds_masks, self.folder.names))


def list_series(source: str) -> Source:
    """List the series of a source; no voxel is read, but the headers of DICOM files are.

    Args:
        source: The folder, a local path or any URI that fsspec opens.

    Returns:
        What is there. Every file is of a series, a mask or a table, or is rejected or noted with the reason
        why it is not. Of a uid that is there twice, one in a fold before one in none, and then the first by
        subset and URI, is kept and the others are rejected.

    Raises:
        InputError: There is no such folder, or it holds no series.
        AccessError: A folder or a file cannot be read now, or is gone since it was listed.
    """
    root = absolute_uri(source)
    passed = PassedOver(root)
    try:
        folders = walk(root, passed)
    except FileNotFoundError as error:
        raise InputError(
            f"{source}: there is no such folder; give the folder that holds subset0 to subset9"
        ) from error
    of_masks = [folder for folder in folders if any(map(holds_luna_masks, folder.names))]
    of_scans = [folder for folder in folders if not any(map(holds_luna_masks, folder.names))]
    tables = {name: find_table(name, of_scans, passed) for name in _TABLES}
    rejected: list[RejectedSeries] = []
    found = _metaimages(of_scans, rejected, passed)
    found += _dicom_series(of_scans, tables.values(), rejected, passed)
    found = _each_once(_without_other_masks(found, passed), rejected, passed)
    entries = _with_masks([one.entry for one in found], of_masks, passed)
    if not entries and not rejected:
        raise InputError(
            f"{source}: there is no CT series; a source holds subset0/*.mhd and so on as LUNA16 does, "
            f"*.mhd files, or folders of DICOM series{''.join(f'; {note}' for note in passed.notes())}"
        )
    return Source(
        entries=tuple(sorted(entries, key=lambda entry: (entry.subset, entry.series_uid))),
        rejected=tuple(sorted(rejected, key=lambda entry: (entry.series_uid, entry.uri))),
        annotations_uri=tables[ANNOTATIONS],
        candidates_uri=tables[CANDIDATES],
        excluded_uri=tables[EXCLUDED],
        patients_uri=tables[PATIENTS] or tables[METADATA],
        notes=tuple(passed.notes()),
    )


def _metaimages(
    folders: Iterable[Folder], rejected: list[RejectedSeries], passed: PassedOver
) -> list[_Found]:
    """The MetaImages in some folders."""
    found = []
    for folder in folders:
        real = {entry.uri: entry.leads_to or f"{folder.real}/{entry.name}" for entry in folder.files}
        headers = by_header(folder)
        subset = _subset(folder, passed) if headers else UNKNOWN_SUBSET
        for uri, listed in headers.items():
            uid = _uid(uri)
            if outside := _voxels_outside(uri, folder):
                reason = f"its voxels are in {outside}, a link that leads out of the source"
                rejected.append(RejectedSeries(uid, uri, reason))
            else:
                found.append(_Found(SeriesEntry(uid, subset, uri, listed=listed), folder, real[uri]))
    return found


def _dicom_series(
    folders: Iterable[Folder],
    tables: Iterable[str | None],
    rejected: list[RejectedSeries],
    passed: PassedOver,
) -> list[_Found]:
    """The DICOM series in some folders. What else is there, but for MetaImages and tables, is noted."""
    files = {
        entry.uri: (entry, folder)
        for folder in folders
        for entry in folder.files
        if not metaimage.is_name(entry.name) and entry.uri not in tables
    }
    series, left_out = find_dicom_series([entry for entry, _ in files.values()])
    partial: dict[tuple[str, str], list[str]] = {}
    for file in left_out:
        entry, folder = files[file.uri]
        if file.may_be_slice:
            partial.setdefault((file.series_uid or entry.name, file.reason), []).append(file.uri)
        elif file.reason == _NOT_DICOM:
            note_other(entry, folder, passed)
        else:
            # A copy names the other file, and a line a copy would be too many.
            passed.add(f"DICOM files that are no slices ({file.reason.partition(' as /')[0]})", file.uri)
    for (uid, reason), uris in partial.items():
        more = f" (and {len(uris) - 1} more files)" if len(uris) > 1 else ""
        rejected.append(RejectedSeries(printable(uid), uris[0], f"{uris[0]}{more}: {reason}"))
    found = []
    for one in series:
        first, folder = files[one.files[0]]
        subsets = {_subset(files[uri][1], passed) for uri in one.files}
        subset = subsets.pop() if len(subsets) == 1 else UNKNOWN_SUBSET
        if subsets:
            passed.add("series whose files lie in several folds, read without a fold", folder.uri)
        if not one.series_uid.isprintable():
            uid = printable(one.series_uid)
            rejected.append(
                RejectedSeries(uid, folder.uri, "its series uid has letters that cannot be printed")
            )
            continue
        of_one = SeriesEntry(one.series_uid, subset, folder.uri, files=one.files, listed=one.files)
        found.append(_Found(of_one, folder, first.leads_to or f"{folder.real}/{first.name}"))
    return found


def _subset(folder: Folder, passed: PassedOver) -> int:
    """The fold that the names of the folders down to a series state."""
    folds = {fold for name in folder.names if (fold := fold_of(name)) is not None}
    if len(folds) > 1:
        passed.add("folders of more than one fold, read without a fold", folder.uri)
    elif not folds and any(map(is_like_fold, folder.names)):
        passed.add("folders that are no folds of LUNA16 (0 to 9), read without a fold", folder.uri)
    return folds.pop() if len(folds) == 1 else UNKNOWN_SUBSET


def _without_other_masks(found: list[_Found], passed: PassedOver) -> list[_Found]:
    """Without the masks of scans that lie elsewhere than in seg-lungs-LUNA16, by name of folder or file."""
    scans = {one.entry.series_uid for one in found if not one.in_masks}
    kept = []
    for one in found:
        uid = one.entry.series_uid
        named = scan_of_mask(uid) if one.is_metaimage else uid
        if (named != uid and named in scans) or (one.in_masks and uid in scans):
            passed.add(_OTHER_MASKS, one.entry.uri)
        else:
            kept.append(one)
    return kept


def _each_once(found: list[_Found], rejected: list[RejectedSeries], passed: PassedOver) -> list[_Found]:
    """One series of each uid, and one of each file."""
    of_uid: dict[str, list[_Found]] = {}
    for one in found:
        of_uid.setdefault(one.entry.series_uid, []).append(one)
    kept: dict[str, _Found] = {}
    for uid, several in sorted(of_uid.items()):
        narrow = {one.entry.uri: len(several) > 1 and _has_byte_voxels(one) for one in several}
        several.sort(
            key=lambda one: (
                one.entry.subset < 0, narrow[one.entry.uri], one.entry.subset, one.entry.uri
            )
        )  # fmt: skip
        first, *others = several
        if kept.setdefault(first.real, first) is not first:
            passed.add(_LINKED, first.entry.uri)
        for other in others:
            if other.real == first.real:
                passed.add(_LINKED, other.entry.uri)
            elif narrow[other.entry.uri] and not narrow[first.entry.uri]:
                passed.add(_OTHER_MASKS, other.entry.uri)
            else:
                reason = f"the same series is there twice; {first.entry.uri} is used"
                rejected.append(RejectedSeries(uid, other.entry.uri, reason))
    return list(kept.values())


def _has_byte_voxels(one: _Found) -> bool:
    """Whether the voxels are single bytes: they can be a mask, and no Hounsfield units."""
    try:
        return one.is_metaimage and metaimage.read_header(one.entry.uri).dtype.itemsize == 1
    except (VolumeError, FileNotFoundError):
        return False


def _with_masks(
    entries: list[SeriesEntry], folders: Iterable[Folder], passed: PassedOver
) -> list[SeriesEntry]:
    """The series with the lung masks that folders hold for them."""
    masks: dict[str, tuple[str, tuple[str, ...]]] = {}
    known = {entry.series_uid for entry in entries}
    for folder in folders:
        headers = by_header(folder)
        for uri, listed in headers.items():
            if _voxels_outside(uri, folder):
                passed.add("lung masks whose voxels are links out of the source, not used", uri)
            elif _uid(uri) not in known:
                passed.add("lung masks without a scan", uri)
            elif masks.setdefault(_uid(uri), (uri, listed))[0] != uri:
                passed.add("lung masks that are there twice; the first is used", uri)
        for entry in folder.files:
            if entry.uri not in headers:
                note_other(entry, folder, passed)
    return [
        replace(entry, lung_mask_uri=mask[0], listed=(*entry.listed, *mask[1]))
        if (mask := masks.get(entry.series_uid))
        else entry
        for entry in entries
    ]


def _voxels_outside(uri: str, folder: Folder) -> str | None:
    """The first voxel file of a header that is a link which leads out of the source."""
    if not folder.links_out:
        return None
    try:
        files = metaimage.read_header(uri).files
    except (VolumeError, FileNotFoundError):
        return None  # reading it tells
    return next((file.uri for file in files if file.uri in folder.links_out), None)


def _uid(header_uri: str) -> str:
    return header_uri.rpartition("/")[2].rpartition(".")[0]
