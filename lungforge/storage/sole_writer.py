"""One process at a time writes into a local folder; one that dies lets it go."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from fsspec.implementations.local import LocalFileSystem

from lungforge.errors import InputError
from lungforge.storage.errors import explained
from lungforge.storage.files import open_uri


@contextlib.contextmanager
def sole_writer(uri: str) -> Iterator[None]:
    """Hold a local folder, which is made where it is missing, against other writers.

    Object stores know no locks that die with their holder: there, and on network disks without locks, only
    exclusive creates keep writers apart.

    Raises:
        InputError: Another process holds it, or a file is in the way.
        AccessError: It cannot be made or opened now.
    """
    fs, path = open_uri(uri)
    if not isinstance(fs, LocalFileSystem):
        yield
        return
    with explained(uri):
        try:
            Path(path).mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        except FileExistsError as error:
            raise InputError(f"{uri}: a file is in the way; choose another place") from error
    try:
        _lock(descriptor, uri)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, uri: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            f"{uri}: another run is writing there; wait for its end, or choose another place"
        ) from error
    except OSError:
        return  # a network disk without locks
