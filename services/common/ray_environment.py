"""What Ray reads when it is imported, so that a cluster started on this machine is private.

The entry points (``services/cli/main.py``, ``benchmarks/__init__.py``) call this before anything imports Ray.
"""

import atexit
import os
import secrets
import shutil
import sys
import tempfile
from pathlib import Path


def keep_ray_private() -> None:
    """Give the Ray that this process may start its own token, and bind it to loopback.

    The token is in a file that only this user can read, in a folder that is removed when the process ends.
    Nothing changes where Ray is imported already, or where the user has set up tokens or a cluster.
    """
    if "ray" in sys.modules or os.environ.get("RAY_AUTH_MODE") or os.environ.get("RAY_ADDRESS"):
        return
    folder = tempfile.mkdtemp(prefix="lungforge-")
    # Children inherit the setting, and a forked one must not take the token away from its parent.
    atexit.register(_remove_by_owner, folder, os.getpid())
    token = Path(folder) / "ray-token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32), encoding="utf-8")
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        # Ray's switch for "one machine only", whatever the system: its servers then bind to loopback.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }


def _remove_by_owner(folder: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
