"""Writing local files whole or not at all, safe from kills, power cuts and other writers."""

import contextlib
import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from lungforge.errors import AccessError, InputError

#: Ends the name of a file that is being written; the name starts with a dot. No reader lists such names.
TEMPORARY_SUFFIX = ".tmp"
#: How often a write whose temporary file is cleaned away is tried.
_ATTEMPTS = 5


def write_local(path: Path, data: bytes, *, exclusive: bool) -> None:
    """Write a file under its name at once; ``exclusive``: never in the place of another content.

    Raises:
        FileExistsError: ``exclusive``, and a file with other content is there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, "a file where a folder should be", error.filename) from error
    for _ in range(_ATTEMPTS):
        temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        try:
            if exclusive and path.exists():
                _require_same(path, data)
            else:
                _write_flushed(temporary, data)
                _link(temporary, path) if exclusive else temporary.replace(path)
        except FileNotFoundError:
            continue  # the temporary file was cleaned away by a writer that has just finished
        finally:
            temporary.unlink(missing_ok=True)
        _flush_folder(path.parent)
        return
    raise AccessError(f"{path}: temporary files vanish while they are written")


def require_writable_local(folder: Path) -> None:
    """Raise what would keep files from being written below a folder that may be there or not."""
    present = next(path for path in (folder, *folder.parents) if path.exists())
    if not present.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a file where a folder should be", str(present))
    if os.statvfs(present).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(present))
    if not os.access(present, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(present))


def _link(temporary: Path, path: Path) -> None:
    """Give a whole file its name at once; unlike a rename, never in the place of another file."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        _require_same(path, temporary.read_bytes())
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS):
            raise
        raise InputError(f"{path}: this file system has no hard links; choose another place") from error


def _require_same(path: Path, data: bytes) -> None:
    if path.read_bytes() != data:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))


def _write_flushed(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _flush_folder(path: Path) -> None:
    """Make the names in a folder durable, so that no manifest survives a power cut that its parts do not."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked_folder(path: Path) -> Iterator[None]:
    """Hold a folder against other processes that lock it; a process that dies lets it go."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
