"""The head of a Ray cluster on loopback, with a dashboard and a token, and ``lungforge`` as its client."""

import contextlib
import http.client
import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

BIN = Path(sys.executable).parent
#: Options of ``ray start`` that name a port, without ``--`` and ``-port``; the GCS's is plain ``--port``.
_PORTS = (
    "gcs",
    "dashboard",
    "ray-client-server",
    "dashboard-agent-listen",
    "dashboard-agent-grpc",
    "runtime-env-agent",
    "metrics-export",
    "node-manager",
    "object-manager",
)
_WORKERS = 90


class RayHead:
    """One ``ray start --head`` of two CPUs, up within the context; what it wrote goes with it.

    Args:
        environment: What is added to the head's and its workers'.
        work_in: The folder that they work in; one of the head's own, if none is given.
    """

    def __init__(self, environment: dict[str, str] | None = None, work_in: Path | None = None) -> None:
        # Short, for the path of a socket has at most 107 characters; and 0700: those of Ray are open to all.
        self.folder = Path(tempfile.mkdtemp(prefix="lungforge-", dir="/tmp"))
        self.token = secrets.token_hex(32)
        self.token_file = self.folder / "token"
        self.token_file.touch(mode=0o600)
        self.token_file.write_text(self.token, encoding="utf-8")
        self._work_in = work_in or self.folder
        self.block = _free_block(len(_PORTS) + _WORKERS)
        self.ports = dict(zip(_PORTS, self.block, strict=False))
        self.address = f"http://127.0.0.1:{self.ports['dashboard']}"
        # Without the cluster and keys of the other tests.
        plain = {name: os.environ[name] for name in os.environ if not name.startswith(("RAY_", "AWS_"))}
        plain |= {"PATH": f"{BIN}:{plain.get('PATH', '')}", "OMP_NUM_THREADS": "1"}
        self.environment = plain | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(self.token_file)}
        self._of_head = self.environment | (environment or {})
        self._of_head |= {
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # all of it binds to loopback
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",  # or ending it takes half a minute
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def ray_folder(self) -> Path:
        """Where Ray writes: logs, sockets, what was sent."""
        return self.folder / "r"

    @property
    def of_a_driver(self) -> dict[str, str]:
        """The variables with which a program joins it, instead of starting a Ray of its own."""
        return {
            "RAY_ADDRESS": f"127.0.0.1:{self.ports['gcs']}",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # of an address on loopback, as the head itself has it
        }

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def _start(self) -> None:
        ports = [f"--{name}-port={port}".replace("--gcs-", "--") for name, port in self.ports.items()]
        command = [
            BIN / "ray",
            "start",
            "--head",
            "--block",
            "--num-cpus=2",
            "--dashboard-host=127.0.0.1",
            "--disable-usage-stats",
            "--object-store-memory=150000000",
            f"--temp-dir={self.ray_folder}",
            f"--min-worker-port={self.block[len(_PORTS)]}",
            f"--max-worker-port={self.block[-1]}",
            *ports,
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self._of_head, cwd=self._work_in, stdout=log, stderr=log, start_new_session=True
            )

        def up() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "log").read_text(encoding="utf-8")[-3000:]
            with contextlib.suppress(OSError):
                # The node's agent, which runs jobs, comes up after the dashboard, and its metrics last.
                metrics = self.get("/metrics", None, port=self.ports["metrics-export"])
                return metrics[0] == self.get("/api/jobs/")[0] == 200
            return False

        wait_until(up, 120)

    def stop(self) -> None:
        """End the head, which ends all that runs on it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
        shutil.rmtree(self.folder, ignore_errors=True)

    def get(self, path: str, token: str | None = "", *, port: int | None = None) -> tuple[int, str]:
        """Status and body of what the dashboard (or another port) answers; "" stands for the right token."""
        return self.request("GET", path, token, port=port)

    def request(
        self, method: str, path: str, token: str | None = "", body: Any = None, *, port: int | None = None
    ) -> tuple[int, str]:
        """As ``get``, for any method."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.ports["dashboard"], timeout=30)
        headers = {} if token is None else {"Authorization": f"Bearer {token or self.token}"}
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        finally:
            connection.close()

    def jobs(self) -> dict[str, dict[str, Any]]:
        """All submissions by their ids."""
        listed = json.loads(self.get("/api/jobs/")[1])
        return {job["submission_id"]: job for job in listed if job["submission_id"]}

    def command(self, *words: str) -> list[str]:
        """The line of ``lungforge submit`` to this head."""
        return [str(BIN / "lungforge"), "submit", "--address", self.address, *words]

    def submit(self, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        """``lungforge submit WORDS``, to its end; ``changes`` are of the environment."""
        return subprocess.run(
            self.command(*words),
            env=self.environment | changes,
            cwd=self.folder,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=240,
        )


def wait_until(holds: Callable[[], bool], seconds: float) -> None:
    """Ask again and again until it holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not so after {seconds:g} s: {holds}"
        time.sleep(0.1)


def _free_block(count: int) -> range:
    """So many free ports in a row; above those of SeaweedFS, below the ephemeral ones."""
    while True:
        first = random.randrange(23_000, 29_900)
        with contextlib.suppress(OSError), contextlib.ExitStack() as held:
            for port in range(first, first + count):
                held.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return range(first, first + count)
