"""Joining a Ray cluster: the one that RAY_ADDRESS names, else one of our own on this machine."""

import contextlib
import logging
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def own_token() -> Iterator[None]:
    """Have a cluster that is started in this block ask for a token that only this process knows.

    Ray reads its authentication mode when it is imported, so the block begins before that; where Ray is
    loaded already, or the user has set up tokens or a cluster, nothing is changed. The token is in a file
    that only this user can read, in a folder that goes with the block.
    """
    if "ray" in sys.modules or os.environ.get("RAY_AUTH_MODE") or os.environ.get("RAY_ADDRESS"):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="lungforge-") as folder:
        path = Path(folder) / "ray-token"
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)
        try:
            yield
        finally:
            del os.environ["RAY_AUTH_MODE"], os.environ["RAY_AUTH_TOKEN_PATH"]


@contextlib.contextmanager
def ray_session(workers: int | None = None) -> Iterator[None]:
    """Be connected to Ray inside the block.

    With RAY_ADDRESS set (as inside ``ray job submit``) the job joins that cluster. Otherwise a cluster is
    started on this machine, bound to loopback, without a dashboard, and ended with the block. A session
    that is there already is used and left alone.

    Args:
        workers: How many tasks a cluster of our own must hold at a time, if it has fewer cores.
    """
    import ray  # late: see own_token

    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(address="auto", logging_level=logging.WARNING)
    else:
        # Another `lungforge` beside this one must not be joined by accident: hence "local".
        ray.init(
            address="local",
            num_cpus=max(workers or 1, os.cpu_count() or 1),
            include_dashboard=False,
            logging_level=logging.WARNING,
            _node_ip_address="127.0.0.1",
        )
    try:
        yield
    finally:
        ray.shutdown()
