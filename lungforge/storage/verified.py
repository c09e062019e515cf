"""Reading files whose sha256 is known: no byte of an altered one gets further than here.

SHA-256 takes a second for one to two GB, so files that are read in places are not hashed each time:
once a process, and again when the store says that the file is another.
"""

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

from lungforge.errors import AccessError
from lungforge.storage.errors import explained
from lungforge.storage.files import open_uri
from lungforge.storage.reading import file_size, read_range

#: Bytes in memory while a file is hashed.
_BLOCK = 2**22
#: Files up to this size are fetched whole to be hashed, by one request, and then read from memory.
_WHOLE = 2**26
#: The files that were found sound: URI, sha256, and how the store described them then.
_sound: set[tuple[str, str, str]] = set()


class AlteredError(ValueError):
    """A file has other content than it should have; says what differs."""


def read_verified(uri: str, *, size: int, sha256: str) -> bytes:
    """The whole content of a file.

    Args:
        uri: The file.
        size: How many bytes it has.
        sha256: Of its content.

    Raises:
        FileNotFoundError: There is no such file.
        AlteredError: It has another size or content.
        AccessError: It cannot be read now.
    """
    _require_size(file_size(uri), size)
    data = read_range(uri, 0, size)
    _require_digest(hashlib.sha256(data).hexdigest(), sha256)
    return data


@contextmanager
def open_verified(uri: str, *, size: int, sha256: str) -> Iterator[BinaryIO]:
    """A file to read in places; hashed first, unless this process has done so and it is still the same.

    Args:
        uri: The file.
        size: How many bytes it has.
        sha256: Of its content.

    Raises:
        FileNotFoundError: There is no such file.
        AlteredError: It has another size or content.
        AccessError: It cannot be read now; also when that shows inside the block.
    """
    fs, path = open_uri(uri)
    with explained(uri):
        described: dict[str, Any] = fs.info(path)
        if described["type"] != "file":
            raise FileNotFoundError(f"{uri} is no file")
        _require_size(int(described["size"]), size)
        # With the inode and the time of the last change locally, the entity tag on S3.
        known = (uri, sha256, repr(sorted(described.items())))
        if known not in _sound and size <= _WHOLE:
            whole = io.BytesIO(read_range(uri, 0, size))
            _require_digest(_digest(whole, uri, size), sha256)
            _sound.add(known)
            whole.seek(0)
            yield whole
            return
        with _opened(fs, path, described) as file:
            if known not in _sound:
                _require_digest(_digest(file, uri, size), sha256)
                _sound.add(known)
                file.seek(0)
            yield file


def file_digest(uri: str, size: int) -> str:
    """The sha256, in hexadecimal, of a file that has so many bytes.

    Raises:
        FileNotFoundError: There is no such file.
        AccessError: It cannot be read now, or fewer bytes arrive.
    """
    fs, path = open_uri(uri)
    with explained(uri), fs.open(path, "rb") as file:
        return _digest(file, uri, size)


def _opened(fs: Any, path: str, described: dict[str, Any]) -> Any:
    """A file as it was described: on S3, which is not asked again, another object of its name is refused."""
    if "s3" not in fs.protocol:
        return fs.open(path, "rb")
    file = fs.open(path, "rb", size=described["size"])
    file.details = described
    return file


def _digest(file: BinaryIO, uri: str, size: int) -> str:
    digest, arrived = hashlib.sha256(), 0
    while block := file.read(_BLOCK):
        digest.update(block)
        arrived += len(block)
    if arrived != size:
        raise AccessError(f"{uri}: {arrived} of {size} bytes arrived; try again later")
    return digest.hexdigest()


def _require_size(present: int, size: int) -> None:
    if present != size:
        raise AlteredError(f"{present} bytes instead of {size}")


def _require_digest(present: str, sha256: str) -> None:
    if present != sha256:
        raise AlteredError(f"its sha256 is {present[:12]} instead of {sha256[:12]}")
