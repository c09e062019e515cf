"""How other terminals reach a cluster that is up: a line of JSON to a socket in its folder, and one back."""

import contextlib
import json
import socket
import socketserver
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from lungforge.errors import InputError

#: What answers a request: its words to a JSON value.
Answer = Callable[[list[str]], Any]


@contextlib.contextmanager
def control_socket(folder: Path, answer: Answer) -> Iterator[socketserver.UnixStreamServer]:
    """A socket that only who may enter the folder reaches; ``serve_forever`` of what is yielded answers.

    Raises:
        InputError: A cluster is up in this folder, or the folder's path is too long for a socket.
    """
    path = folder / "control"
    if _answers(path):
        raise InputError(f"a cluster is up in {folder}; end it, or give this one another --folder")
    path.unlink(missing_ok=True)

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            try:
                reply = {"answer": answer(json.loads(self.rfile.readline()))}
            except InputError as error:
                reply = {"refused": str(error)}
            self.wfile.write(f"{json.dumps(reply)}\n".encode())

    try:
        # It serves one request after another in the thread that it is run in, as children of the process
        # die with the thread that started them.
        server = socketserver.UnixStreamServer(str(path), Handler)
    except OSError as error:
        raise InputError(f"no socket at {path}: {error}; give a --folder with a shorter path") from error
    try:
        with server:
            yield server
    finally:
        path.unlink(missing_ok=True)


def ask(folder: Path, *words: str) -> Any:
    """Ask a cluster that is up.

    Raises:
        InputError: There is none, or it refuses.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(str(folder.resolve() / "control"))
        except OSError:
            raise InputError(
                f"no cluster is up in {folder}; raise one by `make cluster`, or name its --folder"
            ) from None
        with connection.makefile("rw") as stream:
            stream.write(f"{json.dumps(words)}\n")
            stream.flush()
            line = stream.readline()
    if not line:
        raise InputError(f"the cluster in {folder} gave no answer; its own terminal says why")
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
