"""What is pushed to a Pushgateway, by a server that keeps what it receives."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from services.nightly.pushgateway import push_night


@pytest.fixture
def gateway() -> Iterator[tuple[str, list[tuple[str, str, str]]]]:
    """An address, and what came there: method, path, content."""
    received: list[tuple[str, str, str]] = []

    class GatewayHandler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"])).decode()
            received.append((self.command, self.path, content))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), GatewayHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", received
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("status", "worse"), [("done", 0), ("worse", 1), ("failed", 0)])
def test_the_gateway_learns_of_the_night(
    make_night: Any, gateway: tuple[str, list], status: str, worse: int
) -> None:
    url, received = gateway
    push_night(url, make_night(1, status=status))
    ((method, path, content),) = received
    # POST keeps the metrics that are not in it: the time of the last good night outlives a failed one.
    assert (method, path) == ("POST", "/metrics/job/lungforge_nightly")
    values = dict(line.split() for line in content.splitlines() if not line.startswith("#"))
    assert float(values["lungforge_nightly_worse"]) == worse
    if status == "failed":
        assert "lungforge_nightly_last_done_timestamp_seconds" not in values
    else:
        then = float(values["lungforge_nightly_last_done_timestamp_seconds"])
        assert abs(time.time() - then) < 60


def test_a_gateway_that_is_away_fails_no_night(make_night: Any, capsys: pytest.CaptureFixture[str]) -> None:
    push_night("http://127.0.0.1:9", make_night(1))
    assert "the night was not pushed to the Pushgateway: " in capsys.readouterr().err
