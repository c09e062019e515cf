"""Joining Ray: a new cluster has a token and is on loopback; an open session is used and left open."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import ray

from lungforge.errors import AccessError
from services.common.ray_session import _require_temporary_space, ray_session

PROGRAM = """
import os, signal, stat, sys
from services.common.ray_environment import keep_ray_private
keep_ray_private()
from services.common.ray_session import ray_session
handler = lambda number, frame: sys.exit(130)
signal.signal(signal.SIGTERM, handler)
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
        output = subprocess.run(ask, env=bare, capture_output=True, text=True, timeout=20).stdout
    except subprocess.TimeoutExpired as knocking:
        output = (knocking.stdout or b"").decode()
    assert "inside" not in output
# The handler from before the session is back: SIGTERM is answered as before.
assert signal.getsignal(signal.SIGTERM) is handler
assert not ray.is_initialized()
print(path)
"""


@pytest.mark.ray
@pytest.mark.slow
def test_a_new_cluster_is_on_loopback_behind_a_token() -> None:
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
    token = Path(done.stdout.splitlines()[-1])
    assert token.name == "ray-token"
    assert not token.parent.exists()


@pytest.mark.ray
def test_an_open_session_is_used_and_left_open(ray_local: None) -> None:
    before = ray.get_runtime_context().gcs_address
    with ray_session(workers=64):
        assert ray.get_runtime_context().gcs_address == before
    assert ray.is_initialized()


@pytest.mark.ray
def test_a_folder_with_a_services_package_does_not_shadow_ours(
    tmp_path: Path, own_ray: Callable[[], dict[str, str]]
) -> None:
    """The installed command, in a folder with a package of the same name: driver and Ray's workers."""
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "__init__.py").write_text(
        "raise ImportError('the user\\'s own package')\n", "utf-8"
    )
    (tmp_path / "lungforge.py").write_text("raise ImportError('the user\\'s own module')\n", "utf-8")

    def lungforge(*arguments: str) -> None:
        done = subprocess.run(
            [Path(sys.executable).with_name("lungforge"), *arguments],
            cwd=tmp_path,
            env=own_ray(),
            capture_output=True,
            encoding="utf-8",
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:]

    lungforge("phantom", "--out", "luna16", "--series", "2", "--size", "64", "--slices", "10")
    lungforge("preprocess", "--source", "luna16", "--out", "slices", "--size", "32", "--slices", "all")
    assert (tmp_path / "slices" / "manifest.json").is_file()


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system, which root may")
def test_a_full_folder_of_temporary_files_is_named_before_ray_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "t", tmp_path], check=False).returncode:
        pytest.skip("no file system may be mounted here")
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    try:
        with pytest.raises(AccessError, match=rf"^{tmp_path} .*TMPDIR.*: No space left on device; free some"):
            _require_temporary_space()
        assert not list(tmp_path.iterdir())
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    _require_temporary_space()
