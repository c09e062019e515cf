"""A Slurm cluster of two nodes on this machine: munged, slurmctld and two slurmd, in one folder."""

import contextlib
import json
import os
import pwd
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).parents[2] / "cluster" / "slurm" / "lungforge.sbatch"
BIN = Path(sys.executable).parent
#: Nodes and their addresses: two of loopback's, so that one node is not reached at the other's.
NODES = {"n1": "127.0.0.2", "n2": "127.0.0.3"}
#: What each node says it has. The machine may have less: nothing is bound to a core.
CORES, GPUS, MEGABYTES = 2, 1, 6000

CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
GresTypes=gpu
JobAcctGatherType=jobacct_gather/none
ReturnToService=2
MailProg=/bin/true
{nodes}
PartitionName=all Nodes=n1,n2 Default=YES OverSubscribe=NO State=UP
"""


def missing() -> str | None:
    """What this machine lacks for a cluster, or None."""
    if os.environ.get("LUNGFORGE_TEST_CLUSTER") != "1":
        return "starts a cluster: set LUNGFORGE_TEST_CLUSTER=1 (make test-cluster does)"
    programs = [name for name in ("munged", "slurmctld", "slurmd", "sbatch") if shutil.which(name) is None]
    if programs:
        return f"needs {', '.join(programs)} (Debian: slurm-wlm, munge)"
    return None if os.geteuid() == 0 else "needs root, as slurmd does"


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 60.0) -> Any:
    """What the condition says, as soon as it is true; AssertionError when it has not been within the time."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.2)
    return value


class SlurmCluster:
    """A running cluster, and what a user does with it.

    Attributes:
        folder: Its files, and the home of its user; short, as paths of sockets must be.
        slurmd: The daemons, by name of the node.
    """

    def __init__(self) -> None:
        # Not pytest's folder: the user of munged could not enter it.
        self.folder = Path(tempfile.mkdtemp(prefix="lungforge-slurm-"))
        self.folder.chmod(0o755)
        self.slurmd: dict[str, subprocess.Popen] = {}
        self._others: list[subprocess.Popen] = []
        self._jobs: list[int] = []
        ports = _free_ports(3)
        nodes = "\n".join(
            f"NodeName={name} NodeHostname={socket.gethostname()} NodeAddr={address} Port={port}"
            f" CPUs={CORES} Gres=gpu:{GPUS} RealMemory={MEGABYTES} State=UNKNOWN"
            for (name, address), port in zip(NODES.items(), ports[1:], strict=True)
        )
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(host=socket.gethostname(), folder=self.folder, ports=ports, nodes=nodes),
            encoding="utf-8",
        )
        (self.folder / "gres.conf").write_text("AutoDetect=off\nName=gpu File=/dev/zero\n", encoding="utf-8")
        (self.folder / "state").mkdir()
        # Without the Ray and keys of the other tests.
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_"))}
        self.settings = {
            "LUNGFORGE_VENV": str(BIN.parent),
            "LUNGFORGE_JOIN_SECONDS": "150",  # two hosts share a machine that may be busy
            "OMP_NUM_THREADS": "1",
        }
        self.environment = outside | {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def start(self) -> None:
        """Start the daemons and wait until both nodes are idle."""
        self._start_munged()
        options = ["-D", "-f", str(self.folder / "slurm.conf")]
        self._others.append(self._daemon("slurmctld", *options))
        for name in NODES:
            (self.folder / f"spool-{name}").mkdir()
            self.slurmd[name] = self._daemon("slurmd", *options, "-N", name)
        wait_for(lambda: self.run("sinfo", "-h", "-o", "%T %D").strip() == "idle 2", "two idle nodes")

    def stop(self) -> None:
        """End every job, every daemon, and what they have left; remove the folder."""
        with contextlib.suppress(subprocess.SubprocessError, AssertionError):
            self.run("scancel", "--user=root")
            wait_for(lambda: not self.run("squeue", "-h"), "an empty queue", 30)
        for process in [*self.slurmd.values(), *reversed(self._others)]:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in [*self.slurmd.values(), *self._others]:
            process.wait(30)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for folder in (self.folder, *self._folders_of_ray()):
            shutil.rmtree(folder, ignore_errors=True)

    def run(self, *command: str, **environment: str) -> str:
        """The output of a command of Slurm; an error when it fails."""
        done = subprocess.run(
            command,
            env=self.environment | environment,
            cwd=self.folder,
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, command: str, *options: str, **environment: str) -> int:
        """Submit a command of lungforge, as a user does; the job ID."""
        words = ["sbatch", "--parsable", *options, str(SCRIPT), *shlex.split(command)]
        self._jobs.append(int(self.run(*words, **self.settings | environment)))
        return self._jobs[-1]

    def output(self, job: int) -> str:
        """What a job has written."""
        path = self.folder / f"slurm-{job}.out"
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def account(self, job: int) -> str:
        """What is known of a job that did not end as it should: its output, and the logs of its nodes."""
        logs = sorted((self.folder / f"lungforge-{job}").glob("*.log"))
        return "\n".join(
            [self.output(job), *(f"{log.name}:\n{log.read_text(encoding='utf-8')[-3000:]}" for log in logs)]
        )

    def state(self, job: int) -> dict[str, str]:
        """The fields of ``scontrol show job``."""
        return dict(re.findall(r"(\w+)=(\S*)", self.run("scontrol", "show", "job", str(job))))

    def wait_end(self, job: int, seconds: float = 120.0) -> None:
        """Wait until Slurm has done with a job."""
        running = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING"}
        wait_for(lambda: self.state(job)["JobState"] not in running, f"the end of job {job}", seconds)
        wait_for(lambda: not self.run("squeue", "-h", "-j", str(job)), f"its nodes to be free of {job}", 60)

    def wait_for_line(self, job: int, text: str) -> str:
        """The first line of a job's output with a text in it, from there on."""

        def line() -> str | None:
            match = re.search(rf"{re.escape(text)}.*(?=\n)", self.output(job))
            assert match or self.state(job)["JobState"] in {"PENDING", "RUNNING"}, self.account(job)
            return match and match[0]

        try:
            return wait_for(line, f"{text!r}", 120)
        except AssertionError:
            print(self.account(job))
            raise

    def processes(self) -> dict[int, str]:
        """Every process that a job of this cluster has started, by the environment that Slurm gave it."""
        running = {}
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                environment = (process / "environ").read_bytes().decode(errors="replace").split("\0")
                if f"SLURM_CONF={self.folder / 'slurm.conf'}" not in environment:
                    continue
                if any(setting.startswith("SLURM_JOB_ID=") for setting in environment):
                    running[int(process.name)] = (
                        (process / "cmdline").read_text(encoding="utf-8").replace("\0", " ")
                    )
        return running

    def wait_until_nothing_is_left(self, *, killed: bool = False) -> None:
        """Wait a moment for the last processes of jobs to go; and Ray's folders, unless Slurm killed it."""

        def left() -> list[str]:
            return [*self.processes().values(), *([] if killed else map(str, self._folders_of_ray()))]

        with contextlib.suppress(AssertionError):
            wait_for(lambda: not left(), "the end of all processes", 15)
        remains = left()
        # Told of once: the next test is not to find them again.
        for folder in self._folders_of_ray():
            shutil.rmtree(folder)
        assert not remains, remains

    def _folders_of_ray(self) -> list[Path]:
        return [path for job in self._jobs for path in Path("/tmp").glob(f"lungforge-{job}-??????")]

    def ray_resources(self, job: int) -> dict[str, dict[str, float]]:
        """CPUs and GPUs of the nodes that Ray has in a job."""
        program = (
            "import json\nfrom ray.util.state import list_nodes\n"
            "nodes = list_nodes(detail=True)\n"
            "print(json.dumps({node.node_name: node.resources_total for node in nodes}))"
        )
        port = re.search(r"submitted \S+ to (http://\S+)", self.output(job))
        assert port is not None
        token = str(self.folder / f"lungforge-{job}" / "token")
        ray = {"RAY_API_SERVER_ADDRESS": port[1], "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": token}
        return json.loads(self.run(str(BIN / "python"), "-c", program, **ray).splitlines()[-1])

    def _start_munged(self) -> None:
        # munged refuses to be root, and to use a key that others may read.
        user = pwd.getpwnam("munge")
        home = self.folder / "munge"
        home.mkdir(mode=0o755)
        key = home / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(64))
        for path in (home, key):
            os.chown(path, user.pw_uid, user.pw_gid)
        files = {
            "key-file": "key",
            "socket": "socket",
            "pid-file": "pid",
            "log-file": "log",
            "seed-file": "seed",
        }
        options = [f"--{option}={home / name}" for option, name in files.items()]
        identity = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self._others.append(self._daemon("munged", "--foreground", *options, **identity))
        wait_for((home / "socket").exists, "munged", 10)

    def _daemon(self, *command: str, **identity: Any) -> subprocess.Popen:
        with (self.folder / f"{command[0]}.out").open("ab") as output:
            return subprocess.Popen(command, stdout=output, stderr=output, env=self.environment, **identity)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
