"""The store's container: who has no key reaches nothing of SeaweedFS."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.conftest import _free_ports
from tests.ray_head import wait_until

ROOT = Path(__file__).parents[2]
STORE = ROOT / "docker" / "store.py"

pytestmark = pytest.mark.s3


class Store:
    """``docker/store.py`` with the arguments of the compose file, and other ports and folders."""

    def __init__(self, folder: Path) -> None:
        self.key, self.secret = secrets.token_hex(10), secrets.token_hex(20)
        self.port, s3, master, volume, self.filer, admin = _free_ports(6)
        identities = [
            {
                "name": "lungforge",
                "credentials": [{"accessKey": self.key, "secretKey": self.secret}],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            }
        ]
        (folder / "identities").write_text(json.dumps({"identities": identities}), encoding="utf-8")
        (folder / "data").mkdir()
        compose = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8"))
        given = compose["services"]["store"]["command"]
        assert given[:2] == ["8333", "8334"]
        ours = {
            "-dir": folder / "data",
            "-s3.config": folder / "identities",
            "-filer.port": self.filer,
            "-master.port": master,
            "-volume.port": volume,
            "-admin.port": admin,
            "-filer.localSocket": folder / "filer",
        }
        kept = [word for word in given[2:] if word.partition("=")[0] not in ours]
        self.command = [sys.executable, str(STORE), str(self.port), str(s3), *kept]
        self.command += [f"{name}={value}" for name, value in ours.items()]

    def s3(self, key: str, secret: str) -> "object":
        """The store as a file system."""
        from s3fs import S3FileSystem

        return S3FileSystem(
            key=key,
            secret=secret,
            endpoint_url=f"http://127.0.0.1:{self.port}",
            skip_instance_cache=True,
            use_listings_cache=False,
            client_kwargs={"region_name": "us-east-1"},
        )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[Store, subprocess.Popen]]:
    """The running store, in which the bucket is."""
    store = Store(tmp_path)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            store.command, env=os.environ | {"PATH": path}, cwd=tmp_path, stdout=log, stderr=log
        )
    try:
        check = [sys.executable, ROOT / "docker" / "healthy.py", f"http://127.0.0.1:{store.port}/healthz"]
        check.append(f"http://127.0.0.1:{store.filer}/buckets/lab/")
        wait_until(lambda: subprocess.run(check, capture_output=True, check=False).returncode == 0, 60)
        yield store, process
    finally:
        process.terminate()
        process.wait(60)


def _listening(pids: set[int]) -> set[tuple[str, int]]:
    """Address and port of every socket on which one of the processes listens."""
    inodes = set()
    for pid in pids:
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                inodes.add(str(descriptor.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text(encoding="utf-8").splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                address, port = words[1].split(":")
                found.add((address, int(port, 16)))
    return found


def _children(pid: int) -> set[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    return set(map(int, listed))


def test_only_s3_is_on_the_network_and_it_asks_for_a_key(store: tuple[Store, subprocess.Popen]) -> None:
    running, process = store
    weed = _listening(_children(process.pid))
    # Filer, master, volumes, admin and S3, most with another port for gRPC.
    assert len(weed) >= 8
    assert {address for address, _ in weed} == {"0100007F"}
    assert _listening({process.pid}) == {("00000000", running.port)}

    right, wrong = running.s3(running.key, running.secret), running.s3(running.key, secrets.token_hex(20))
    content = secrets.token_bytes(3 << 20)
    right.pipe_file("lab/a", content)
    assert right.cat_file("lab/a") == content
    with pytest.raises(PermissionError):
        wrong.cat_file("lab/a")
    # One that sends half a request and hangs up costs nobody else anything.
    with socket.create_connection(("127.0.0.1", running.port)) as rude:
        rude.sendall(b"GET /lab/a HTTP/1.1\r\nHost:")
    assert right.ls("lab", detail=False) == ["lab/a"]


@pytest.mark.slow
def test_it_ends_with_seaweedfs_and_ends_it(store: tuple[Store, subprocess.Popen]) -> None:
    _, process = store
    (weed,) = _children(process.pid)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert not Path(f"/proc/{weed}").exists()


@pytest.mark.slow
def test_a_store_whose_seaweedfs_dies_does_not_go_on(store: tuple[Store, subprocess.Popen]) -> None:
    _, process = store
    (weed,) = _children(process.pid)
    os.kill(weed, signal.SIGKILL)
    assert process.wait(60) != 0
