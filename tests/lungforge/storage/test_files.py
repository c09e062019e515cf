import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from s3fs import S3FileSystem

from lungforge.errors import AccessError, AccessRefusedError, InputError
from lungforge.storage import join_uri, open_uri, read_bytes, write_bytes_atomic
from lungforge.storage.files import absolute_uri, remove_temporaries, replace_bytes

CHUNK = 5 * 2**20


class Proxy:
    """Stands between a client and the S3 server, and does what ``misbehave`` says with each connection.

    ``misbehave(number, client, upstream)`` is called with the number of the connection and both sockets; it
    returns True when it has dealt with the connection, else all bytes pass as they are.
    """

    def __init__(self, port: int, misbehave) -> None:
        self.port, self.misbehave, self.requests = port, misbehave, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.requests += 1
                threading.Thread(target=self._serve, args=(self.requests, client), daemon=True).start()

    def _serve(self, number: int, client: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            client,
            socket.create_connection(("127.0.0.1", self.port)) as upstream,
        ):
            if self.misbehave(number, client, upstream):
                return
            back = threading.Thread(target=self._pass, args=(upstream, client), daemon=True)
            back.start()
            self._pass(client, upstream)
            back.join()

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def proxy(s3_server, monkeypatch):
    """Makes a proxy that misbehaves as given, and sends S3 through it."""
    made = []

    def make(misbehave) -> Proxy:
        made.append(Proxy(s3_server.port, misbehave))
        monkeypatch.setenv("AWS_ENDPOINT_URL", made[-1].endpoint)
        return made[-1]

    yield make
    for one in made:
        one.listener.close()


@pytest.mark.parametrize("exclusive", [False, True])
def test_what_is_written_is_read(store_uri, exclusive):
    uri = join_uri(store_uri, "folder", "file.bin")
    write_bytes_atomic(uri, b"\0some bytes", exclusive=exclusive)
    assert read_bytes(uri) == b"\0some bytes"


def test_an_exclusive_write_never_replaces(store_uri):
    uri = join_uri(store_uri, "file")
    write_bytes_atomic(uri, b"first", exclusive=True)
    with pytest.raises(FileExistsError):
        write_bytes_atomic(uri, b"second", exclusive=True)
    assert read_bytes(uri) == b"first"
    write_bytes_atomic(uri, b"first", exclusive=True)  # the same again is taken for a repetition
    write_bytes_atomic(uri, b"second")
    assert read_bytes(uri) == b"second"


@pytest.mark.s3
def test_a_multipart_upload_never_replaces_either(s3_uri, monkeypatch):
    monkeypatch.setattr(S3FileSystem._pipe_file, "__defaults__", (CHUNK, None, "overwrite"))
    first, second = bytes(2 * CHUNK), b"1" * 2 * CHUNK
    write_bytes_atomic(s3_uri, first, exclusive=True)
    write_bytes_atomic(s3_uri, first, exclusive=True)
    with pytest.raises(FileExistsError):
        write_bytes_atomic(s3_uri, second, exclusive=True)
    assert read_bytes(s3_uri) == first


def test_of_sixteen_racing_exclusive_writes_one_wins(store_uri):
    uri, start = join_uri(store_uri, "file"), threading.Barrier(16)

    def write(number: int) -> bool:
        start.wait()
        try:
            write_bytes_atomic(uri, b"%d" % number * 1000, exclusive=True)
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(write, range(16)))
    assert sum(won) == 1
    assert read_bytes(uri) == b"%d" % won.index(True) * 1000


def test_only_what_was_read_is_replaced(store_uri):
    uri = join_uri(store_uri, "file")
    with pytest.raises(AccessError, match="gone since it was read"):
        replace_bytes(uri, b"second", expected=b"first")
    write_bytes_atomic(uri, b"first")
    replace_bytes(uri, b"second", expected=b"first")
    assert read_bytes(uri) == b"second"
    replace_bytes(uri, b"second", expected=b"first")  # the same again is taken for a repetition
    with pytest.raises(FileExistsError):
        replace_bytes(uri, b"third", expected=b"first")
    assert read_bytes(uri) == b"second"


def test_of_sixteen_that_replace_the_same_one_wins(store_uri):
    uri, start = join_uri(store_uri, "file"), threading.Barrier(16)
    write_bytes_atomic(uri, b"first")

    def replace(number: int) -> bool:
        start.wait()
        try:
            replace_bytes(uri, b"%d" % number * 1000, expected=b"first")
        except FileExistsError:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(replace, range(16)))
    assert sum(won) == 1
    assert read_bytes(uri) == b"%d" % won.index(True) * 1000


def test_a_local_writer_that_loses_its_temporary_file_writes_it_again(tmp_path, monkeypatch):
    link, calls = os.link, []

    def link_after_cleaning(source, target):
        calls.append(source)
        if len(calls) == 1:
            remove_temporaries(str(tmp_path))
        link(source, target)

    monkeypatch.setattr(os, "link", link_after_cleaning)
    write_bytes_atomic(f"{tmp_path}/file", b"content", exclusive=True)
    assert len(calls) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("exclusive", [False, True])
def test_a_local_write_leaves_nothing_but_the_file_even_when_it_fails(tmp_path, monkeypatch, exclusive):
    write_bytes_atomic(f"{tmp_path}/file", b"first", exclusive=exclusive)
    monkeypatch.setattr(os, "fsync", lambda descriptor: os.close(-1))  # OSError
    with pytest.raises(OSError, match="Bad file descriptor"):
        write_bytes_atomic(f"{tmp_path}/other", b"second", exclusive=exclusive)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_local_files_may_be_read_by_others(tmp_path):
    write_bytes_atomic(f"{tmp_path}/file", b"content")
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("s3://", "no bucket; write s3://BUCKET/FOLDER"),
        ("s3:///folder", "no bucket"),
        ("nonsense://x/y", "Protocol not known"),
    ],
)
def test_a_uri_that_means_nothing_is_one_clear_line(uri, message):
    with pytest.raises(InputError, match=message) as error:
        open_uri(uri)
    assert str(error.value).startswith(uri)
    assert "\n" not in str(error.value)


def test_all_ways_to_write_a_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(b"here")
    assert absolute_uri("file") == str(tmp_path / "file")
    assert absolute_uri(f"file://{tmp_path}/file/") == str(tmp_path / "file")
    assert read_bytes("file") == read_bytes(f"file://{tmp_path}/file") == b"here"
    assert absolute_uri("s3://bucket/folder/") == "s3://bucket/folder"
    assert join_uri("s3://bucket/folder/", "a/", "b") == "s3://bucket/folder/a/b"
    assert join_uri("/", "a") == "/a"
    write_bytes_atomic("memory://place/file", b"there", exclusive=True)
    with pytest.raises(FileExistsError):
        write_bytes_atomic("memory://place/file", b"other", exclusive=True)
    assert read_bytes("memory://place/file") == b"there"


def test_a_missing_file_is_named(store_uri):
    with pytest.raises(InputError, match=r"nothing: no such file$"):
        read_bytes(join_uri(store_uri, "nothing"))


def test_a_file_in_the_place_of_a_folder(tmp_path):
    (tmp_path / "file").touch()
    for call in (lambda uri: write_bytes_atomic(uri, b"", exclusive=True), read_bytes):
        with pytest.raises(InputError, match=r"file/below: something is in the way"):
            call(f"{tmp_path}/file/below")


@pytest.mark.s3
def test_a_missing_bucket_is_named(s3_server):
    with pytest.raises(AccessRefusedError, match=r"s3://no-such-bucket/x: no such bucket; make it first"):
        write_bytes_atomic("s3://no-such-bucket/x", b"", exclusive=True)


@pytest.mark.s3
def test_a_refusal_is_one_clear_error_at_once(s3_uri, proxy, monkeypatch):
    connections = proxy(lambda *_: False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for call in (lambda: write_bytes_atomic(s3_uri, b"", exclusive=True), lambda: read_bytes(s3_uri)):
        with pytest.raises(
            AccessRefusedError, match=rf"{s3_uri}: access denied \(.+\); check AWS_ACCESS_KEY_ID"
        ) as error:
            call()
        assert "\n" not in str(error.value)
    assert connections.requests <= 2


@pytest.mark.s3
def test_no_credentials_is_one_clear_error(s3_uri, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AccessRefusedError, match="no S3 credentials"):
        read_bytes(s3_uri)


@pytest.mark.s3
def test_a_dead_endpoint_is_one_clear_error(s3_uri, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(AccessError, match=r"S3 cannot be reached .* check AWS_ENDPOINT_URL"):
        read_bytes(s3_uri)


@pytest.mark.s3
def test_a_busy_server_is_asked_again(s3_uri, proxy):
    def busy_at_first(number: int, client: socket.socket, upstream: socket.socket) -> bool:
        if number > 3:
            return False
        client.recv(65536)
        client.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return True

    connections = proxy(busy_at_first)
    write_bytes_atomic(s3_uri, b"content", exclusive=True)
    assert connections.requests == 4
    assert read_bytes(s3_uri) == b"content"


@pytest.mark.s3
def test_an_exclusive_write_whose_answer_was_lost_is_known_again(s3_uri, proxy):
    def lose_the_first_answer(number: int, client: socket.socket, upstream: socket.socket) -> bool:
        if number > 1:
            return False
        client.settimeout(0.2)
        answer = b""
        while b"200 OK" not in answer:
            with contextlib.suppress(TimeoutError):
                upstream.sendall(client.recv(65536))
            upstream.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                answer = upstream.recv(65536)
                if b"100 Continue" in answer:
                    client.sendall(answer)
        return True

    connections = proxy(lose_the_first_answer)
    write_bytes_atomic(s3_uri, b"content", exclusive=True)
    assert connections.requests >= 2
    assert read_bytes(s3_uri) == b"content"


@pytest.mark.s3
def test_a_writer_killed_in_the_middle_of_a_put_leaves_nothing(s3_server, s3_uri, proxy, monkeypatch):
    size, writer = 8 * 2**20, None
    started = threading.Event()

    def kill_half_way(number: int, client: socket.socket, upstream: socket.socket) -> bool:
        passed = 0
        while passed < size // 2:
            data = client.recv(65536)
            upstream.sendall(data)
            if passed == 0 and b"100-continue" in data:
                client.sendall(upstream.recv(65536))
            passed += len(data)
        started.wait()
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        return True

    proxy(kill_half_way)
    program = (
        f"from lungforge.storage import write_bytes_atomic; write_bytes_atomic({s3_uri!r}, bytes({size}))"
    )
    writer = subprocess.Popen([sys.executable, "-c", program], env=dict(os.environ))
    started.set()
    assert writer.wait() == -signal.SIGKILL
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server.endpoint)
    with pytest.raises(InputError, match="no such file"):
        read_bytes(s3_uri)


@pytest.mark.s3
def test_a_killed_server_comes_back_with_everything(s3_server, s3_uri):
    write_bytes_atomic(s3_uri, b"content", exclusive=True)
    s3_server.kill()
    back = threading.Thread(target=s3_server.start)
    back.start()
    try:
        assert read_bytes(s3_uri) == b"content"  # asked again and again until it is back
    finally:
        back.join()


@pytest.mark.s3
def test_a_fork_has_a_client_of_its_own(s3_uri):
    write_bytes_atomic(s3_uri, b"content")
    child = os.fork()
    if child == 0:
        os._exit(0 if read_bytes(s3_uri) == b"content" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.s3
def test_what_another_process_wrote_is_seen(s3_uri):
    write_bytes_atomic(join_uri(s3_uri, "ours"), b"content")
    fs, folder = open_uri(s3_uri)
    assert fs.ls(folder, detail=False) == [f"{folder}/ours"]
    assert not fs.exists(f"{folder}/theirs")
    uri = join_uri(s3_uri, "theirs")
    program = f"from lungforge.storage import write_bytes_atomic; write_bytes_atomic({uri!r}, b'content')"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert fs.ls(folder, detail=False) == [f"{folder}/ours", f"{folder}/theirs"]
    assert read_bytes(uri) == b"content"


def test_a_protocol_of_a_missing_package_is_said_in_one_line(monkeypatch):
    # None in sys.modules is a package that is not installed.
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError) as refusal:
        open_uri("hf://owner/model")
    message = str(refusal.value)
    assert message.startswith("hf://owner/model: hf:// needs a package that is not installed (")
    assert "huggingface_hub" in message
    assert "\n" not in message
    with pytest.raises(InputError, match=r"nope:// is not to be had here \(.*\); use a local path"):
        open_uri("nope://place")
