"""A store that answers writes with 503 for a while, or with 403: patience, or a clear error."""

import http.client
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lungforge.datasets import Dataset, Kind
from lungforge.errors import InputError
from services.sample.config import SampleConfig
from services.sample.job import run

#: Gives the environment for a process that starts a Ray of its own.
OwnRay = Callable[[], dict[str, str]]

pytestmark = [pytest.mark.ray, pytest.mark.s3, pytest.mark.usefixtures("ray_local")]

#: Four parts of four images.
OPTIONS = ["--count=16", "--steps=2", "--part-images=4", "--batch=4", "--workers=2"]


def _config(model: str, slices: str, out: str) -> SampleConfig:
    """The run of those options."""
    return SampleConfig(
        model=model, data=slices, out=out, count=16, steps=2, part_images=4, batch=4, workers=2
    )


class Proxy(ThreadingHTTPServer):
    """Passes requests on to an S3 server, but for those that ``fault`` gives an answer to."""

    daemon_threads = True

    def __init__(self, port: int, fault: Callable[[str, str], tuple[int, str] | None]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.behind, self.fault = port, fault

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up; what matters is what it says of it."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.fault(self.command, self.path)
        if fault is not None:
            status, code = fault
            content = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self._send(status, [("Content-Type", "application/xml")], content)
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=60)
        # The Host that was asked for is part of what was signed.
        connection.request(self.command, self.path, body, dict(self.headers))
        response = connection.getresponse()
        kept = [(name, value) for name, value in response.getheaders() if name.lower() not in _OURS]
        self._send(response.status, kept, response.read(), response.getheader("Content-Length"))
        connection.close()

    def _send(
        self, status: int, headers: list[tuple[str, str]], content: bytes, length: str | None = None
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        # The answer to HEAD names a length and has no content.
        asked = self.command == "HEAD" and length is not None
        self.send_header("Content-Length", length if asked else str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests say what matters."""


_OURS = ("content-length", "connection", "transfer-encoding")


@pytest.fixture
def start_proxy(s3_server: Any) -> Iterator[Callable[..., str]]:
    """``start_proxy(fault)``: the address of a store with a fault."""
    proxies = []

    def start(fault: Callable[[str, str], tuple[int, str] | None]) -> str:
        proxy = Proxy(s3_server.port, fault)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        proxies.append(proxy)
        return f"http://127.0.0.1:{proxy.server_address[1]}"

    yield start
    for proxy in proxies:
        proxy.shutdown()
        proxy.server_close()


def _sample(model: str, slices: str, out: str, endpoint: str, own_ray: OwnRay) -> subprocess.CompletedProcess:
    """``lungforge sample`` against a store at an address."""
    arguments = [f"--model={model}", f"--data={slices}", f"--out={out}", *OPTIONS]
    return subprocess.run(
        [sys.executable, "-m", "services", "sample", *arguments],
        env=own_ray() | {"AWS_ENDPOINT_URL": endpoint},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


def _parts(out: str) -> list[tuple[str, int, str]]:
    dataset = Dataset.open(out, Kind.SAMPLES)
    dataset.verify()
    return [(part.path, part.rows, part.sha256) for part in dataset.manifest.parts]


def test_slow_down_is_waited_out(
    model: str,
    slices: str,
    s3_uri: str,
    s3_server: Any,
    tmp_path: Path,
    start_proxy: Callable[..., str],
    own_ray: OwnRay,
) -> None:
    refused = []

    def fault(method: str, path: str) -> tuple[int, str] | None:
        # Every write is refused, until each kind of them has been several times.
        if method == "PUT" and "part-" in path and len(refused) < 8:
            refused.append(path)
            return 503, "SlowDown"
        return None

    done = _sample(model, slices, s3_uri, start_proxy(fault), own_ray)
    assert done.returncode == 0, done.stderr
    assert len(refused) == 8
    run(_config(model, slices, str(tmp_path / "plain")))
    assert _parts(s3_uri) == _parts(str(tmp_path / "plain"))


def test_a_refusal_stops_the_run_by_name_and_what_is_written_stays(
    model: str, slices: str, s3_uri: str, s3_server: Any, start_proxy: Callable[..., str], own_ray: OwnRay
) -> None:
    seen: set[str] = set()

    def fault(method: str, path: str) -> tuple[int, str] | None:
        if method != "PUT" or "part-" not in path:
            return None
        seen.add(path)
        return None if len(seen) <= 2 else (403, "AccessDenied")

    done = _sample(model, slices, s3_uri, start_proxy(fault), own_ray)
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "access denied" in last
    assert "the policy of the bucket" in last
    assert s3_uri in last
    assert s3_server.secret_key not in done.stdout + done.stderr
    with pytest.raises(InputError, match=r"no manifest.json"):
        Dataset.open(s3_uri)
    again = _sample(model, slices, s3_uri, s3_server.endpoint, own_ray)
    assert again.returncode == 0, again.stderr
    assert sum(rows for _, rows, _ in _parts(s3_uri)) == 16
