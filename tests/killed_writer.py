"""A process that dies while it writes files."""

import os
import signal
from pathlib import Path


def die_before_rename(number: int) -> None:
    """Kill this process in place of its so-many-th rename: whole files are there, and half of one."""
    passed = 0
    rename = Path.replace

    def replace(path: Path, target: Path) -> Path:
        nonlocal passed
        passed += 1
        if passed >= number:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(path, target)

    Path.replace = replace  # type: ignore[method-assign, assignment]
