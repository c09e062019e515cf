"""What tests of several folders share: the lanes, a real S3 server on loopback, and places for datasets."""

import contextlib
import http.client
import json
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.small_store import SmallStore, running

BUCKET = "lab"

# Ray reads how to authenticate when it is first imported, so this is before any test module.
if "RAY_AUTH_MODE" not in os.environ:
    _token = Path(tempfile.mkdtemp(prefix="lungforge-tests-")) / "ray-token"
    _token.touch(mode=0o600)
    _token.write_text(secrets.token_hex(32), encoding="utf-8")
    os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(_token)}


# Beside other tests, several threads of PyTorch or BLAS wait for one another more than they compute.
_BESIDE_OTHERS = "PYTEST_XDIST_WORKER" in os.environ
if _BESIDE_OTHERS:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


#: Tests of several hosts or containers have the machine to themselves, and are not for every change.
_ALONE = ("namespaces", "docker", "slurm")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Mark what takes the whole machine, before tests are selected by their marks; order the selected."""
    for item in items:
        if any(map(item.get_closest_marker, _ALONE)):
            item.add_marker("slow")
            item.add_marker("alone")
    yield
    if _BESIDE_OTHERS:
        _longest_files_first(items)


def _longest_files_first(items: list[pytest.Item]) -> None:
    """Begin with the files that are likely to take long: none keeps a worker busy alone at the end.

    Files stay whole. A test that may take very long says so by its timeout.
    """
    likely: dict[Path, float] = {}
    for item in items:
        marked = item.get_closest_marker("timeout")
        seconds = 0.2 if item.get_closest_marker("slow") is None else 10.0
        seconds += 4.0 if item.get_closest_marker("ray") else 0.0
        likely[item.path] = likely.get(item.path, 0.0) + seconds + (marked.args[0] / 8 if marked else 0.0)
    items.sort(key=lambda item: (-likely[item.path], str(item.path)))


class S3Server:
    """One SeaweedFS process on loopback; its data survive ``kill`` and ``start``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.access_key = secrets.token_hex(8)
        self.secret_key = secrets.token_hex(16)
        self.port, *self._other_ports = _free_ports(5)
        self._process: subprocess.Popen | None = None
        (folder / "data").mkdir()
        keys = [{"accessKey": self.access_key, "secretKey": self.secret_key}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identities = {"identities": [{"name": "tests", "credentials": keys, "actions": actions}]}
        (folder / "s3.json").write_text(json.dumps(identities), encoding="utf-8")

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to reach this server, and to look nowhere else for credentials."""
        return _s3_environment(self.endpoint, self.access_key, self.secret_key)

    def start(self) -> None:
        master, volume, filer, admin = self._other_ports
        command = [
            Path(sys.executable).with_name("weed"),
            "mini",
            f"-dir={self.folder / 'data'}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            f"-s3.port={self.port}",
            f"-master.port={master}",
            f"-volume.port={volume}",
            f"-filer.port={filer}",
            f"-filer.localSocket={self.folder / 'filer.sock'}",
            f"-admin.port={admin}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.autoCreateBucket=false",
            f"-s3.config={self.folder / 's3.json'}",
            f"-bucket={BUCKET}",
            "-master.telemetry=false",
            "-webdav=false",
            "-admin.ui=false",
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + 60
        while not self._healthy():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"SeaweedFS did not start:\n{(self.folder / 'log').read_text(encoding='utf-8')[-3000:]}"
                )
            time.sleep(0.05)

    def kill(self) -> None:
        """End the process as a power cut would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def _healthy(self) -> bool:
        """The server answers, and the bucket is there (it is made a moment after /healthz turns 200)."""
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
            try:
                connection.request("GET", "/healthz")
                if connection.getresponse().read() is not None and self._bucket_is_there():
                    return True
            finally:
                connection.close()
        return False

    def _bucket_is_there(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._other_ports[2], timeout=5)
        try:
            connection.request("HEAD", f"/buckets/{BUCKET}/")
            return connection.getresponse().status == 200
        finally:
            connection.close()


def _s3_environment(endpoint: str, access_key: str, secret_key: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": access_key,
        "AWS_SECRET_ACCESS_KEY": secret_key,
        "AWS_REGION": "us-east-1",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def _free_ports(count: int) -> list[int]:
    """Ports that are free, as are those 10000 above, which SeaweedFS takes too; below the ephemeral range."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(20_000, 22_700)
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            for candidate in (port, port + 10_000):
                held.enter_context(socket.socket()).bind(("127.0.0.1", candidate))
            if port not in ports:
                ports.append(port)
    return ports


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory):
    """A running S3Server, whose environment is that of the tests. Whoever kills it starts it again."""
    server = S3Server(tmp_path_factory.mktemp("seaweedfs"))
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in server.environment.items():
            patch.setenv(name, value)
        try:
            server.start()
            yield server
        finally:
            server.kill()
            shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def s3_store(s3_server) -> str:
    """The URI of an S3 bucket that all tests share."""
    return f"s3://{BUCKET}"


@pytest.fixture
def small_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallStore]:
    """A store that misbehaves as told, in the place of the S3 server; a request is made once."""
    with running() as store:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        environment = _s3_environment(f"http://{store.host}", "key", secrets.token_hex(16))
        for name, value in (environment | {"AWS_MAX_ATTEMPTS": "1"}).items():
            monkeypatch.setenv(name, value)
        yield store


@pytest.fixture
def s3_uri(s3_store) -> str:
    """A place in the bucket where nothing is yet."""
    return f"{s3_store}/{secrets.token_hex(8)}"


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.s3)])
def store_uri(request, tmp_path) -> str:
    """A place where nothing is yet: once on the local disk, once on S3."""
    return str(tmp_path / "dataset") if request.param == "local" else request.getfixturevalue("s3_uri")
