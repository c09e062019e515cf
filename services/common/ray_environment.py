"""What Ray reads when it is imported, so that a cluster of this machine is private and leaves nothing.

The entry points (``services/cli/main.py``, ``benchmarks/__init__.py``) call this before anything imports Ray.
"""

import atexit
import contextlib
import fcntl
import os
import secrets
import shutil
import stat
import sys
import tempfile
import time
from pathlib import Path

#: Begins the names of the folders of runs, in the folder for temporary files; the second, until it is locked.
_PREFIX, _NEW = "lungforge-", ".lungforge-"
#: A file in each, which its run holds a lock on for as long as it lives.
_LOCK = "lock"
#: Age in s at which a folder that was never locked is one of a run that was killed in that moment.
_OLD_S = 60.0
#: Longest folder for temporary files below which Ray's sockets have at most the 107 characters of their kind:
#: in a folder of ours, and in Ray's own.
_LONGEST_BASE, _LONGEST_OF_RAY = 20, 39


def keep_ray_private() -> None:
    """Give the Ray that this process may start its own token and folder, and bind it to loopback.

    The token is in a file that only this user can read; Ray's session lies beside it. The folder is removed
    when the process ends, and those of killed runs when the next one starts.
    Nothing changes where Ray is imported already or a cluster is joined; a token that the user has set stays.
    """
    # Ray's advice on its own autoscaler, again and again in the log of a job that waits for a host.
    os.environ.setdefault("RAY_SCHEDULER_EVENTS", "0")
    if "ray" in sys.modules or starts_by_address():
        return
    base = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    if len(base) > _LONGEST_OF_RAY:
        base = "/tmp"  # noqa: S108
    remove_leftovers(base)
    folder = _locked_folder(base)
    # Children inherit the setting, and a forked one must not take the token away from its parent.
    atexit.register(_remove_by_owner, folder, os.getpid())
    os.environ["RAY_TMPDIR"] = folder if len(base) <= _LONGEST_BASE else base
    if os.environ.get("RAY_AUTH_MODE"):
        return
    token = Path(folder) / "ray-token"
    token.touch(mode=0o600)
    token.write_text(secrets.token_hex(32), encoding="utf-8")
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        # Ray's switch for "one machine only", whatever the system: its servers then bind to loopback.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }


def starts_by_address() -> bool:
    """Whether RAY_ADDRESS names a cluster to join; ``local`` is Ray's word for one of this process."""
    return os.environ.get("RAY_ADDRESS", "").strip() not in ("", "local")


def remove_leftovers(base: str) -> None:
    """Remove the folders that killed runs of this user have left; not those of runs that live.

    Args:
        base: The folder for temporary files.
    """
    for folder in (*Path(base).glob(f"{_PREFIX}*/"), *Path(base).glob(f"{_NEW}*/")):
        with contextlib.suppress(OSError):  # gone since it was listed, none of ours, or locked by its run
            found = folder.lstat()
            ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
            if not ours or (folder.name.startswith(_NEW) and time.time() - found.st_mtime < _OLD_S):
                continue
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def _locked_folder(base: str) -> str:
    """A new folder of this run. It has its name only once it is locked, so no other run removes it."""
    new = Path(tempfile.mkdtemp(prefix=_NEW, dir=base))
    # Never closed: the lock lives as long as the process, and no program that it starts inherits it.
    fcntl.flock(os.open(new / _LOCK, os.O_CREAT | os.O_RDWR, 0o600), fcntl.LOCK_EX)
    return str(new.rename(new.with_name(_PREFIX + new.name.removeprefix(_NEW))))


def _remove_by_owner(folder: str, owner: int) -> None:
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)
