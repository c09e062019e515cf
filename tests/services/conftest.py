"""One Ray for all tests of the services: starting it takes longer than most of them. And a faulty S3."""

import http.client
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def ray_local(s3_server: Any) -> Iterator[None]:
    """A Ray of two CPUs on this machine; ``ray_session`` finds it and uses it.

    Its workers keep the environment that it is started in, so the S3 server comes before.
    """
    import ray

    os.environ.pop("RAY_ADDRESS", None)
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level=logging.WARNING)
    yield
    ray.shutdown()


@pytest.fixture
def own_ray(tmp_path: Path) -> Callable[[], dict[str, str]]:
    """``own_ray()``: the environment, as it is now, for a process that starts its Ray cluster."""

    def environment() -> dict[str, str]:
        token = tmp_path / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32), encoding="utf-8")
        others = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        return others | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}

    return environment


#: An error's status and code, or what becomes of the content and of its stated length.
Answer = tuple[int, str] | Callable[[bytes, int], tuple[bytes, int]]
#: The fault in the answer to a method and a path, if there is any.
Fault = Callable[[str, str], Answer | None]


class Proxy(ThreadingHTTPServer):
    """Passes requests to an S3 server and its answers back, with the faults that ``fault`` gives them."""

    daemon_threads = True

    def __init__(self, port: int, fault: Fault) -> None:
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
        if isinstance(fault, tuple):
            status, code = fault
            content = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            self._send(status, [("Content-Type", "application/xml")], content, len(content))
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.server.behind, timeout=60)
        # The Host that was asked for is part of what was signed.
        connection.request(self.command, self.path, body, dict(self.headers))
        response = connection.getresponse()
        kept = [(name, value) for name, value in response.getheaders() if name.lower() not in _OURS]
        content = response.read()
        length = len(content)
        if self.command == "HEAD":  # its answer states a length and has no content
            length = int(response.getheader("Content-Length") or 0)
        if fault is not None:
            content, length = fault(content, length)
        self._send(response.status, kept, content, length)
        connection.close()

    def _send(self, status: int, headers: list[tuple[str, str]], content: bytes, length: int) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
            # Of a content that is cut, the rest does not come.
            self.close_connection |= len(content) < length

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests say what matters."""


_OURS = ("content-length", "connection", "transfer-encoding")


@pytest.fixture(scope="module")
def start_proxy(s3_server: Any) -> Iterator[Callable[[Fault], str]]:
    """``start_proxy(fault)``: the address of a store with a fault."""
    proxies = []

    def start(fault: Fault) -> str:
        proxy = Proxy(s3_server.port, fault)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        proxies.append(proxy)
        return f"http://127.0.0.1:{proxy.server_address[1]}"

    yield start
    for proxy in proxies:
        proxy.shutdown()
        proxy.server_close()
