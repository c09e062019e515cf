"""One Ray for all tests of the services: starting it takes longer than most of them."""

import logging
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def ray_local(s3_server: Any) -> Iterator[None]:
    """A Ray of two CPUs on this machine; ``ray_session`` finds it and uses it.

    Its workers keep the environment that it is started in, so the S3 server comes before.
    """
    import ray

    os.environ.pop("RAY_ADDRESS", None)
    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level=logging.WARNING)
    yield
    ray.shutdown()


@pytest.fixture
def own_ray(tmp_path: Path) -> Callable[[], dict[str, str]]:
    """``own_ray()``: the environment, as it is now, for a process that starts a Ray of its own."""

    def environment() -> dict[str, str]:
        token = tmp_path / "token"
        token.touch(mode=0o600)
        token.write_text(secrets.token_hex(32), encoding="utf-8")
        others = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
        return others | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}

    return environment
