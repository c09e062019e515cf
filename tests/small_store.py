"""An S3 store on loopback that misbehaves as told: what a real server cannot be made to do.

It knows one bucket and as much of S3 as reading, writing and listing small objects takes; signatures are not
checked. ``manner`` is asked before each request and may answer in its place.
"""

import contextlib
import hashlib
import re
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.sax.saxutils import escape

BUCKET = "lab"


@dataclass
class Request:
    """What is asked: the bucket, the key within it, and the headers with names in lower case."""

    method: str
    bucket: str
    key: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes = field(repr=False)


@dataclass
class Answer:
    """What is answered."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    #: Of the body that is stated, the bytes that come before the connection is closed.
    sent: int | None = None


#: What takes the place of the answer to a request; DROP closes the connection.
Manner = Callable[[Request], Answer | None]
DROP = Answer(0)


def refusal(status: int, code: str, message: str = "no", more: str = "", **headers: str) -> Answer:
    """An answer of S3 that is an error."""
    told = f"<Code>{code}</Code><Message>{escape(message)}</Message>{more}"
    text = f"<?xml version='1.0'?><Error>{told}</Error>"
    return Answer(status, text.encode(), {"Content-Type": "application/xml"} | headers)


class SmallStore(ThreadingHTTPServer):
    """The server. ``conditions`` are those of a PUT that it keeps, in lower case."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.manner: Manner = lambda request: None
        self.conditions = {"if-none-match", "if-match"}
        self.lock = threading.Lock()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up."""

    def answer(self, request: Request) -> Answer:
        """The answer of a store that is as it should be."""
        if request.bucket != BUCKET:
            return refusal(404, "NoSuchBucket")
        with self.lock:
            present = self.objects.get(request.key)
            if request.method == "PUT":
                return self._put(request, present)
            if request.method == "DELETE":
                self.objects.pop(request.key, None)
                return Answer(204)
            if request.method == "POST":
                for key in re.findall(r"<Key>(.*?)</Key>", request.body.decode()):
                    self.objects.pop(key, None)
                return Answer(200, b"<DeleteResult/>")
            if not request.key:
                return self._listing(request.query)
        if present is None:
            return refusal(404, "NoSuchKey")
        headers = {"ETag": _etag(present), "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
        if wanted is None:
            return Answer(200, present, headers)
        first, last = int(wanted[1]), min(int(wanted[2] or len(present)), len(present) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(present)}"
        return Answer(206, present[first : last + 1], headers)

    def _put(self, request: Request, present: bytes | None) -> Answer:
        created = "if-none-match" in self.conditions and "if-none-match" in request.headers
        tag = request.headers.get("if-match") if "if-match" in self.conditions else None
        if (created and present is not None) or (tag is not None and tag != _etag(present or b"")):
            return refusal(412, "PreconditionFailed")
        self.objects[request.key] = request.body
        return Answer(200, headers={"ETag": _etag(request.body)})

    def _listing(self, query: dict[str, str]) -> Answer:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        files, folders = "", set()
        for key, content in sorted(self.objects.items()):
            rest = key.removeprefix(prefix)
            if key.startswith(prefix) and delimiter and delimiter in rest:
                folders.add(prefix + rest.split(delimiter)[0] + delimiter)
            elif key.startswith(prefix):
                files += (
                    f"<Contents><Key>{escape(key)}</Key><Size>{len(content)}</Size>"
                    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                )
        for name in sorted(folders):
            files += f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>"
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{files}</ListBucketResult>"
        return Answer(200, text.encode(), {"Content-Type": "application/xml"})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: SmallStore

    def _serve(self) -> None:
        parts = urllib.parse.urlsplit(self.path)
        bucket, _, key = urllib.parse.unquote(parts.path).lstrip("/").partition("/")
        request = Request(
            self.command,
            bucket,
            key,
            dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True)),
            {name.lower(): value for name, value in self.headers.items()},
            self.rfile.read(int(self.headers.get("Content-Length") or 0)),
        )
        self.server.requests.append(request)
        answer = self.server.manner(request) or self.server.answer(request)
        if answer is DROP:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.connection.shutdown(2)
            return
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        empty = self.command == "HEAD" and answer.status >= 400
        self.send_header("Content-Length", "0" if empty else str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: answer.sent])
        if answer.sent is not None:
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Nothing: the tests say what matters."""


def _etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


@contextlib.contextmanager
def running() -> Iterator[SmallStore]:
    """A store in a thread."""
    store = SmallStore()
    thread = threading.Thread(target=store.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield store
    finally:
        store.shutdown()
        store.server_close()
