"""What a store redirects to is signed, and errors of HTTP quote it."""

import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lungforge.errors import AccessError
from lungforge.storage.files import read_if_there

SECRET = "5ecretW0rd"


class _Redirecting(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        signed = "X-Amz-Signature" in self.path
        self.send_response(403 if signed else 302)
        self.send_header("Location", f"/b?X-Amz-Signature={SECRET}")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def redirecting() -> Iterator[str]:
    """The address of a server that sends its clients to a signed address, and refuses them there."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Redirecting) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_signed_address_is_in_no_message_and_no_traceback(redirecting: str) -> None:
    with pytest.raises(AccessError, match="403") as error:
        read_if_there(f"{redirecting}/a/manifest.json")
    assert str(error.value).startswith(f"{redirecting}/a/manifest.json: ")
    # Ray keeps the traceback of a task for everyone who can see the dashboard.
    assert SECRET not in "".join(traceback.format_exception(error.value))
