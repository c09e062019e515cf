"""Hosts on one Linux machine: processes in separate namespaces, connected by a bridge.

Nothing here outlives its processes. The first process of a host keeps its namespaces alive, another one those
of the bridge, and each gets SIGKILL when the process that started it ends, for whatever reason. With the last
process of a namespace, the kernel removes its links, its mounts and everything that ran in it.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lungforge.errors import InputError

_TOOLS = ("ip", "mount", "nsenter", "setpriv", "unshare")
_SUBNET = "10.77.0"
#: Size of /dev/shm in each host, where Ray keeps objects.
_SHARED_MEMORY = "400m"

_REPOSITORY = Path(__file__).parents[2]
_FIRST_PROCESS = Path(__file__).with_name("host.sh")


def missing_for_namespaces() -> str | None:
    """What this machine lacks for hosts, with the remedy; None if it lacks nothing."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return (
            f"hosts in namespaces need {', '.join(missing)}; on Debian: apt-get install iproute2 util-linux"
        )
    if os.geteuid():
        return "hosts in namespaces need root; run this as root"
    return None


def address_of(number: int) -> str:
    """Address of a host, by its number in the cluster's network."""
    return f"{_SUBNET}.{number}"


class Bridge:
    """An isolated bridge that connects the hosts, in a separate network namespace."""

    def __init__(self) -> None:
        self._keeper = _start(["unshare", "--net", "sleep", "infinity"], dict(os.environ))
        _await(lambda: _entered(self._keeper.pid, "net"))
        self._ip("link", "add", "bridge", "type", "bridge")
        self._ip("link", "set", "bridge", "up")

    def plug_in(self, name: str, address: str, pid: int) -> None:
        """Connect the network namespace of a process to the bridge, by a card ``eth0``."""
        # The hardware address is the same after every boot, as other hosts cache it for a while.
        hardware = ":".join(["02", "00", *(f"{int(byte):02x}" for byte in address.split("."))])
        card = ["name", "eth0", "address", hardware, "netns", str(pid)]
        self._ip("link", "add", name, "type", "veth", "peer", *card)
        self._ip("link", "set", name, "master", "bridge", "up")

    def remove(self, name: str) -> None:
        """Remove a link, unless it has gone with its host."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._ip("link", "delete", name)

    def set_link(self, name: str, *, up: bool) -> None:
        """Cut or restore a link. Packets to a cut link are dropped silently."""
        self._ip("link", "set", name, "up" if up else "down")

    def close(self) -> None:
        """Remove the bridge."""
        self._keeper.kill()
        self._keeper.wait()

    def _ip(self, *arguments: str) -> None:
        subprocess.run(
            ["nsenter", f"--target={self._keeper.pid}", "--net", "ip", *arguments],
            check=True,
            capture_output=True,
        )


class Host:
    """A host: isolated processes with a network card and shared memory.

    Files are the machine's, except for ``/tmp/ray``, which is a folder of the host.

    Args:
        name: Up to 15 letters, digits and dashes.
        address: Address in the bridge's network.
        bridge: Bridge that it is connected to.
        folder: Folder of its files and log, which are kept when it is killed.
        environment: Environment of all its processes.
        command: Command that it runs.
    """

    def __init__(
        self,
        name: str,
        address: str,
        bridge: Bridge,
        folder: Path,
        environment: Mapping[str, str],
        command: Sequence[str],
    ) -> None:
        self.name, self.address, self.folder = name, address, folder
        self._bridge, self._environment, self._command = bridge, dict(environment), list(command)
        self._outer: subprocess.Popen | None = None
        self._first = 0
        self.cut_off = False

    @property
    def alive(self) -> bool:
        """Whether it is running, cut off or not."""
        return self._outer is not None and self._outer.poll() is None

    def boot(self) -> None:
        """Start the host."""
        assert not self.alive, f"{self.name} is running already"
        files = self.folder / "ray"
        files.mkdir(parents=True, exist_ok=True)
        self._first, self.cut_off = 0, False
        Path("/tmp/ray").mkdir(exist_ok=True)  # noqa: S108 - a mount point; nothing is written to it here
        namespaces = ["--net", "--mount", "--pid", "--uts", "--fork", "--mount-proc", "--kill-child"]
        names = self.folder.parent / "names"
        arguments = [self.name, self.address, _SHARED_MEMORY, str(files), str(names), *self._command]
        with (self.folder / "log").open("ab") as log:
            self._outer = _start(
                ["unshare", *namespaces, "sh", str(_FIRST_PROCESS), *arguments],
                self._environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
        outer = self._outer.pid
        _await(lambda: bool(_children(outer)))
        (self._first,) = _children(outer)
        self._bridge.plug_in(self.name, self.address, self._first)
        assert self._outer.stdin is not None
        self._outer.stdin.write(b"plugged in\n")
        self._outer.stdin.close()

    def kill(self) -> None:
        """Kill all processes of the host at once, and wait until they are gone."""
        if self._outer is None:
            return
        if self._first:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._first, signal.SIGKILL)
        else:
            self._outer.kill()  # its first process has not started yet
        self._outer.wait()
        self._bridge.remove(self.name)
        self._outer = None

    def set_link(self, *, up: bool) -> None:
        """Cut or restore the host's link."""
        self._bridge.set_link(self.name, up=up)
        self.cut_off = not up

    @property
    def entrance(self) -> list[str]:
        """Prefix of a command that runs it on the host, in the folder of the repository.

        Raises:
            InputError: The host is killed.
        """
        if not self.alive:
            raise InputError(f"{self.name} is killed; bring it back first")
        namespaces = ["--net", "--mount", "--pid", "--uts", f"--wdns={_REPOSITORY}"]
        return ["nsenter", f"--target={self._first}", *namespaces]

    def run(self, command: Sequence[str], **options: Any) -> subprocess.Popen:
        """Start a command on the host.

        Args:
            command: Program and arguments.
            options: Options of ``subprocess.Popen``.
        """
        return _start([*self.entrance, *command], self._environment, **options)

    def processes(self) -> dict[int, str]:
        """The processes of the host: ids on the machine to process titles."""
        titles = {}
        namespace = _namespace(self._first, "pid")
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if _namespace(int(path.name), "pid") == namespace:
                    title = (path / "cmdline").read_bytes().replace(b"\0", b" ").strip()
                    titles[int(path.name)] = title.decode(errors="replace")
        return titles


def _start(command: Sequence[str], environment: Mapping[str, str], **options: Any) -> subprocess.Popen:
    # In a new session, as Ctrl-C is for this process, which then stops the host.
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command], env=environment, start_new_session=True, **options
    )


def _children(pid: int) -> list[int]:
    return [
        int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    ]


def _namespace(pid: int, kind: str) -> str:
    return str(Path(f"/proc/{pid}/ns/{kind}").readlink())


def _entered(pid: int, kind: str) -> bool:
    return _namespace(pid, kind) != _namespace(os.getpid(), kind)


def _await(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        if time.monotonic() > deadline:
            raise RuntimeError("the kernel gave no namespaces within 10 s")
        time.sleep(0.005)
