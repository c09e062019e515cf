"""Reading folders and byte ranges, locally and on S3."""

import errno
import os
import socket
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from lungforge.errors import AccessError, InputError
from lungforge.storage import join_uri, open_uri, write_bytes_atomic
from lungforge.storage.errors import explained
from lungforge.storage.reading import (
    Entry,
    file_size,
    list_folder,
    local_files,
    read_file,
    read_range,
    real_uri,
)


@pytest.fixture
def folder(store_uri) -> str:
    for name in ("b/c.txt", "a.txt", "empty"):
        write_bytes_atomic(join_uri(store_uri, name), b"" if name == "empty" else name.encode())
    return store_uri


def test_a_folder_is_listed_by_name(folder):
    assert list_folder(folder) == [
        Entry("a.txt", f"{folder}/a.txt", is_folder=False, size=5),
        Entry("b", f"{folder}/b", is_folder=True, size=0),
        Entry("empty", f"{folder}/empty", is_folder=False, size=0),
    ]
    assert list_folder(f"{folder}/b/") == [Entry("c.txt", f"{folder}/b/c.txt", is_folder=False, size=7)]
    for missing in ("c", "a.txt"):
        with pytest.raises(FileNotFoundError):
            list_folder(join_uri(folder, missing))


@pytest.mark.s3
def test_the_mark_of_a_folder_is_not_in_it(s3_uri):
    write_bytes_atomic(join_uri(s3_uri, "file"), b"content")
    fs, path = open_uri(s3_uri)
    fs.call_s3("put_object", Bucket=path.split("/")[0], Key=path.split("/")[1] + "/", Body=b"")
    assert [entry.name for entry in list_folder(s3_uri)] == ["file"]


def test_bytes_are_read_as_many_as_there_are(folder):
    uri = join_uri(folder, "b/c.txt")
    assert file_size(uri) == 7
    assert read_file(uri) == b"b/c.txt"
    assert read_range(uri, 2, 5) == b"c.t"
    assert read_range(uri, 3, 3) == read_file(join_uri(folder, "empty")) == b""
    with pytest.raises(AccessError, match=r"c.txt: 5 of 8 bytes arrived"):
        read_range(uri, 2, 10)
    for missing in ("b/d.txt", "b"):
        with pytest.raises(FileNotFoundError):
            file_size(join_uri(folder, missing))
    with pytest.raises(FileNotFoundError):
        read_range(join_uri(folder, "b/d.txt"), 0, 1)


def test_files_are_there_locally(folder):
    uris = [join_uri(folder, "b/c.txt"), join_uri(folder, "empty")]
    with local_files(uris) as paths:
        assert [path.read_bytes() for path in paths] == [b"b/c.txt", b""]
    local = folder.startswith("/")
    assert [path.exists() for path in paths] == [local, local]  # a copy is gone, the file itself is not
    with pytest.raises(AccessError, match="gone since it was listed"), local_files([join_uri(folder, "c")]):
        pass


def test_a_local_file_that_may_not_be_read_is_noticed(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"content")

    def refuse(self, path, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(LocalFileSystem, "cat_file", refuse)
    with pytest.raises(AccessError, match="file: access denied"), local_files([str(tmp_path / "file")]):
        pass


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            PermissionError("The provided token has expired."),
            "access denied (The provided token has expired.)",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (TimeoutError(), "TimeoutError"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "Connection reset by peer"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
    ],
)
def test_what_a_store_refuses_is_one_line_about_access(error, message):
    with pytest.raises(AccessError) as caught, explained("s3://lab/file"):
        raise error
    assert str(caught.value).startswith(f"s3://lab/file: {message}; ")
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, InputError)


def test_only_the_caller_knows_what_a_missing_file_means(tmp_path: Path):
    for error in (FileNotFoundError, FileExistsError):
        with pytest.raises(error), explained("file"):
            raise error


def test_links_say_where_they_lead_and_what_is_no_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"12345")
    (tmp_path / "file").symlink_to("folder/file")
    (tmp_path / "linked").symlink_to(tmp_path / "folder")
    (tmp_path / "broken").symlink_to("nowhere")
    (tmp_path / "self").symlink_to("self")
    os.mkfifo(tmp_path / "pipe")
    seen = {
        entry.name: (entry.is_folder, entry.is_special, entry.leads_to and Path(entry.leads_to).name)
        for entry in list_folder(str(tmp_path))
    }
    assert seen == {
        "folder": (True, False, None),
        "file": (False, False, "file"),
        "linked": (True, False, "folder"),
        "broken": (False, True, "nowhere"),
        "self": (False, True, "self"),
        "pipe": (False, True, None),
    }
    (file,) = (entry for entry in list_folder(str(tmp_path)) if entry.name == "file")
    assert (file.size, file.leads_to) == (5, str(tmp_path / "folder" / "file"))
    assert real_uri(str(tmp_path / "linked")) == str(tmp_path / "folder")
    assert real_uri("memory://linked/a") == "memory://linked/a"


def test_a_name_that_no_file_can_have_is_of_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "self").symlink_to("self")
    for name in ("self", "n" * 5000):
        with pytest.raises(FileNotFoundError):
            file_size(str(tmp_path / name))
