"""What ``lungforge submit`` submits: a command of LungForge, its name on the cluster and its shell line."""

import dataclasses
import difflib
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from lungforge.config import check, digest
from lungforge.errors import InputError
from services.cli.commands import COMMANDS, parse

#: Digits of the configuration's sha256 in the name of a submission.
_DIGITS = 12


@dataclasses.dataclass(frozen=True)
class SubmitConfig:
    """Run a command as a job on a Ray cluster."""

    command: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="STAGE ...")]
    """A lungforge command and its options; paths and URIs are those of the cluster."""

    address: str | None = None
    """URL of the cluster's dashboard; by default RAY_API_SERVER_ADDRESS, RAY_ADDRESS, or
    http://127.0.0.1:8265."""

    working_dir: str | None = None
    """Folder to upload and run in, such as a clone of LungForge, without the files listed in .gitignore and
    .rayignore. By default, the lungforge installed on the cluster runs."""

    again: bool = False
    """Run the command again even if it has succeeded."""

    def __post_init__(self) -> None:
        check(self)
        stages = [name for name in COMMANDS if name != "submit"]
        name = self.command[0] if self.command else None
        if name not in stages:
            close = difflib.get_close_matches(name or "", stages, n=1)
            meant = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(stages)}"
            raise InputError(
                f"there is no stage {name!r}; {meant}" if name else f"no stage is named; {meant}"
            )
        if self.address is not None and not self.address.startswith(("http://", "https://")):
            raise InputError(f"--address is {self.address!r}; give the dashboard's URL, http://HOST:8265")
        if self.working_dir is not None and not Path(self.working_dir).is_dir():
            raise InputError(f"--working-dir is {self.working_dir!r}; there is no such folder")
        # Before a cluster is asked, and before Ray is imported, which takes seconds.
        resolve(self.command[0], self.command[1:])


def submission_id(name: str, stage: Any) -> str:
    """Name of a command's submission: the same for the same command, however it is written.

    Unlike the digest of a manifest, this one includes all fields: another output or number of workers is the
    same result, but another job. The code that runs is not included.

    Args:
        name: A key of ``COMMANDS``.
        stage: Configuration of the stage.
    """
    document = {"command": name, "config": dataclasses.asdict(stage)}
    return f"lungforge-{name}-{digest(document)[:_DIGITS]}"


def entrypoint(name: str, words: Sequence[str]) -> str:
    """The shell command that the cluster runs; it prints its result as JSON, to be read from the log."""
    return shlex.join(["python", "-m", "services", name, *words, "--json"])


def resolve(name: str, words: Sequence[str]) -> tuple[list[str], Any]:
    """The options to submit, and the configuration that they describe."""
    stage = parse(name, words)
    if name == "nightly" and stage.date is None:
        # Fixed now, so that tomorrow's run is another job, and one that resumes after midnight is the same.
        words = [*words, "--date", stage.night().isoformat()]
        stage = parse(name, words)
    return list(words), stage
