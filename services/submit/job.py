"""``lungforge submit``: hand a command in at a Ray cluster, follow its log, leave with its exit code."""

import dataclasses
import difflib
import os
import re
import shlex
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from lungforge.config import digest
from lungforge.errors import InputError
from services.cli.commands import COMMANDS, parse
from services.common.progress import say

if TYPE_CHECKING:
    from services.submit.client import JobResult

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
#: Of the configuration's sha256, in a submission's name.
_DIGITS = 12
#: user:password@ in a URL.
_PASSWORD = re.compile(r"://[^/\s@]*:[^/\s@]+@")


@dataclasses.dataclass(frozen=True)
class SubmitConfig:
    """Run a command on a Ray cluster, as a job of it."""

    command: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="STAGE ...")]
    """A command of lungforge and its options; paths and URIs are read on the cluster."""

    address: str | None = None
    """URL of the cluster's dashboard; when not given, RAY_API_SERVER_ADDRESS, RAY_ADDRESS, or the default
    http://127.0.0.1:8265."""

    working_dir: str | None = None
    """Folder to send along and run in, such as a clone of LungForge; what .gitignore and .rayignore name
    stays here. When not given, the lungforge runs that is installed on the cluster."""

    again: bool = False
    """Run it again where it was done already."""

    def __post_init__(self) -> None:
        stages = [name for name in COMMANDS if name != "submit"]
        name = self.command[0] if self.command else None
        if name not in stages:
            close = difflib.get_close_matches(name or "", stages, n=1)
            meant = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(stages)}"
            raise InputError(
                f"there is no stage {name!r}; {meant}" if name else f"no stage is named; {meant}"
            )
        # What is typed here is shown by `ps`, by the dashboard and in the job's log.
        if any(map(_PASSWORD.search, (*self.command, self.address or ""))):
            raise InputError(
                "a URL holds a password, which everyone on the cluster would see; "
                "leave it out: jobs use the credentials that the cluster has"
            )
        if self.address is not None and not self.address.startswith(("http://", "https://")):
            raise InputError(f"--address is {self.address!r}; give the dashboard's URL, http://HOST:8265")
        if self.working_dir is not None and not Path(self.working_dir).is_dir():
            raise InputError(f"--working-dir is {self.working_dir!r}; there is no such folder")


def run(config: SubmitConfig) -> "JobResult":
    """Hand the command in, or attach to where it runs already; follow it to its end.

    Raises:
        InputError: An option of the stage is wrong, or the cluster is not there or takes no such token.
        ConnectionError: The cluster was there, and then no more.
        SystemExit: The job left without a result, with the same code; 130 when it was stopped, or when this
            command was interrupted, and then the job goes on.
    """
    name = config.command[0]
    words, stage = _resolved(name, config.command[1:])
    _warn_of_open_token()
    from services.submit.client import connect  # late: Ray takes seconds to import

    return connect(_address(config)).run_to_end(
        submission_id(name, stage),
        entrypoint(name, words),
        working_dir=config.working_dir,
        again=config.again,
    )


def submission_id(name: str, stage: Any) -> str:
    """What a command's submission is called: the same for the same command, whatever it was written like.

    Unlike the digest in a manifest, this one is of all fields: where the output goes and how many workers
    there are make no other result, but another job. The code that runs is not part of it.

    Args:
        name: A key of ``COMMANDS``.
        stage: Its configuration.
    """
    document = {"command": name, "config": dataclasses.asdict(stage)}
    return f"lungforge-{name}-{digest(document)[:_DIGITS]}"


def entrypoint(name: str, words: Sequence[str]) -> str:
    """The line of shell that the cluster runs. Its result is printed as JSON, to be found in its log."""
    return shlex.join(["python", "-m", "services", name, *words, "--json"])


def _resolved(name: str, words: Sequence[str]) -> tuple[list[str], Any]:
    """The options that are sent, and the configuration that they describe."""
    stage = parse(name, words)
    if name == "nightly" and stage.date is None:
        # Tomorrow's night is another job, and one that goes on after midnight is the same.
        words = [*words, "--date", stage.night().isoformat()]
        stage = parse(name, words)
    return list(words), stage


def _address(config: SubmitConfig) -> str:
    named = (os.environ.get(name) for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"))
    return config.address or next(filter(None, named), DEFAULT_ADDRESS)


def _warn_of_open_token() -> None:
    """Ray takes a token from a file that everyone can read without a word."""
    if os.environ.get("RAY_AUTH_MODE") != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if path.is_file() and path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        say(f"lungforge submit: other users can read the token in {path}; mend it by: chmod 600 {path}")
