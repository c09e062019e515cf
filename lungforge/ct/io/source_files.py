"""Which files of a source belong together, where its tables are, and what else it holds."""

from collections.abc import Iterable

from lungforge.ct.io import metaimage
from lungforge.ct.io.source_walk import VOXEL_ENDINGS, Folder, PassedOver, stem
from lungforge.storage.reading import Entry, read_file

_ARCHIVES = (".zip", ".7z", ".rar", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst")
_OTHER_FORMATS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mnc", ".vtk", ".npy", ".npz", ".h5", ".hdf5", ".mat")


def by_header(folder: Folder) -> dict[str, tuple[str, ...]]:
    """For each MetaImage header in a folder, its URI and those of the files that may hold its voxels.

    Those are the files that share its name up to the ending, and those that share it with no header.
    """
    headers = [(stem(entry.name), entry.uri) for entry in folder.files if metaimage.is_name(entry.name)]
    shared: list[str] = []
    beside: dict[str, list[str]] = {stem: [] for stem, _ in headers}
    for entry in folder.files:
        if not metaimage.is_name(entry.name):
            beside.get(stem(entry.name), shared).append(entry.uri)
    return {uri: (uri, *beside[stem], *shared) for stem, uri in headers}


def find_table(name: str, folders: Iterable[Folder], passed: PassedOver) -> str | None:
    """The URI of a table, whose name may be in other letters: in the source itself, else the only one below.

    Several below it with the same content are as good as one. Those that are not read are noted.
    """
    there = [
        (folder.names, entry.name != name, entry)
        for folder in folders
        for entry in folder.files
        if entry.name.lower() == name.lower()
    ]
    ordered = [entry for _, _, entry in sorted(there, key=lambda one: (len(one[0]), *one[:2]))]
    if not ordered:
        return None
    first, *others = ordered
    at_the_top = any(not names for names, _, _ in there)
    if others and not at_the_top and not all(_are_the_same(first, other) for other in others):
        for entry in ordered:
            passed.add(
                f"{name} is there more than once, not read; put the right one into the source", entry.uri
            )
        return None
    for entry in others:
        passed.add(f"{name} is there more than once, not read but for the first", entry.uri)
    return first.uri


def note_other(entry: Entry, folder: Folder, passed: PassedOver) -> None:
    """Note a file that is neither a header, nor of a DICOM series, nor a table: it is voxels, or no scan."""
    name = entry.name.lower()
    if name.endswith(VOXEL_ENDINGS):
        if stem(entry.name) not in folder.header_stems and not folder.lacks_voxels:
            passed.add("voxels without a header (.mhd)", entry.uri)
    elif name.endswith(_OTHER_FORMATS):
        passed.add("formats that are not read (convert to MetaImage or DICOM)", entry.uri)
    elif name.endswith(_ARCHIVES):
        passed.add("archives, which are to be unpacked first", entry.uri)
    else:
        passed.add("no scans", entry.uri)


def _are_the_same(one: Entry, other: Entry) -> bool:
    return one.size == other.size and read_file(one.uri) == read_file(other.uri)
