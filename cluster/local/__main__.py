"""``python -m cluster.local``: start a cluster of several hosts on this machine, use it, break it."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from cluster.local.cluster import LocalCluster, state_of
from cluster.local.control import ask, control_socket
from lungforge.errors import InputError
from services.common.progress import say

_USAGE = """
The cluster is up. From another terminal, as root, after `python -m cluster.local`:

    submit preprocess --source URI --out {store}/slices    submit a job, and follow it
    hosts                          show which hosts are up, cut off or killed
    kill worker-1                  kill a host (also head or s3)
    cut worker-2                   cut it off from the network
    rejoin worker-1                bring it back
    run head ray status            run a command on a host

The store is {store}; the logs of the hosts are in {folder}/hosts. Ctrl-C stops the cluster.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = _parser().parse_args(arguments)
    folder: Path = given.folder
    for caught in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(caught, _interrupt)
    try:
        if given.command == "up":
            _up(folder, given.workers)
        elif given.command in ("submit", "run"):
            host = "head" if given.command == "submit" else given.host
            _exec(ask(folder, given.command, host, *given.words))
        else:
            print(ask(folder, given.command, *([given.host] if "host" in given else [])))  # noqa: T201
    except InputError as error:
        say(f"cluster: {error}")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cluster.local", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--folder", type=Path, default=Path("build/cluster"), help="folder of the cluster")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", parents=[common], help="start a cluster; Ctrl-C stops it")
    up.add_argument("--workers", type=int, default=3, help="number of workers, besides head and S3")
    submit = commands.add_parser("submit", parents=[common], help="submit a job, and follow it")
    run = commands.add_parser("run", parents=[common], help="run a command on a host")
    commands.add_parser("hosts", parents=[common], help="show the state of every host")
    for name, text in (
        ("kill", "kill a host"),
        ("cut", "cut a host off from the network"),
        ("rejoin", "bring back a host that was killed or cut off"),
    ):
        commands.add_parser(name, parents=[common], help=text).add_argument("host")
    run.add_argument("host")
    for command in (submit, run):
        command.add_argument("words", nargs=argparse.REMAINDER, help="the command and its options")
    return parser


def _up(folder: Path, workers: int) -> None:
    """Start a cluster, and answer requests until Ctrl-C."""
    cluster = LocalCluster(folder, workers)
    with control_socket(cluster.folder, lambda words: _answer(cluster, words)) as server:
        say(f"starting head, s3 and {workers} workers as separate hosts (some 20 s)")
        with cluster:
            say(_USAGE.format(store=cluster.s3_uri, folder=folder))
            server.serve_forever()


def _answer(cluster: LocalCluster, words: list[str]) -> Any:
    """Answer a request: for ``submit`` and ``run`` with a command and its environment."""
    command, rest = words[0], words[1:]
    if command == "hosts":
        return "\n".join(
            f"{name:<10} {host.address:<12} {state_of(host)}" for name, host in cluster.hosts.items()
        )
    host = cluster.host(rest[0])
    if command in ("submit", "run"):
        wanted = cluster.submission(*rest[1:]) if command == "submit" else rest[1:]
        return [*host.entrance, *wanted], cluster.environment
    {"kill": cluster.kill, "cut": cluster.cut, "rejoin": cluster.rejoin}[command](host.name)
    return f"{host.name} is {state_of(host)}"


def _exec(command_and_environment: tuple[list[str], dict[str, str]]) -> NoReturn:
    """Replace this process by a command, which so gets the terminal and Ctrl-C, and sets the exit code."""
    command, environment = command_and_environment
    os.execvpe(command[0], command, environment)  # noqa: S606


def _interrupt(signal_number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
