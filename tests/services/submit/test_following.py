"""Following a job despite a second submission, a cut connection and a cluster that ends."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.commands import parse
from services.submit.config import submission_id
from tests.ray_head import RayHead, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    """A cluster of one head."""
    with RayHead() as head:
        yield head


#: ``lungforge`` where another process submits the same command between listing and submission.
RIVAL = """
import json, sys
from ray.job_submission import JobSubmissionClient
from services.submit.client import JobClient
listed, name = JobClient.list_jobs, sys.argv.pop(1)
def list_jobs(self):
    jobs = listed(self)
    if not any(job.submission_id == name for job in jobs):
        line = "sleep 1; echo '" + json.dumps({"winner": "rival"}) + "'"
        JobSubmissionClient(self.get_address()).submit_job(entrypoint=line, submission_id=name)
    return jobs
JobClient.list_jobs = list_jobs
from services.cli.main import main
sys.exit(main())
"""


def test_a_second_submission_attaches_to_the_first(head: RayHead) -> None:
    name = submission_id("show", parse("show", ["somewhere"]))
    start = [sys.executable, "-c", RIVAL, name, *head.command("show", "somewhere", "--json")[1:]]
    done = subprocess.run(
        start, env=head.environment, capture_output=True, encoding="utf-8", check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert f"{name} is running" in done.stderr
    assert json.loads(done.stdout) == {"winner": "rival"}
    assert [job for job in head.jobs() if job.startswith(name)] == [name]


class Wire:
    """A port of loopback that leads to another, until its connections are cut."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open: list[socket.socket] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection; new ones are let through."""
        ended, self._open = self._open, []
        for end in ended:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let nothing through any more."""
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._server.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    @staticmethod
    def _pass_on(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)


#: Prints 30 lines, and waits after the fifth for a file ``go`` in the given folder.
COUNTING = """
import json, sys, time
from pathlib import Path
for number in range(30):
    print("line", number, flush=True)
    while number == 5 and not (Path(sys.argv[2]) / "go").exists():
        time.sleep(0.1)
print(json.dumps({"lines": 30}))
"""


def test_a_cut_connection_is_restored_and_no_line_is_lost_or_repeated(head: RayHead, tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "__main__.py").write_text(COUNTING, encoding="utf-8")
    wire = Wire(head.ports["dashboard"])
    options = ["--address", f"http://127.0.0.1:{wire.port}", "--working-dir", str(tmp_path)]
    process = subprocess.Popen(
        [*head.command()[:2], *options, "show", str(tmp_path), "--json"],
        env=head.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert process.stderr is not None
    printed = []
    for line in process.stderr:
        printed.append(line)
        if line == "line 5\n":
            break
    wire.cut()
    (tmp_path / "go").touch()
    out, rest = process.communicate(timeout=120)
    wire.close()
    assert process.returncode == 0, rest
    assert json.loads(out) == {"lines": 30}
    lines = [line for line in [*printed, *rest.splitlines(keepends=True)] if line.startswith("line ")]
    assert lines == [f"line {number}\n" for number in range(30)]


#: ``lungforge`` with less patience, so that a test has it too.
IMPATIENT = """
import sys
from services.submit import client
client.ANSWER_S, client.SILENCE_S = 3.0, 1.0
from services.cli.main import main
sys.exit(main())
"""


def _dashboard(head: RayHead) -> list[int]:
    """The processes that answer for the dashboard."""
    children = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if str(head.ray_folder) in line and "/dashboard/dashboard.py" in line:
                children.append(int(entry.name))
    return children


def test_a_cluster_that_falls_silent_or_dies_ends_the_following(head: RayHead, tmp_path: Path) -> None:
    """The last of this file, for it ends the head."""
    words = ["phantom", "--out", str(tmp_path / "luna16"), "--series", "100000", "--size", "64"]
    name = submission_id(words[0], parse(words[0], words[1:]))
    start = [sys.executable, "-c", IMPATIENT, *head.command(*words)[1:]]
    silent = subprocess.Popen(start, env=head.environment, stderr=subprocess.PIPE, encoding="utf-8")
    wait_until(lambda: head.jobs().get(name, {}).get("status") == "RUNNING", 60)
    stopped = _dashboard(head)
    assert stopped
    try:
        for process in stopped:
            os.kill(process, signal.SIGSTOP)
        _, printed = silent.communicate(timeout=60)
    finally:
        for process in stopped:
            os.kill(process, signal.SIGCONT)
    assert silent.returncode == 1, printed
    assert printed.endswith("or resumes from what is in the store\n")
    assert f"{head.address} no longer answers" in printed

    following = subprocess.Popen(start, env=head.environment, stderr=subprocess.PIPE, encoding="utf-8")
    assert following.stderr is not None
    assert any("Running entrypoint" in line for line in following.stderr)
    head.stop()
    _, printed = following.communicate(timeout=60)
    assert following.returncode == 1, printed
    assert f"{head.address} no longer answers" in printed
    assert "Traceback" not in printed
