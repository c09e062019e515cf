"""Joining a Ray cluster: the one that RAY_ADDRESS names, else one of our own on this machine."""

import contextlib
import logging
import os
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def private_ray() -> Iterator[None]:
    """Have a cluster that is started in this block to itself: on loopback, behind a token of its own.

    Ray reads these settings when it is imported, so the block begins before that; where Ray is loaded
    already, or the user has set up tokens or a cluster, nothing is changed. The token is in a file that
    only this user can read, in a folder that goes with the block.
    """
    if "ray" in sys.modules or os.environ.get("RAY_AUTH_MODE") or os.environ.get("RAY_ADDRESS"):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="lungforge-") as folder:
        path = Path(folder) / "ray-token"
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32), encoding="utf-8")
        ours = {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(path),
            # Ray's switch for "one machine only", whatever the system: its servers then bind to loopback.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }
        os.environ |= ours
        try:
            yield
        finally:
            for name in ours:
                del os.environ[name]


@contextlib.contextmanager
def ray_session(workers: int | None = None) -> Iterator[None]:
    """Be connected to Ray inside the block.

    With RAY_ADDRESS set (as inside ``ray job submit``) the job joins that cluster. Otherwise a cluster is
    started on this machine, without a dashboard, and ended with the block. A session that is there
    already is used and left alone.

    Args:
        workers: How many tasks a cluster of our own must hold at a time, if it has fewer cores.
    """
    import ray  # late: see private_ray

    if ray.is_initialized():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    if os.environ.get("RAY_ADDRESS"):
        ray.init(address="auto", logging_level=logging.WARNING)
    else:
        # Another `lungforge` beside this one must not be joined by accident: hence "local".
        ray.init(
            address="local",
            num_cpus=max(workers or 1, os.cpu_count() or 1),
            include_dashboard=False,
            logging_level=logging.WARNING,
        )
    if threading.current_thread() is threading.main_thread():
        # Ray takes SIGTERM to end the process at once; a job is to close what it has open.
        signal.signal(signal.SIGTERM, before)
    try:
        yield
    finally:
        ray.shutdown()
