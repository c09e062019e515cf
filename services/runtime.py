"""Joining a Ray cluster: the one that RAY_ADDRESS names, else one of our own on this machine."""

import contextlib
import logging
import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import ray


@contextlib.contextmanager
def ray_session(workers: int | None = None) -> Iterator[None]:
    """Be connected to Ray inside the block.

    With RAY_ADDRESS set (as inside ``ray job submit``) the job joins that cluster. Otherwise a cluster is
    started on this machine, bound to loopback, without a dashboard, behind a token of its own, and
    ended with the block. A session that is there already is used and left alone.

    Args:
        workers: How many tasks a cluster of our own must hold at a time, if it has fewer cores.
    """
    if ray.is_initialized():
        yield
        return
    if os.environ.get("RAY_ADDRESS"):
        ray.init(address="auto", log_to_driver=True, logging_level=logging.WARNING)
        try:
            yield
        finally:
            ray.shutdown()
        return
    # Another `lungforge` beside this one must not be joined by accident: hence "local", and the token.
    with _own_token():
        ray.init(
            address="local",
            num_cpus=max(workers or 1, os.cpu_count() or 1),
            include_dashboard=False,
            log_to_driver=True,
            logging_level=logging.WARNING,
            configure_logging=True,
        )
        try:
            yield
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _own_token() -> Iterator[None]:
    """Token authentication by a 0600 file of our own, unless the user has set it up already."""
    if os.environ.get("RAY_AUTH_MODE"):
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
