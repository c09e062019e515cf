"""Disks that are full, closed or in the way: one line with the place and the remedy."""

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lungforge.datasets import DatasetWriter, Kind
from lungforge.errors import AccessError, AccessRefusedError, InputError
from lungforge.storage import write_bytes_atomic
from lungforge.storage.errors import explained, explanation
from lungforge.storage.files import require_writable
from lungforge.storage.lease import take_lease

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, which root may")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=False).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@needs_root
@pytest.mark.parametrize("exclusive", [False, True])
def test_a_full_disk_is_named_and_keeps_what_it_had(small_disk, exclusive):
    write_bytes_atomic(f"{small_disk}/first", b"1" * 1000)
    with pytest.raises(AccessError, match=rf"^{small_disk}/second: No space left .*; free some") as error:
        write_bytes_atomic(f"{small_disk}/second", b"2" * 100_000, exclusive=exclusive)
    assert not isinstance(error.value, AccessRefusedError)
    assert [path.name for path in small_disk.iterdir()] == ["first"]
    write_bytes_atomic(f"{small_disk}/second", b"2" * 1000, exclusive=exclusive)


@needs_root
def test_a_read_only_disk_is_found_before_the_work(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    place = f"{small_disk}/not/yet/there"
    for call in (
        lambda: DatasetWriter(place, Kind.SLICES, {}).find_manifest(),
        lambda: write_bytes_atomic(f"{place}/file", b""),
        lambda: take_lease(place),
    ):
        with pytest.raises(AccessRefusedError, match=rf"^{place}.*: Read-only .*; choose a place that can"):
            call()


def test_a_place_below_a_file_is_found_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="something is in the way"):
        require_writable(f"{tmp_path}/file/below")
    require_writable(f"{tmp_path}/not/yet/there")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_closed_folder_is_found_before_the_work(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(AccessRefusedError, match=r"access denied .* check the permissions"):
        require_writable(f"{tmp_path}/below")


@pytest.mark.parametrize(
    ("number", "family", "remedy"),
    [
        (errno.ENOSPC, AccessError, "free some space"),
        (errno.EDQUOT, AccessError, "have the quota raised"),
        (errno.EIO, AccessError, "try again later"),
        (errno.ESTALE, AccessError, "try again later"),
        (errno.EROFS, AccessRefusedError, "choose a place that can be written"),
        (errno.EACCES, AccessRefusedError, "check the permissions of the file and of its folders"),
        (errno.EPERM, AccessRefusedError, "check the permissions"),
        (errno.ENAMETOOLONG, AccessRefusedError, "a shorter path"),
        (errno.ELOOP, AccessRefusedError, "without a circle of links"),
    ],
)
def test_what_a_disk_says_is_one_line_with_the_remedy(number, family, remedy):
    with pytest.raises(AccessError) as error, explained("/data/out"):
        raise OSError(number, os.strerror(number), "/data/out/x")
    assert type(error.value) is family
    assert str(error.value).startswith("/data/out: ")
    assert remedy in str(error.value)


def test_a_full_folder_of_temporary_files_can_be_another():
    with tempfile.NamedTemporaryFile() as file:
        told = explanation(OSError(errno.ENOSPC, "No space left on device", file.name))
    assert str(told).startswith(f"{file.name}: No space left on device; ")
    assert "set TMPDIR to a folder with more" in str(told)
