"""The folders and files of a source: what is searched, and what is passed over and why."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

from lungforge.ct.io.source_names import fold_of
from lungforge.errors import AccessError
from lungforge.storage.reading import Entry, list_folder, real_uri

VOXEL_ENDINGS = (".raw", ".zraw")
"""How the files beside MetaImage headers end."""
DEEPEST = 12
"""Levels of folders below a source that are searched; the download of an archive has six."""

_LISTERS = 16
"""Folders that are listed at a time: on object storage each is a round trip."""
_SYSTEM_FOLDERS = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
_SYSTEM_FILES = {"thumbs.db", "desktop.ini"}
_NAMED = 3
"""How many places a note names of those with the same reason."""


@dataclass(frozen=True)
class Folder:
    """A folder of a source."""

    uri: str
    names: tuple[str, ...]
    """The names of the folders from the source down to it; none of the source itself."""
    real: str
    """Its path without links; of a folder that is not local, its URI."""
    files: tuple[Entry, ...] = ()
    """Its files by name, without those that are passed over."""
    links_out: tuple[str, ...] = ()
    """URIs of its files that are links which lead out of the source."""

    @cached_property
    def header_stems(self) -> set[str]:
        """The names of its MetaImage headers with voxels beside them, without the ending."""
        return {stem(entry.name) for entry in self.files if entry.name.lower().endswith(".mhd")}

    @cached_property
    def lacks_voxels(self) -> bool:
        """Whether a header has no voxels of its name, so that they may have any other."""
        voxels = {stem(entry.name) for entry in self.files if entry.name.lower().endswith(VOXEL_ENDINGS)}
        return not self.header_stems <= voxels


class PassedOver:
    """What of a source is not used, by reason."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._places: dict[str, list[str]] = {}

    def add(self, reason: str, uri: str) -> None:
        """Pass over a file or a folder."""
        self._places.setdefault(reason, []).append(printable(uri.removeprefix(f"{self._root}/")))

    def notes(self) -> list[str]:
        """A line for each reason: how many there are, and the first of them."""
        return [
            f"{reason}: {', '.join(sorted(places)[:_NAMED])}"
            + (f" and {len(places) - _NAMED} more" if len(places) > _NAMED else "")
            for reason, places in sorted(self._places.items())
        ]


def walk(root: str, passed: PassedOver) -> list[Folder]:
    """List a source and the folders below it, those of one depth before deeper ones.

    A folder is listed once, whichever links lead to it; that by the name of a fold counts. Links that lead
    out of the source are not followed. Hidden folders, and what systems leave behind (``._NAME``,
    ``.DS_Store``, ``__MACOSX``, ``Thumbs.db``), hold no scans.

    Args:
        root: The source.
        passed: Takes what is passed over.

    Raises:
        FileNotFoundError: There is no such folder.
        AccessError: A folder cannot be listed now, or is gone since it was listed.
    """
    top = Folder(root, (), real_uri(root))
    folders: list[Folder] = []
    level, seen = [top], {top.real}
    with ThreadPoolExecutor(_LISTERS) as pool:
        while level:
            below: list[Folder] = []
            for folder, entries in zip(level, pool.map(_list, level), strict=True):
                sound = [entry for entry in entries if _is_sound(entry, top, passed)]
                files = tuple(entry for entry in sound if not entry.is_folder)
                links_out = tuple(entry.uri for entry in entries if _leads_out(entry, top))
                folders.append(replace(folder, files=files, links_out=links_out))
                below += _below(folder, [entry for entry in sound if entry.is_folder], passed)
            level = []
            for folder in sorted(below, key=lambda folder: (fold_of(folder.names[-1]) is None, folder.uri)):
                if folder.real in seen:
                    passed.add("links to folders that are searched already, not followed", folder.uri)
                else:
                    seen.add(folder.real)
                    level.append(folder)
    return folders


def stem(name: str) -> str:
    """The name of a file without its ending."""
    return name.rpartition(".")[0]


def printable(text: str) -> str:
    """The text as it may stand in a line: what would break it, or is no text, is escaped."""
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text
    )


def _list(folder: Folder) -> list[Entry]:
    try:
        return list_folder(folder.uri)
    except FileNotFoundError as error:
        if not folder.names:
            raise
        raise AccessError(f"{folder.uri}: gone since it was listed") from error


def _below(folder: Folder, entries: list[Entry], passed: PassedOver) -> list[Folder]:
    """The folders in a folder, unless they lie too deep."""
    if len(folder.names) == DEEPEST and entries:
        passed.add(f"more than {DEEPEST} levels of folders deep, not searched", entries[0].uri)
        return []
    return [
        Folder(entry.uri, (*folder.names, entry.name), entry.leads_to or f"{folder.real}/{entry.name}")
        for entry in entries
    ]


def _is_sound(entry: Entry, top: Folder, passed: PassedOver) -> bool:
    """Whether a file or a folder is looked at."""
    name = entry.name.lower()
    if entry.is_folder and name in _SYSTEM_FOLDERS:
        return False
    if not entry.is_folder and (name in _SYSTEM_FILES or (name.startswith(".") and not _is_scan(name))):
        return False
    reason = None
    if not entry.name.isprintable():
        reason = "names with letters that cannot be printed, not read"
    elif _leads_out(entry, top):
        reason = "links that lead out of the source, not followed"
    elif entry.is_special:
        reason = "neither files nor folders (pipes, devices, links to nothing), not read"
    elif name.startswith("."):
        reason = "hidden, not read"
    if reason is not None:
        passed.add(reason, entry.uri)
    return reason is None


def _is_scan(name: str) -> bool:
    """Whether a hidden file has the name of a scan, and is no ``._NAME`` of macOS."""
    return name.endswith((".mhd", ".mha", ".dcm")) and not name.startswith("._")


def _leads_out(entry: Entry, top: Folder) -> bool:
    return entry.leads_to is not None and not f"{entry.leads_to}/".startswith(f"{top.real.rstrip('/')}/")
