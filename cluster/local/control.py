"""Control of a running cluster from other terminals: JSON lines over a socket in its folder."""

import contextlib
import json
import socket
import socketserver
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lungforge.errors import InputError

#: Handler of requests: words to a JSON value.
Answer = Callable[[list[str]], Any]


@contextlib.contextmanager
def control_socket(folder: Path, answer: Answer) -> Iterator[socketserver.UnixStreamServer]:
    """A socket for those who can enter the folder; call ``serve_forever`` on the yielded server to answer.

    Raises:
        InputError: A cluster is already up in this folder, or its path is too long for a socket.
    """
    path = folder / "control"
    if _answers(path):
        raise InputError(f"a cluster is up in {folder}; stop it, or choose another --folder")
    path.unlink(missing_ok=True)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            try:
                reply = {"answer": answer(json.loads(self.rfile.readline()))}
            except InputError as error:
                reply = {"refused": str(error)}
            self.wfile.write(f"{json.dumps(reply)}\n".encode())

    try:
        # Requests are served sequentially in the caller's thread, as hosts die with the thread that started
        # them.
        server = socketserver.UnixStreamServer(str(path), Handler)
    except OSError as error:
        raise InputError(
            f"cannot create a socket at {path}: {error}; choose a --folder with a shorter path"
        ) from error
    try:
        with server:
            yield server
    finally:
        path.unlink(missing_ok=True)


def ask(folder: Path, *words: str) -> Any:
    """Send a request to a running cluster.

    Raises:
        InputError: No cluster is up, or it refuses the request.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(folder.resolve() / "control"))
        except OSError:
            raise InputError(
                f"no cluster is up in {folder}; start one with `make cluster`, or give its --folder"
            ) from None
        with connection.makefile("rw") as stream:
            stream.write(f"{json.dumps(words)}\n")
            stream.flush()
            line = stream.readline()
    if not line:
        raise InputError(f"the cluster in {folder} gave no answer; see its terminal for the reason")
    reply = json.loads(line)
    if "refused" in reply:
        raise InputError(reply["refused"])
    return reply["answer"]


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(path))
        except OSError:
            return False
    return True
