"""``lungforge submit``: submit a command to a Ray cluster, follow its log, exit with its code."""

import os
import stat
from pathlib import Path

from services.common.progress import say
from services.submit.client import JobResult, connect
from services.submit.config import SubmitConfig, entrypoint, resolve, submission_id

DEFAULT_ADDRESS = "http://127.0.0.1:8265"


def run(config: SubmitConfig) -> JobResult:
    """Submit the command, or attach to its running job, and follow it to its end.

    Raises:
        InputError: An option of the stage is wrong, or the cluster does not answer or refuses the token.
        ConnectionError: The connection to the cluster was lost.
        SystemExit: The job ended without a result, with its code; 130 if it was stopped, or if this command
            was interrupted, in which case the job keeps running.
    """
    name = config.command[0]
    words, stage = resolve(name, config.command[1:])
    _warn_of_open_token()
    return connect(_address(config)).run_to_end(
        submission_id(name, stage),
        entrypoint(name, words),
        working_dir=config.working_dir,
        again=config.again,
    )


def _address(config: SubmitConfig) -> str:
    named = (os.environ.get(name) for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"))
    return config.address or next(filter(None, named), DEFAULT_ADDRESS)


def _warn_of_open_token() -> None:
    """Warn if other users can read the token file, as Ray does not."""
    if os.environ.get("RAY_AUTH_MODE") != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if not path.is_file():
        return
    status = path.stat()
    # A mounted Secret belongs to root, and to the group of the one user that is there.
    others = stat.S_IRWXO | (stat.S_IRWXG if status.st_uid == os.getuid() else 0)
    if status.st_mode & others:
        say(f"lungforge submit: other users can read the token in {path}; to fix this: chmod 600 {path}")
