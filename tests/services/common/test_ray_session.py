"""Joining Ray: with a token of one's own, on loopback, and never by taking over what is there."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, signal, stat, sys
from services.common.ray_session import private_ray, ray_session
handler = lambda number, frame: sys.exit(130)
signal.signal(signal.SIGTERM, handler)
with private_ray():
    path = os.environ["RAY_AUTH_TOKEN_PATH"]
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600, oct(os.stat(path).st_mode)
    with ray_session(workers=3):
        import ray
        assert ray.cluster_resources()["CPU"] >= 3
        address = ray.get_runtime_context().gcs_address
        assert address.startswith("127.0.0.1:"), address

        @ray.remote
        def double(value):
            return 2 * value

        assert ray.get(double.remote(21)) == 42
        # Ray knocks again and again where it is turned away; what counts is that it does not get in.
        import subprocess
        bare = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        bare |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64, "HOME": os.path.dirname(path)}
        ask = [sys.executable, "-c", f"import ray; ray.init(address={address!r}); print('inside')"]
        try:
            told = subprocess.run(ask, env=bare, capture_output=True, text=True, timeout=20).stdout
        except subprocess.TimeoutExpired as knocking:
            told = (knocking.stdout or b"").decode()
        assert "inside" not in told
    # The handler that was there is there again: SIGTERM is answered as before.
    assert signal.getsignal(signal.SIGTERM) is handler
    assert not ray.is_initialized()
assert not os.path.exists(path)
assert "RAY_AUTH_MODE" not in os.environ
print("held")
"""


@pytest.mark.ray
def test_a_cluster_of_our_own_is_on_loopback_behind_a_token() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.endswith("held\n")


@pytest.mark.ray
def test_a_session_that_is_there_is_used_and_left(ray_local: None) -> None:
    import ray

    from services.common.ray_session import ray_session

    before = ray.get_runtime_context().gcs_address
    with ray_session(workers=64):
        assert ray.get_runtime_context().gcs_address == before
    assert ray.is_initialized()
