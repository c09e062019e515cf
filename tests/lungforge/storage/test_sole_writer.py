"""Of two that write into a local folder, one is refused."""

import os
import signal
import threading
from pathlib import Path

import pytest

from lungforge.errors import InputError
from lungforge.storage.sole_writer import sole_writer


def test_a_second_writer_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    uri = str(tmp_path / "new" / "folder")
    with sole_writer(uri), pytest.raises(InputError, match="another run is writing there"), sole_writer(uri):
        pass
    with sole_writer(uri):
        pass


def test_a_thread_of_the_same_process_is_refused_too(tmp_path: Path) -> None:
    refused = []

    def write() -> None:
        try:
            with sole_writer(str(tmp_path)):
                pass
        except InputError as error:
            refused.append(error)

    with sole_writer(str(tmp_path)):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert len(refused) == 1


def test_a_killed_writer_lets_go(tmp_path: Path) -> None:
    ready, told = os.pipe()
    child = os.fork()
    if child == 0:
        with sole_writer(str(tmp_path)):
            os.write(told, b"1")
            signal.pause()
    os.read(ready, 1)
    with pytest.raises(InputError), sole_writer(str(tmp_path)):
        pass
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with sole_writer(str(tmp_path)):
        pass


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for name in ("file", "file/below"):
        with pytest.raises(InputError, match="in the way"), sole_writer(str(tmp_path / name)):
            pass


@pytest.mark.s3
def test_a_store_has_no_such_lock(s3_uri: str) -> None:
    with sole_writer(s3_uri), sole_writer(s3_uri):
        pass
