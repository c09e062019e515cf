"""The command that raises hosts on this machine, for tests: running it, and what of it is on the machine."""

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cluster.local.cluster import REPOSITORY

PATIENCE_S = 200
COMMAND = [sys.executable, "-m", "cluster.local"]


def run(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*COMMAND, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE_S,
        check=False,
        **options,
    )


def refusal(done: subprocess.CompletedProcess) -> str:
    """The one line that a refusal is."""
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    return line


class Up:
    """``python -m cluster.local up`` in a process."""

    def __init__(self, folder: Path, workers: int = 1) -> None:
        self.folder = folder
        self.errors = folder.with_suffix(".errors")
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*COMMAND, "up", "--folder", str(folder), "--workers", str(workers)],
                cwd=REPOSITORY,
                stderr=errors,
            )

    def wait_until_it_said(self, text: str, file: Path | None = None) -> None:
        place = file or self.errors
        await_that(
            lambda: (
                self.process.poll() is not None
                or (place.exists() and text in place.read_text(encoding="utf-8"))
            )
        )
        assert self.process.poll() is None, self.errors.read_text(encoding="utf-8")

    def do(self, command: str, *words: str) -> subprocess.CompletedProcess:
        return run(command, "--folder", str(self.folder), *words)

    def start(self, command: str, *words: str) -> subprocess.Popen:
        return subprocess.Popen(
            [*COMMAND, command, "--folder", str(self.folder), *words],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )

    def namespaces(self) -> set[str]:
        """Those of the processes below it that are not the machine's."""
        host_namespaces = {_namespace("self", kind) for kind in ("net", "pid", "mnt", "uts")}
        below = {self.process.pid}
        for _ in range(6):  # generations
            below |= {pid for pid, parent in parents().items() if parent in below}
        return namespaces_of(below) - host_namespaces


def parents() -> dict[int, int]:
    result = {}
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            result[int(path.name)] = int(
                (path / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
            )
    return result


def _namespace(pid: int | str, kind: str) -> str:
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())


def namespaces_of(pids: set[int]) -> set[str]:
    result = set()
    for pid in pids:
        for kind in ("net", "pid", "mnt", "uts"):
            with contextlib.suppress(OSError):
                result.add(_namespace(pid, kind))
    return result


def await_that(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def require_nothing_left(up: Up, namespaces: set[str]) -> None:
    """No process is in a namespace of the cluster, and the machine has no link and no mount of it."""
    assert len(namespaces) >= 3
    await_that(lambda: not namespaces_of(set(parents())) & namespaces)
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, encoding="utf-8", check=True).stdout
    assert not re.search(r"\b(bridge|head|s3|worker-1)[@:]", links)
    assert str(up.folder) not in Path("/proc/mounts").read_text(encoding="utf-8")
    assert "/tmp/ray" not in Path("/proc/mounts").read_text(encoding="utf-8")
