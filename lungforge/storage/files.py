"""Files at URIs: local paths, file://, s3://, lungforge://, memory:// and whatever else fsspec opens.

S3 is reached by the standard AWS environment (``AWS_ENDPOINT_URL``, ``AWS_ACCESS_KEY_ID``,
``AWS_PROFILE``, roles, ...), read by botocore's provider chain.
"""

import contextlib
import errno
import functools
import os
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from lungforge.errors import AccessError, AccessRefusedError, InputError
from lungforge.storage.conditions import IF_MATCH, IF_NONE_MATCH, Condition, require_condition
from lungforge.storage.errors import explained
from lungforge.storage.local import TEMPORARY_SUFFIX, locked_folder, require_writable_local, write_local
from lungforge.storage.packaged import SCHEME, PackagedFileSystem, packaged_path, refuse_to_write
from lungforge.storage.s3_errors import status_of

#: How often a write that collides with another one is tried before giving up.
_COLLISIONS = 5


def open_uri(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The file system of a URI, and the path in it.

    Args:
        uri: A local path, or a URL of a protocol that fsspec knows.

    Raises:
        InputError: The protocol is unknown, its package is missing, or the bucket has no name; no dataset of
            the name comes with LungForge.
    """
    protocol = uri.split("://", 1)[0] if "://" in uri else "file"
    if protocol == SCHEME:
        return PackagedFileSystem(), packaged_path(uri)
    if protocol in ("s3", "s3a"):
        path = uri.partition("://")[2].rstrip("/")
        if not path.split("/", 1)[0]:
            raise InputError(f"{uri}: no bucket; write s3://BUCKET/FOLDER")
        environment = tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_")))
        return _s3(os.getpid(), environment), path
    try:
        return fsspec.core.url_to_fs(uri)
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{uri}: {protocol}:// needs a package that is not installed ({reason}); install it on every "
            "host of the job, or copy the data to a local path or s3://BUCKET/FOLDER"
        ) from error
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"{uri}: {protocol}:// is not to be had here ({reason}); use a local path or s3://BUCKET/FOLDER"
        ) from error


@functools.lru_cache(maxsize=8)
def _s3(process: int, environment: tuple[tuple[str, str], ...]) -> fsspec.AbstractFileSystem:
    """One client a process and AWS environment: none outlives a fork or a change of credentials."""
    from lungforge.storage.s3 import ATTEMPTS, CONNECT_TIMEOUT_S, CONNECTIONS, READ_TIMEOUT_S, S3Store

    config: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "read_timeout": READ_TIMEOUT_S,
        "max_pool_connections": CONNECTIONS,
    }
    if "AWS_MAX_ATTEMPTS" not in dict(environment):
        config["retries"] = {"mode": "standard", "total_max_attempts": ATTEMPTS}
    # A cached listing would hide what other processes write.
    return S3Store(use_listings_cache=False, skip_instance_cache=True, config_kwargs=config)


def absolute_uri(uri: str) -> str:
    """The same place, whatever the working directory of the process that reads it; no slash at the end."""
    fs, path = open_uri(uri)
    return path if isinstance(fs, LocalFileSystem) else uri.rstrip("/")


def join_uri(uri: str, *names: str) -> str:
    """The URI of something below ``uri``."""
    return "/".join([uri.rstrip("/") if uri != "/" else "", *(name.strip("/") for name in names)])


def read_bytes(uri: str) -> bytes:
    """The whole content of a file.

    Raises:
        InputError: It is not there.
        AccessError: It cannot be read now.
    """
    content = read_if_there(uri)
    if content is None:
        raise InputError(f"{uri}: no such file")
    return content


def read_if_there(uri: str) -> bytes | None:
    """The whole content of a file, or None when there is none.

    Raises:
        AccessError: It cannot be read now.
    """
    fs, path = open_uri(uri)
    with explained(uri):
        try:
            return fs.cat_file(path)
        except FileNotFoundError:
            return None


def write_bytes_atomic(uri: str, data: bytes, *, exclusive: bool = False) -> None:
    """Write a file whole or not at all; a reader sees the old content, none, or all of the new one.

    Locally: a hidden temporary file in the same folder, flushed to the disk, then renamed or linked to
    its name. S3: one PUT, or a multipart upload that counts once it is completed.

    Args:
        uri: Where to; missing folders are made.
        data: The content.
        exclusive: Never replace anything.

    Raises:
        FileExistsError: ``exclusive``, and a file with other content is there. The same content is
            taken for a repetition of this request, whose answer was lost.
        InputError: A file is in the way.
        AccessError: It cannot be written now.
        AccessRefusedError: The bucket is missing, the store does not keep ``If-None-Match``, ...
    """
    fs, path = open_uri(uri)
    with explained(uri):
        if isinstance(fs, LocalFileSystem):
            write_local(Path(path), data, exclusive=exclusive)
            return
        try:
            _write_remote(fs, path, data, exclusive)
        except FileNotFoundError as error:
            raise AccessRefusedError(f"{uri}: no such bucket or place; make it first") from error


def replace_bytes(uri: str, data: bytes, *, expected: bytes) -> None:
    """Replace the content of a file at once, if it is still what the caller has read.

    A reader sees the old content or all of the new one. Of two that replace the same content one wins:
    locally by a lock on the folder, on S3 by a conditional PUT (``If-Match``).

    Args:
        uri: The file.
        data: The new content.
        expected: The content that it replaces. ``data`` itself is also taken for expected.

    Raises:
        FileExistsError: The file has other content.
        AccessError: It is gone, or cannot be written now.
        AccessRefusedError: The store does not keep ``If-Match``, ...
    """
    fs, path = open_uri(uri)
    with explained(uri):
        try:
            if isinstance(fs, LocalFileSystem):
                with locked_folder(Path(path).parent):
                    _require_content(fs, path, (expected, data))
                    write_local(Path(path), data, exclusive=False)
            else:
                _replace_remote(fs, path, data, expected)
        except FileNotFoundError as error:
            raise AccessError(f"{uri}: gone since it was read") from error


def require_writable(uri: str) -> None:
    """Make sure that files can be written below a folder, and that exclusive writes exclude other writers.

    Nothing stays; on S3 it costs three requests, once a process and bucket.

    Raises:
        InputError: A file is in the way, or the place is read-only by its nature (lungforge://).
        AccessRefusedError: Nothing may be written there, or S3 does not keep ``If-None-Match``.
    """
    fs, path = open_uri(uri)
    with explained(uri):
        if isinstance(fs, LocalFileSystem):
            require_writable_local(Path(path))
        elif isinstance(fs, PackagedFileSystem):
            refuse_to_write(uri)
        else:
            _require_condition(fs, f"{path}/any", IF_NONE_MATCH)


def remove_temporaries(uri: str) -> None:
    """Remove what killed writers left in a folder. A living writer that loses its file writes it again."""
    fs, path = open_uri(uri)
    if isinstance(fs, LocalFileSystem):
        for leftover in Path(path).glob(f".*{TEMPORARY_SUFFIX}"):
            with contextlib.suppress(OSError):  # removed by someone else, or a read-only copy: no harm
                leftover.unlink()


def _write_remote(fs: fsspec.AbstractFileSystem, path: str, data: bytes, exclusive: bool) -> None:
    mode = "create" if exclusive else "overwrite"
    if exclusive:
        _require_condition(fs, path, IF_NONE_MATCH)
    for _ in range(_COLLISIONS):
        try:
            fs.pipe_file(path, data, mode=mode)
            return
        except OSError as error:
            # S3 answers a conditional create with 412 when the object is there, and with 409 when another
            # create is under way. A repeated completion of this multipart upload is answered with 404.
            status = status_of(error.__cause__)
            if not isinstance(error, (FileExistsError, FileNotFoundError)) and status not in (409, 412):
                raise
            present = _content(fs, path)
            if present == data:
                return
            if present is not None and exclusive:
                raise FileExistsError(path) from error
            if isinstance(error, FileNotFoundError):
                raise
    raise AccessError(f"{path}: every attempt to write collided with another writer")


def _replace_remote(fs: fsspec.AbstractFileSystem, path: str, data: bytes, expected: bytes) -> None:
    _require_condition(fs, path, IF_MATCH)
    # The tag comes before the content: were it of a newer one, the PUT would replace what nobody read.
    condition = {"IfMatch": fs.info(path)["ETag"]} if "s3" in fs.protocol else {}
    _require_content(fs, path, (expected, data))
    try:
        fs.pipe_file(path, data, **condition)
    except OSError as error:
        if status_of(error.__cause__) not in (409, 412):
            raise
        # Another writer was first, or this PUT was repeated because its answer was lost.
        _require_content(fs, path, (data,))


def _require_content(fs: fsspec.AbstractFileSystem, path: str, expected: tuple[bytes, ...]) -> None:
    if fs.cat_file(path) not in expected:
        raise FileExistsError(errno.EEXIST, "another writer was first", path)


def _content(fs: fsspec.AbstractFileSystem, path: str) -> bytes | None:
    try:
        return fs.cat_file(path)
    except FileNotFoundError:
        return None


def _require_condition(fs: fsspec.AbstractFileSystem, path: str, condition: Condition) -> None:
    if "s3" in fs.protocol:
        require_condition(fs, path, condition)
