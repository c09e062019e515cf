"""Joining a Ray cluster: the one that RAY_ADDRESS names, else a new one on this machine."""

import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import ray
from ray._private import utils
from ray.job_config import JobConfig

import services
from lungforge.errors import AccessError, InputError
from lungforge.storage.errors import explained
from services.common.progress import waiting
from services.common.ray_address import check_address
from services.common.ray_environment import starts_by_address
from services.common.ray_resources import Needs, require_room


class _JobConfig(JobConfig):
    """Workers import the ``services`` package that the driver runs, and none from its current folder.

    Ray puts the driver's current folder first on its workers' path, unless the job has a working directory.
    A user's folder may well have a package ``services`` of its own.
    """

    def __init__(self) -> None:
        root = Path(services.__file__).parents[1]
        # Installed packages are on every worker's path; a clone is not.
        super().__init__(_py_driver_sys_path=[] if root.name == "site-packages" else [str(root)])

    def _runtime_env_has_working_dir(self) -> bool:
        return True


#: What a cluster of one machine needs for its sockets and logs, at the least.
_SPACE_BYTES = 10 * 2**20


@contextlib.contextmanager
def ray_session(workers: int | None = None, *needs: Needs) -> Iterator[None]:
    """Be connected to Ray inside the block, with room for what the job needs.

    With RAY_ADDRESS set (as inside ``ray job submit``) the job joins that cluster. Otherwise a cluster is
    started on this machine, without a dashboard, and stopped with the block. An open session is used and
    left open. What Ray and its workers print goes to stderr: stdout is for results.

    Args:
        workers: How many tasks a new cluster must hold at a time, if the machine has fewer cores.
        needs: Workers that the job cannot do without; one of one core, if none are given.

    Raises:
        InputError: RAY_ADDRESS does not lead to a cluster that can be joined, or the cluster has no room.
        AccessError: No cluster could be started here.
    """
    if ray.is_initialized():
        require_room(needs, joined=starts_by_address())
        yield
        return
    joined = starts_by_address()
    with contextlib.redirect_stdout(sys.stderr):
        try:
            with waiting("joining the Ray cluster" if joined else "starting Ray"):
                _connect(workers, joined=joined)
            require_room(needs or (Needs(),), joined=joined)
            yield
        finally:
            ray.shutdown()


def _connect(workers: int | None, *, joined: bool) -> None:
    """Join the cluster of RAY_ADDRESS, or start one."""
    address = os.environ.get("RAY_ADDRESS", "")
    try:
        with _sigterm_left_alone():
            if joined:
                check_address(address)
                ray.init(address="auto", job_config=_JobConfig(), logging_level=logging.WARNING)
            else:
                _require_temporary_space()
                # Another `lungforge` on this machine must not be joined by accident: hence "local".
                ray.init(
                    address="local",
                    num_cpus=max(workers or 1, os.cpu_count() or 1),
                    include_dashboard=False,
                    job_config=_JobConfig(),
                    logging_level=logging.WARNING,
                )
    except AccessError:
        raise
    except (OSError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        if joined:
            raise InputError(
                f"RAY_ADDRESS is {address!r}, and Ray cannot join that cluster: {reason[0]}"
            ) from error
        raise AccessError(f"Ray could not start on this machine: {reason[0]}") from error


def _require_temporary_space() -> None:
    """Try the folder of Ray's sockets and logs: where it is full or closed, Ray would time out.

    Raises:
        AccessError: There is no space, or nothing may be written.
    """
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - as Ray does
    with explained(f"{folder} (Ray's temporary files; TMPDIR names another folder)"):
        if Path(folder).is_dir():
            with tempfile.TemporaryFile(dir=folder) as file:
                os.posix_fallocate(file.fileno(), 0, _SPACE_BYTES)


@contextlib.contextmanager
def _sigterm_left_alone() -> Iterator[None]:
    """Keep Ray from taking SIGTERM, to end the process at once: a job closes what it has open."""
    before = signal.getsignal(signal.SIGTERM)
    taken, utils.set_sigterm_handler = utils.set_sigterm_handler, lambda handler: None
    try:
        yield
    finally:
        utils.set_sigterm_handler = taken
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray's native code takes it as well, and aborts
