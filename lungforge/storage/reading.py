"""Reading what other programs wrote: folders and byte ranges, for which the store's word is checked.

A store that sends fewer bytes than it states proves nothing about the file, so that is an AccessError.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from lungforge.errors import AccessError
from lungforge.storage.errors import explained
from lungforge.storage.files import open_uri


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
        is_folder = item["type"] == "directory"
        if place.strip("/") == path.strip("/"):
            if not is_folder and not item["name"].endswith("/"):
                raise FileNotFoundError(f"{uri} is a file")
            continue  # the empty object that some programs put in the place of a folder
        size = 0 if is_folder else int(item["size"])
        entries.append(Entry(place.rpartition("/")[2], _uri_of(fs, place), is_folder, size))
    return sorted(entries, key=lambda entry: entry.name)


def file_size(uri: str) -> int:
    """The size of a file, in bytes.

    Raises:
        FileNotFoundError: There is no such file.
        AccessError: The store does not say now.
    """
    fs, path = open_uri(uri)
    with explained(uri):
        information = fs.info(path)
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
def local_folder(uri: str) -> Iterator[Path]:
    """A folder on this machine with the files of a folder, for libraries that read only local files.

    Yields:
        The folder itself when it is local, else a copy that lasts as long as the context. The files in a
        copy have their position in the listing before their names.

    Raises:
        FileNotFoundError: There is no such folder.
        AccessError: A file cannot be read now.
    """
    files = [entry for entry in list_folder(uri) if not entry.is_folder]
    fs, path = open_uri(uri)
    if isinstance(fs, LocalFileSystem):
        for entry in files:  # a library may pass over a file that it cannot open
            read_range(entry.uri, 0, min(1, entry.size))
        yield Path(path)
        return
    with tempfile.TemporaryDirectory() as folder:
        for index, entry in enumerate(files):
            # The position makes any name of an object a safe and different name of a file.
            local = Path(folder) / f"{index}-{entry.name}"
            data = read_file(entry.uri)
            with explained(str(local)):
                local.write_bytes(data)
        yield Path(folder)


def _uri_of(fs: fsspec.AbstractFileSystem, path: str) -> str:
    return path if isinstance(fs, LocalFileSystem) else fs.unstrip_protocol(path)
