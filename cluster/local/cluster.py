"""Head, workers and S3 as hosts in namespaces of one machine, which can be killed and cut off."""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cluster.local.hosts import Bridge, Host, address_of, missing_for_namespaces
from lungforge.errors import InputError

REPOSITORY = Path(__file__).parents[2]
BUCKET = "lab"
MOST_WORKERS = 32
_HEAD, _S3, _FIRST_WORKER = 1, 2, 11
DASHBOARD = "http://127.0.0.1:8265"
_RAY_PORT, _S3_PORT, _FILER_PORT = 6379, 8333, 8888
#: Object store of each host, in bytes; its shared memory is somewhat larger.
_OBJECT_STORE = 300_000_000
_READY_S = 180
#: Ray's timeouts, in ms and s, chosen so that a lost host is noticed within some 10 s. Without those of gRPC,
#: the driver waits for responses from a silent host: with Ray's defaults, for up to 7 minutes.
_QUICK_TO_NOTICE = {
    "RAY_health_check_initial_delay_ms": "2000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "3",
    "RAY_grpc_client_keepalive_time_ms": "3000",
    "RAY_grpc_client_keepalive_timeout_ms": "6000",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "5",
}
#: Variables that the hosts inherit; others, such as a proxy or the keys of another store, would mislead them.
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TERM", "TZ", "OMP_NUM_THREADS")


class LocalCluster:
    """A Ray cluster of a head and workers of one core each, and an S3 server; up while its context is open.

    Args:
        folder: Folder of the hosts' files and logs and of the objects in S3, which are kept; made if missing.
        workers: Number of workers.

    Raises:
        InputError: The number of workers is out of range, other users can enter the folder, or the machine
            lacks what hosts need.
    """

    s3_uri = f"s3://{BUCKET}"

    def __init__(self, folder: Path, workers: int = 3) -> None:
        if not 1 <= workers <= MOST_WORKERS:
            raise InputError(f"--workers is {workers}; choose from 1 to {MOST_WORKERS}")
        missing = missing_for_namespaces()
        if missing is not None:
            raise InputError(missing)
        self.folder = folder.resolve()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.folder.stat().st_mode & 0o077:
            raise InputError(
                f"other users can enter {self.folder}, which will hold keys; "
                "choose a new --folder, or chmod 700 it"
            )
        self.workers = tuple(f"worker-{number}" for number in range(1, workers + 1))
        self.hosts: dict[str, Host] = {}
        self._bridge: Bridge | None = None

    def __enter__(self) -> Self:
        self._write_keys()
        try:
            self._bridge = Bridge()
            self._make_hosts()
            self.hosts["s3"].boot()
            self.hosts["head"].boot()
            self._await("s3", "store")
            self._await("head", "hosts", "1")
            for name in self.workers:
                self.hosts[name].boot()
            self.await_workers()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop every host; their files are kept."""
        for host in self.hosts.values():
            host.kill()
        if self._bridge is not None:
            self._bridge.close()

    @property
    def environment(self) -> dict[str, str]:
        """The environment of every process on every host."""
        document = json.loads((self.folder / "s3.json").read_text(encoding="utf-8"))
        keys = document["identities"][0]["credentials"][0]
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        return kept | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "AWS_ENDPOINT_URL": f"http://{address_of(_S3)}:{_S3_PORT}",
            "AWS_ACCESS_KEY_ID": keys["accessKey"],
            "AWS_SECRET_ACCESS_KEY": keys["secretKey"],
            "AWS_REGION": "us-east-1",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "GLOO_SOCKET_IFNAME": "eth0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "ray-token"),
            **_QUICK_TO_NOTICE,
        }

    def submission(self, *arguments: str, working_dir: Path = REPOSITORY) -> list[str]:
        """The command that submits a job, to be run on the head.

        Args:
            arguments: Arguments of ``python -m services``.
            working_dir: Folder whose code runs.
        """
        submit = ["ray", "job", "submit", f"--address={DASHBOARD}", "--log-color=false"]
        return [*submit, f"--working-dir={working_dir}", "--", "python", "-m", "services", *arguments]

    def submit(
        self, *arguments: str, working_dir: Path = REPOSITORY, **options: Any
    ) -> "subprocess.Popen[Any]":
        """Submit a job and follow it: the process prints the job's output, and exits with 0 or 1.

        Args:
            arguments: Arguments of ``python -m services``.
            working_dir: Folder whose code runs.
            options: Options of ``subprocess.Popen``.
        """
        return self.hosts["head"].run(self.submission(*arguments, working_dir=working_dir), **options)

    def kill(self, name: str) -> None:
        """Kill all processes of a host at once; the kernel closes its connections."""
        self.host(name).kill()

    def cut(self, name: str) -> None:
        """Cut a host off from the network: it keeps running, but cannot reach or be reached."""
        host = self.host(name)
        if not host.alive or host.cut_off:
            raise InputError(f"{name} is {state_of(host)}; only a host that is up can be cut off")
        host.set_link(up=False)

    def rejoin(self, name: str) -> None:
        """Bring back a host that was killed or cut off; its Ray restarts and joins the cluster."""
        host = self.host(name)
        if not host.alive:
            host.boot()
        elif host.cut_off:
            host.set_link(up=True)
        else:
            raise InputError(f"{name} is up; only a host that was killed or cut off can come back")

    def await_workers(self) -> None:
        """Wait until Ray lists every worker that is up."""
        up = sum(self.hosts[name].alive and not self.hosts[name].cut_off for name in self.workers)
        self._await("head", "hosts", str(1 + up))

    def host(self, name: str) -> Host:
        """A host by name.

        Raises:
            InputError: There is no such host.
        """
        if name not in self.hosts:
            raise InputError(f"there is no host {name!r}; the hosts are {', '.join(self.hosts)}")
        return self.hosts[name]

    def _await(self, name: str, *what: str) -> None:
        command = [sys.executable, "-m", "cluster.local.ready", *what]
        done = self.hosts[name].run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8"
        )
        try:
            output, _ = done.communicate(timeout=_READY_S)
        except subprocess.TimeoutExpired:
            output = f"not within {_READY_S} s"
        if done.returncode:
            log = (self.hosts[name].folder / "log").read_text(encoding="utf-8")[-3000:]
            raise RuntimeError(f"{name} is not ready: {output}\n{log}")

    def _write_keys(self) -> None:
        (self.folder / "s3").mkdir(exist_ok=True)
        keys = [{"accessKey": secrets.token_hex(8), "secretKey": secrets.token_hex(16)}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        identities = {"identities": [{"name": BUCKET, "credentials": keys, "actions": actions}]}
        for name, content in (("s3.json", json.dumps(identities)), ("ray-token", secrets.token_hex(32))):
            path = self.folder / name
            path.touch(mode=0o600)
            path.write_text(content, encoding="utf-8")

    def _make_hosts(self) -> None:
        assert self._bridge is not None
        commands: dict[str, tuple[int, Sequence[str]]] = {
            "s3": (_S3, _s3_command(self.folder)),
            "head": (_HEAD, _ray_command(_HEAD, head=True)),
        }
        for number, name in enumerate(self.workers, _FIRST_WORKER):
            commands[name] = (number, _ray_command(number, head=False))
        hosts = self.folder / "hosts"
        environment = self.environment
        for name, (number, command) in commands.items():
            host = Host(name, address_of(number), self._bridge, hosts / name, environment, command)
            self.hosts[name] = host
        names = [f"{host.address} {host.name}\n" for host in self.hosts.values()]
        hosts.mkdir(exist_ok=True)
        (hosts / "names").write_text("".join(["127.0.0.1 localhost\n", *names]), encoding="utf-8")


def state_of(host: Host) -> str:
    """State of a host: up, cut off or killed."""
    if not host.alive:
        return "killed"
    return "cut off" if host.cut_off else "up"


def _ray_command(number: int, *, head: bool) -> list[str]:
    """Command that runs Ray on a host. The head runs the jobs' drivers; tasks and actors go to workers."""
    role = (
        ["--head", f"--port={_RAY_PORT}", "--num-cpus=0", "--dashboard-host=127.0.0.1"]
        if head
        else [f"--address={address_of(_HEAD)}:{_RAY_PORT}", "--num-cpus=1"]
    )
    common = [f"--node-ip-address={address_of(number)}", f"--object-store-memory={_OBJECT_STORE}"]
    return ["ray", "start", *role, *common, "--disable-usage-stats", "--block"]


def _s3_command(folder: Path) -> list[str]:
    return [
        "weed",
        "mini",
        f"-dir={folder / 's3'}",
        f"-ip={address_of(_S3)}",
        f"-ip.bind={address_of(_S3)}",
        f"-s3.port={_S3_PORT}",
        f"-filer.port={_FILER_PORT}",
        "-filer.localSocket=/tmp/ray/filer.sock",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",
        f"-s3.config={folder / 's3.json'}",
        f"-bucket={BUCKET}",
        "-master.telemetry=false",
        "-webdav=false",
        "-admin.ui=false",
    ]
