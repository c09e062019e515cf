"""Hosts on one Linux machine: processes in namespaces of their own, joined by a bridge.

Nothing here has a name that outlives its processes. A host's namespaces are held by its first process, the
bridge's by another, and each of them gets SIGKILL when the process that started it goes, however it goes.
With the last process of a namespace the kernel takes away its links, its mounts and all that ran in it.
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
#: Of /dev/shm in each host, where Ray keeps objects.
_SHARED_MEMORY = "400m"

_REPOSITORY = Path(__file__).parents[2]
_FIRST_PROCESS = Path(__file__).with_name("host.sh")


def missing_for_namespaces() -> str | None:
    """What this machine lacks for raising hosts, and what would do; None where it lacks nothing."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing:
        return (
            f"hosts in namespaces need {', '.join(missing)}; on Debian: apt-get install iproute2 util-linux"
        )
    if os.geteuid():
        return "hosts in namespaces need root; run this as root"
    return None


def address_of(number: int) -> str:
    """The address of a host, by its number in the cluster's network."""
    return f"{_SUBNET}.{number}"


class Bridge:
    """What the hosts are plugged into: a bridge in a network namespace of its own, with no way out."""

    def __init__(self) -> None:
        self._keeper = _start(["unshare", "--net", "sleep", "infinity"], dict(os.environ))
        _await(lambda: _entered(self._keeper.pid, "net"))
        self._ip("link", "add", "bridge", "type", "bridge")
        self._ip("link", "set", "bridge", "up")

    def plug_in(self, name: str, address: str, pid: int) -> None:
        """Give the network namespace of a process a card, ``eth0``, with a cable whose other end is here."""
        # The card has the same hardware address whenever the host is booted: others remember it for a while.
        hardware = ":".join(["02", "00", *(f"{int(byte):02x}" for byte in address.split("."))])
        card = ["name", "eth0", "address", hardware, "netns", str(pid)]
        self._ip("link", "add", name, "type", "veth", "peer", *card)
        self._ip("link", "set", name, "master", "bridge", "up")

    def remove(self, name: str) -> None:
        """Take a cable away, if it is not gone with its host already."""
        with contextlib.suppress(subprocess.CalledProcessError):
            self._ip("link", "delete", name)

    def set_link(self, name: str, *, up: bool) -> None:
        """Cut a cable, or mend it. Packets into a cut one are lost without a word."""
        self._ip("link", "set", name, "up" if up else "down")

    def close(self) -> None:
        """Take the bridge away."""
        self._keeper.kill()
        self._keeper.wait()

    def _ip(self, *arguments: str) -> None:
        subprocess.run(
            ["nsenter", f"--target={self._keeper.pid}", "--net", "ip", *arguments],
            check=True,
            capture_output=True,
        )


class Host:
    """A host: processes that see one another only, one network card, and shared memory of their own.

    Files are the machine's, but for ``/tmp/ray``, which is a folder of the host.

    Args:
        name: Up to 15 letters, digits and dashes.
        address: In the bridge's network.
        bridge: What it is plugged into.
        folder: For its files and its log; they stay when it is killed.
        environment: Of all its processes.
        command: What it runs.
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
        """Whether it runs, cut off or not."""
        return self._outer is not None and self._outer.poll() is None

    def boot(self) -> None:
        """Start the host."""
        assert not self.alive, f"{self.name} runs already"
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
        """End every process of the host at once; returns when they are gone."""
        if self._outer is None:
            return
        if self._first:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._first, signal.SIGKILL)
        else:
            self._outer.kill()  # it did not come as far as its first process
        self._outer.wait()
        self._bridge.remove(self.name)
        self._outer = None

    def set_link(self, *, up: bool) -> None:
        """Cut the host's cable, or mend it."""
        self._bridge.set_link(self.name, up=up)
        self.cut_off = not up

    @property
    def entrance(self) -> list[str]:
        """What to put before a command so that it runs on the host, in the folder of the repository.

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
            options: Of ``subprocess.Popen``.
        """
        return _start([*self.entrance, *command], self._environment, **options)

    def processes(self) -> dict[int, str]:
        """The processes of the host: their ids on the machine, and the titles that they give themselves."""
        found = {}
        namespace = _namespace(self._first, "pid")
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if _namespace(int(path.name), "pid") == namespace:
                    title = (path / "cmdline").read_bytes().replace(b"\0", b" ").strip()
                    found[int(path.name)] = title.decode(errors="replace")
        return found


def _start(command: Sequence[str], environment: Mapping[str, str], **options: Any) -> subprocess.Popen:
    # A session of its own: Ctrl-C is for us, who then end it.
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
