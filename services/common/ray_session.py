"""Joining a Ray cluster: the one that RAY_ADDRESS names, else a new one on this machine."""

import contextlib
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import ray
from ray.job_config import JobConfig

import services
from lungforge.storage.errors import explained


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
_ROOM_BYTES = 10 * 2**20


def _require_room() -> None:
    """Try the folder of Ray's sockets and logs: where it is full or closed, Ray would time out.

    Raises:
        AccessError: There is no room, or nothing may be written.
    """
    folder = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - as Ray does
    with explained(f"{folder} (Ray's temporary files; TMPDIR names another folder)"):
        if Path(folder).is_dir():
            with tempfile.TemporaryFile(dir=folder) as file:
                os.posix_fallocate(file.fileno(), 0, _ROOM_BYTES)


@contextlib.contextmanager
def ray_session(workers: int | None = None) -> Iterator[None]:
    """Be connected to Ray inside the block.

    With RAY_ADDRESS set (as inside ``ray job submit``) the job joins that cluster. Otherwise a cluster is
    started on this machine, without a dashboard, and stopped with the block. An open session is used and
    left open.

    Args:
        workers: How many tasks a new cluster must hold at a time, if the machine has fewer cores.
    """
    if ray.is_initialized():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    if os.environ.get("RAY_ADDRESS"):
        ray.init(address="auto", job_config=_JobConfig(), logging_level=logging.WARNING)
    else:
        _require_room()
        # Another `lungforge` on this machine must not be joined by accident: hence "local".
        ray.init(
            address="local",
            num_cpus=max(workers or 1, os.cpu_count() or 1),
            include_dashboard=False,
            job_config=_JobConfig(),
            logging_level=logging.WARNING,
        )
    if threading.current_thread() is threading.main_thread():
        # Ray takes SIGTERM to end the process at once; a job closes what it has open.
        signal.signal(signal.SIGTERM, before)
    try:
        yield
    finally:
        ray.shutdown()
