"""The command that raises hosts on this machine: what it does, what it refuses, and what it leaves behind."""

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.local.cluster import REPOSITORY
from cluster.local.hosts import missing_for_namespaces
from tests.cluster.local_command import (
    Up,
    await_that,
    namespaces_of,
    parents,
    refusal,
    require_nothing_left,
    run,
)

REASON = missing_for_namespaces()
needs_hosts = [
    pytest.mark.namespaces,
    pytest.mark.s3,
    pytest.mark.skipif(REASON is not None, reason=str(REASON)),
]
NOBODY = 65534

_CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)"
#: Says who calls within some seconds.
_LISTEN = """
import socket
server = socket.create_server(("", 5555))
server.settimeout(5)
print("listening", flush=True)
try:
    print(server.accept()[1][0])
except TimeoutError:
    print("nobody")
"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "--workers", "0"], "cluster: --workers is 0; choose from 1 to 32"),
        (
            ["hosts"],
            r"cluster: no cluster is up in FOLDER; start one with `make cluster`, or give its --folder",
        ),
        (["kill", "worker-1"], "cluster: no cluster is up in FOLDER; .*"),
        (["submit", "show", "s3://lab"], "cluster: no cluster is up in FOLDER; .*"),
    ],
)
def test_refuses_in_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    command, *rest = arguments
    line = refusal(run(command, "--folder", str(tmp_path), *rest))
    assert re.fullmatch(said.replace("FOLDER", re.escape(str(tmp_path))), line)


def test_names_the_programs_that_are_missing(tmp_path: Path) -> None:
    for name in ("mount", "nsenter", "setpriv", "unshare"):
        (tmp_path / name).symlink_to("/bin/true")
    line = refusal(run("up", "--folder", str(tmp_path / "cluster"), env={"PATH": str(tmp_path)}))
    assert line == "cluster: hosts in namespaces need ip; on Debian: apt-get install iproute2 util-linux"
    assert not (tmp_path / "cluster").exists()


@pytest.mark.namespaces
@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_refuses_a_folder_that_others_may_enter(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    line = refusal(run("up", "--folder", str(tmp_path / "open")))
    assert line.startswith(f"cluster: other users can enter {tmp_path}/open, which will hold keys;")
    assert list((tmp_path / "open").iterdir()) == []


@pytest.mark.namespaces
@pytest.mark.skipif(REASON is not None, reason=str(REASON))
def test_refuses_who_is_not_root(tmp_path: Path) -> None:
    script = (
        f"import os, sys; import cluster.local.__main__ as it; os.setuid({NOBODY});"
        f"sys.exit(it.main(['up', '--folder', {str(tmp_path / 'cluster')!r}]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, encoding="utf-8", check=False
    )
    assert refusal(done) == "cluster: hosts in namespaces need root; run this as root"


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("up")
    it = Up(folder / "cluster")
    try:
        it.wait_until_it_said("The cluster is up")
        yield it
        namespaces = it.namespaces()
        assert len(namespaces) == 1 + 3 * 4, "a bridge, and three hosts with four namespaces each"
        it.process.terminate()
        assert it.process.wait(30) == 130
        assert not namespaces_of(set(parents())) & namespaces, "all were gone before it left"
        require_nothing_left(it, namespaces)
        assert sorted(path.name for path in it.folder.iterdir()) == ["hosts", "ray-token", "s3", "s3.json"]
    finally:
        it.process.kill()
        it.process.wait()
        shutil.rmtree(folder, ignore_errors=True)


class TestUp:
    """On one cluster."""

    pytestmark = needs_hosts

    def test_hosts_are_listed_with_their_states(self, up: Up) -> None:
        hosts = [line.split() for line in up.do("hosts").stdout.splitlines()]
        addresses = {"s3": "10.77.0.2", "head": "10.77.0.1", "worker-1": "10.77.0.11"}
        assert hosts == [[name, address, "up"] for name, address in addresses.items()]

    def test_a_second_one_in_the_same_folder_is_refused(self, up: Up) -> None:
        assert f"a cluster is up in {up.folder}" in refusal(up.do("up"))

    def test_secrets_are_in_private_files_and_in_no_argument(self, up: Up) -> None:
        secrets = [(up.folder / "ray-token").read_text(encoding="utf-8")]
        secrets += re.findall(r'Key": "(\w+)"', (up.folder / "s3.json").read_text(encoding="utf-8"))
        assert len(secrets) == 3
        for name in ("ray-token", "s3.json"):
            assert (up.folder / name).stat().st_mode & 0o777 == 0o600
        assert up.folder.stat().st_mode & 0o777 == 0o700
        arguments = b""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                arguments += path.read_bytes()
        arguments += b"".join(path.read_bytes() for path in (up.folder / "hosts").glob("*/log"))
        assert not [secret for secret in secrets if secret.encode() in arguments]

    def test_nobody_outside_reaches_a_host_and_no_host_the_dashboard_or_the_outside(self, up: Up) -> None:
        def caller_of(call: Callable[[], object]) -> str:
            with up.start("run", "worker-1", "python", "-c", _LISTEN) as listening:
                assert listening.stdout is not None
                assert listening.stdout.readline() == "listening\n"
                call()
                return listening.stdout.read().strip()

        def from_here() -> None:
            # Where a machine's way out answers for every address, connecting succeeds, to somebody else.
            with contextlib.suppress(OSError):
                socket.create_connection(("10.77.0.11", 5555), timeout=2).close()

        python = ["python", "-c", _CONNECT]
        assert caller_of(lambda: up.do("run", "head", *python, "10.77.0.11", "5555")) == "10.77.0.1"
        assert caller_of(from_here) == "nobody"
        assert "refused" in up.do("run", "worker-1", *python, "10.77.0.1", "8265").stderr
        assert "unreachable" in up.do("run", "worker-1", *python, "192.0.2.1", "80").stderr

    @pytest.mark.ray
    def test_the_code_that_runs_is_the_submitted_one(self, up: Up, tmp_path: Path) -> None:
        for package in ("services", "lungforge"):
            shutil.copytree(REPOSITORY / package, tmp_path / "code" / package)
        for name, old, new in (
            ("common/progress.py", "print(public_message(", 'print("submitted driver", public_message('),
            (
                "preprocess/volume.py",
                "        _use_one_core()\n",
                '        raise ContentError("submitted worker")\n',
            ),
        ):
            path = tmp_path / "code" / "services" / name
            assert path.read_text(encoding="utf-8").count(old) == 1
            path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
        # The server makes its first volumes now, for which a busy machine takes longer than a client waits.
        generated = up.do(
            "run",
            "s3",
            "env",
            "AWS_RETRY_MODE=standard",
            "AWS_MAX_ATTEMPTS=20",
            "python",
            "-m",
            "services",
            "phantom",
            "--out=s3://lab/luna16",
            "--series=1",
            "--size=64",
        )
        assert generated.returncode == 0, generated.stderr
        preprocess = ["preprocess", "--source", "s3://lab/luna16", "--out", "s3://lab/slices"]
        server = "--address=http://127.0.0.1:8265"
        done = up.do(
            "run",
            "head",
            "ray",
            "job",
            "submit",
            server,
            f"--working-dir={tmp_path}/code",
            "--",
            "python",
            "-m",
            "services",
            *preprocess,
        )
        assert done.returncode == 1
        assert "submitted driver lungforge preprocess: submitted worker" in done.stdout
        # Submitted from the repository, it is the repository's code.
        done = up.do("submit", *preprocess)
        assert done.returncode == 0, done.stdout
        assert re.search(r"volumes +1\n", done.stdout)

    def test_hosts_are_cut_off_killed_and_brought_back(self, up: Up) -> None:
        assert up.do("cut", "worker-1").stdout == "worker-1 is cut off\n"
        assert "worker-1 is cut off; only a host that is up can be cut" in refusal(up.do("cut", "worker-1"))
        ping = ["run", "worker-1", "python", "-c", "import socket; socket.create_connection(('s3', 8333), 2)"]
        assert "timed out" in up.do(*ping).stderr
        assert up.do("rejoin", "worker-1").stdout == "worker-1 is up\n"
        await_that(lambda: up.do(*ping).returncode == 0)
        assert up.do("kill", "worker-1").stdout == "worker-1 is killed\n"
        assert "worker-1 is killed; bring it back first" in refusal(up.do("run", "worker-1", "true"))
        assert up.do("rejoin", "worker-1").stdout == "worker-1 is up\n"
        assert "there is no host 'worker-9'; the hosts are s3, head, worker-1" in refusal(
            up.do("kill", "worker-9")
        )
        ready = ["run", "head", "python", "-m", "cluster.local.ready", "hosts", "2"]
        assert up.do(*ready).returncode == 0, "Ray on it has joined the cluster again"

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
    def test_another_one_beside_it_leaves_nothing(self, up: Up, tmp_path: Path, number: int) -> None:
        other = Up(tmp_path / "other")
        other.wait_until_it_said("Ray runtime started", tmp_path / "other" / "hosts" / "head" / "log")
        namespaces = other.namespaces()
        assert len(namespaces) >= 1 + 2 * 4, "a bridge, and S3 and head with four namespaces each"
        assert not namespaces & up.namespaces()
        other.process.send_signal(number)
        assert other.process.wait(30) == (130 if number == signal.SIGINT else -signal.SIGKILL)
        require_nothing_left(other, namespaces)
        assert up.do("hosts").stdout.count(" up\n") == 3
