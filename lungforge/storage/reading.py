"""Reading what other programs wrote: folders and byte ranges, for which the store's word is checked.

A store that sends fewer bytes than it states proves nothing about the file, so that is an AccessError.
"""

import errno
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from lungforge.errors import AccessError
from lungforge.storage.errors import explained
from lungforge.storage.files import open_uri

_READERS = 16
"""Files that are read at a time: on object storage each is a few round trips."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or a folder in a folder."""

    name: str
    """The last part of its URI."""
    uri: str
    """A local path when it is local."""
    is_folder: bool
    size: int
    """Of a file, in bytes."""
    leads_to: str | None = None
    """Of a symbolic link, the path that it leads to, without any further link."""
    is_special: bool = False
    """Whether it is neither a file nor a folder, but a pipe, a device, or a link to nothing."""


def list_folder(uri: str) -> list[Entry]:
    """What is in a folder, by name.

    Raises:
        FileNotFoundError: There is no such folder.
        AccessError: It cannot be listed now.
    """
    fs, path = open_uri(uri)
    with explained(uri):
        listed = fs.ls(path, detail=True)
    entries = []
    for item in listed:
        place = item["name"].rstrip("/")
        leads_to = os.path.realpath(place) if item.get("islink") else None
        kind = item["type"] if leads_to is None else _kind(leads_to)
        is_folder = kind == "directory"
        if place.strip("/") == path.strip("/"):
            if not is_folder and not item["name"].endswith("/"):
                raise FileNotFoundError(f"{uri} is a file")
            continue  # the empty object that some programs put in the place of a folder
        size = 0 if is_folder else int(item["size"])
        name, entry_uri = place.rpartition("/")[2], _uri_of(fs, place)
        entries.append(Entry(name, entry_uri, is_folder, size, leads_to, kind == "other"))
    return sorted(entries, key=lambda entry: entry.name)


def real_uri(uri: str) -> str:
    """Where a local path leads when the symbolic links in it are followed; any other URI as it is."""
    fs, path = open_uri(uri)
    return os.path.realpath(path) if isinstance(fs, LocalFileSystem) else uri


def file_size(uri: str) -> int:
    """The size of a file, in bytes.

    Raises:
        FileNotFoundError: There is no such file.
        AccessError: The store does not say now.
    """
    fs, path = open_uri(uri)
    with explained(uri):
        try:
            information = fs.info(path)
        except OSError as error:
            if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):  # no file can ever be there
                raise FileNotFoundError(f"{uri}: {error.strerror}") from error
            raise
    if information["type"] != "file":  # nor a pipe, whose reader would wait for ever
        raise FileNotFoundError(f"{uri} is no file")
    return int(information["size"])


def read_range(uri: str, start: int, stop: int) -> bytes:
    """The bytes ``start`` to ``stop`` (excluded) of a file that has so many.

    Raises:
        FileNotFoundError: There is no such file.
        AccessError: It cannot be read now, or fewer bytes arrive.
    """
    if start == stop:
        return b""
    fs, path = open_uri(uri)
    with explained(uri):
        data: bytes = fs.cat_file(path, start=start, end=stop)
    if len(data) != stop - start:
        raise AccessError(f"{uri}: {len(data)} of {stop - start} bytes arrived; try again later")
    return data


def read_file(uri: str) -> bytes:
    """The whole content of a file, as many bytes as the store states.

    Raises:
        FileNotFoundError: There is no such file.
        AccessError: It cannot be read now, or fewer bytes arrive.
    """
    return read_range(uri, 0, file_size(uri))


@contextmanager
def local_files(uris: Sequence[str]) -> Iterator[list[Path]]:
    """Files on this machine, for libraries that read only local files.

    Args:
        uris: Files that were listed.

    Yields:
        For each the file itself when it is local, else a copy that lasts as long as the context; a copy also
        if its name is not text, which libraries refuse.

    Raises:
        AccessError: A file cannot be read now, or is gone since it was listed.
    """
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(_READERS) as pool:

        def fetch(index: int, uri: str) -> Path:
            try:
                fs, path = open_uri(uri)
                if isinstance(fs, LocalFileSystem) and path.isprintable():
                    # A library may pass over a file that it cannot open.
                    read_range(uri, 0, min(1, file_size(uri)))
                    return Path(path)
                data = read_file(uri)
            except FileNotFoundError as error:
                raise AccessError(f"{uri}: gone since it was listed") from error
            copy = Path(folder) / str(index)
            with explained(str(copy)):
                copy.write_bytes(data)
            return copy

        yield list(pool.map(fetch, range(len(uris)), uris))


def _kind(path: str) -> str:
    """What a local path is, in the words of fsspec; unlike the methods of Path, these tests never raise."""
    if os.path.isdir(path):  # noqa: PTH112
        return "directory"
    return "file" if os.path.isfile(path) else "other"  # noqa: PTH113


def _uri_of(fs: fsspec.AbstractFileSystem, path: str) -> str:
    return path if isinstance(fs, LocalFileSystem) else fs.unstrip_protocol(path)
