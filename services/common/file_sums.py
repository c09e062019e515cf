"""Which files a run has written for other programs: by this record, and by nothing else, they are whole."""

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lungforge.storage import join_uri
from lungforge.storage.reading import list_folder
from lungforge.storage.verified import file_digest

#: Files that are hashed at a time: on object storage each is a round trip.
_READERS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class FileSum:
    """Size in bytes, and sha256 in hexadecimal, of a file."""

    bytes: int
    sha256: str


class FileSums:
    """The files below a folder, by path within it."""

    def __init__(self, files: dict[str, FileSum] | None = None) -> None:
        self.files = {} if files is None else files

    def add(self, path: str, data: bytes) -> None:
        """Record a file that has some content."""
        self.files[path] = FileSum(len(data), hashlib.sha256(data).hexdigest())

    def to_json(self) -> dict[str, Any]:
        """As JSON values, by path."""
        return {path: dataclasses.asdict(self.files[path]) for path in sorted(self.files)}

    @classmethod
    def from_json(cls, document: Any) -> "FileSums":
        """Raises TypeError where the document is none of ``to_json``."""
        if not isinstance(document, dict):
            raise TypeError("no record of files")
        return cls({path: FileSum(**values) for path, values in document.items()})

    def first_wrong(self, uri: str) -> str | None:
        """The path of a file that is missing from a folder, or is not as it was written; None if all are.

        Raises:
            AccessError: A file cannot be read now.
        """
        folders = defaultdict(list)
        for path in sorted(self.files):
            folders[path.rpartition("/")[0]].append(path)
        for folder, paths in folders.items():
            sizes = _sizes(join_uri(uri, folder) if folder else uri)
            for path in paths:
                if sizes.get(path.rpartition("/")[2]) != self.files[path].bytes:
                    return path
        with ThreadPoolExecutor(_READERS) as pool:
            return next(self._altered(pool, uri), None)

    def _altered(self, pool: ThreadPoolExecutor, uri: str) -> Iterator[str]:
        paths = sorted(self.files)
        for start in range(0, len(paths), 2 * _READERS):
            some = paths[start : start + 2 * _READERS]
            digests = pool.map(lambda path: _digest(join_uri(uri, path), self.files[path].bytes), some)
            for path, digest in zip(some, digests, strict=True):
                if digest != self.files[path].sha256:
                    yield path


def _sizes(folder: str) -> dict[str, int]:
    try:
        return {entry.name: entry.size for entry in list_folder(folder) if not entry.is_folder}
    except FileNotFoundError:
        return {}


def _digest(uri: str, size: int) -> str | None:
    try:
        return file_digest(uri, size)
    except FileNotFoundError:
        return None
