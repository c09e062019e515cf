"""A file whose sha256 is known: read sound, or not at all."""

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from lungforge.errors import AccessError
from lungforge.storage import verified, write_bytes_atomic
from lungforge.storage.verified import AlteredError, file_digest, open_verified, read_verified

DATA = os.urandom(3 * 2**20) * 3  # more than two blocks
KNOWN: dict[str, Any] = {"size": len(DATA), "sha256": hashlib.sha256(DATA).hexdigest()}


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The URIs that are hashed in blocks, as they are."""
    uris: list[str] = []
    digest = verified._digest

    def count(file: Any, uri: str, size: int) -> str:
        uris.append(uri)
        return digest(file, uri, size)

    monkeypatch.setattr(verified, "_digest", count)
    return uris


def read_all(uri: str) -> bytes:
    with open_verified(uri, **KNOWN) as file:
        return file.read()


def test_a_sound_file_is_read(store_uri: str) -> None:
    write_bytes_atomic(store_uri, DATA)
    assert read_verified(store_uri, **KNOWN) == DATA
    assert read_all(store_uri) == DATA
    assert file_digest(store_uri, len(DATA)) == KNOWN["sha256"]


def test_in_places_it_is_hashed_once_and_again_when_it_was_replaced(
    store_uri: str, hashed: list[str]
) -> None:
    write_bytes_atomic(store_uri, DATA)
    for _ in range(3):
        assert read_all(store_uri) == DATA
    assert hashed == [store_uri]
    write_bytes_atomic(store_uri, bytes(len(DATA)))
    with pytest.raises(AlteredError, match=r"its sha256 is \w+ instead of"):
        read_all(store_uri)
    assert len(hashed) == 2
    write_bytes_atomic(store_uri, DATA)  # mended
    assert read_all(store_uri) == DATA


def test_a_byte_that_is_changed_in_place_with_the_time_set_back_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA)
    before = path.stat()
    assert read_all(str(path)) == DATA
    with path.open("r+b") as file:
        file.write(b"?")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(AlteredError):
        read_all(str(path))


@pytest.mark.parametrize("content", [b"", DATA[:-1], DATA + b"x"])
def test_another_size_is_seen_without_reading(
    tmp_path: Path, content: bytes, hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    monkeypatch.setattr(verified, "read_range", lambda *arguments: pytest.fail("it was read"))
    for read in (read_all, lambda uri: read_verified(uri, **KNOWN)):
        with pytest.raises(AlteredError, match=f"{len(content)} bytes instead of {len(DATA)}"):
            read(str(path))
    assert hashed == []


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "nothing", ""):
        for read in (read_all, lambda uri: read_verified(uri, **KNOWN)):
            with pytest.raises(FileNotFoundError):
                read(str(tmp_path / name))


def test_bytes_that_do_not_arrive_prove_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(DATA[:100])
    with pytest.raises(AccessError, match=f"100 of {len(DATA)} bytes arrived"):
        file_digest(str(path), len(DATA))
