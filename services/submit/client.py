"""Job client of ``lungforge submit``. Importing this module imports Ray."""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from lungforge.errors import InputError
from services.common.progress import say
from services.submit.package import package_of

EXIT_FAILURE, EXIT_STOPPED = 1, 130
#: Timeout of a request; Ray's client has none.
ANSWER_S = 30.0
#: Time without log output after which the client checks that the cluster is still there.
SILENCE_S = 15.0
#: Pause before a broken log connection is opened again.
_PAUSE_S = 2.0


class JobResult(dict[str, Any]):
    """The result that a job printed, with its exit code."""

    def __init__(self, result: dict[str, Any], exit_code: int) -> None:
        super().__init__(result)
        self.exit_code = exit_code


class JobClient(JobSubmissionClient):
    """Ray's client, with timeouts."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> requests.Response:
        return super()._do_request(method, endpoint, timeout=ANSWER_S, **options)

    def run_to_end(self, base: str, entrypoint: str, *, working_dir: str | None, again: bool) -> JobResult:
        """Submit a job, or attach to it, and follow it to its end; see ``services.submit.job.run``.

        Args:
            base: Name of the submission.
            entrypoint: Shell command of the job.
            working_dir: Folder to upload, if any.
            again: Whether to run it again if it has succeeded.
        """
        name = None
        try:
            with _explained_loss(self.get_address()):
                name, job = self._job(base, entrypoint, working_dir, again)
                output = JobOutput(show=job is None)
                if job is None:
                    job = self._follow(name, output.feed)
                else:
                    output.feed(self.get_job_logs(name))
        except KeyboardInterrupt:
            if name is None:
                raise
            say(
                f"lungforge submit: {name} keeps running; the same command attaches to it. To stop it:\n"
                f"  ray job stop --address {self.get_address()} {name}"
            )
            raise SystemExit(EXIT_STOPPED) from None
        result, code = output.end(), exit_code_of(name, job)
        if result is None:
            raise SystemExit(code)
        return JobResult(result, code)

    def _job(
        self, base: str, entrypoint: str, working_dir: str | None, again: bool
    ) -> tuple[str, JobDetails | None]:
        """The submission's name, and its details if it has ended. Submits the job if necessary.

        Ray does not support reusing a name, even of a deleted job. So every attempt has a new one, with a
        suffix from 2 upwards after the first.
        """
        jobs = {job.submission_id: job for job in self.list_jobs()}
        attempts = itertools.chain([base], (f"{base}-{attempt}" for attempt in itertools.count(2)))
        done = list(itertools.takewhile(jobs.__contains__, attempts))
        if done:
            name, job = done[-1], jobs[done[-1]]
            if not job.status.is_terminal():
                self._say_attached(name)
                return name, None
            if job.status == JobStatus.SUCCEEDED and not again:
                say(f"lungforge submit: {name} has already succeeded; its result (--again runs it again):")
                return name, job
            say(f"lungforge submit: {name} has {str(job.status).lower()}; running it again")
        name = f"{base}-{len(done) + 1}" if done else base
        runtime_env = None
        if working_dir:
            package = package_of(Path(working_dir))
            say(f"lungforge submit: --working-dir {working_dir} {package.describe()}")
            runtime_env = {"working_dir": working_dir, "excludes": package.excludes}
        try:
            self.submit_job(
                entrypoint=entrypoint,
                submission_id=name,
                runtime_env=runtime_env,
            )
        except RuntimeError:
            # Someone else has just submitted the same command: one job is enough.
            if not any(job.submission_id == name for job in self.list_jobs()):
                raise
            self._say_attached(name)
        else:
            say(f"lungforge submit: submitted {name} to {self.get_address()}")
        return name, None

    def _say_attached(self, name: str) -> None:
        say(f"lungforge submit: {name} is running at {self.get_address()}; its log from the beginning:")

    def _follow(self, name: str, feed: Callable[[str], None]) -> JobDetails:
        """Pass on the whole log as it arrives, and return the job's details at its end."""
        position = 0
        while True:
            position = asyncio.run(self._read_log(name, position, feed))
            details = self.get_job_info(name)
            if details.status.is_terminal():
                return details
            time.sleep(_PAUSE_S)

    async def _read_log(self, name: str, start: int, feed: Callable[[str], None]) -> int:
        """Pass on the log from the character ``start``; return the position where it ended or broke off."""
        position = 0
        log = self.tail_job_logs(name)
        while True:
            waiting = asyncio.ensure_future(anext(log, None))
            while not (await asyncio.wait({waiting}, timeout=SILENCE_S))[0]:
                # A connection to an unreachable host stays silent without an error; this request times out.
                self.get_job_info(name)
            try:
                text = waiting.result()
            except (RuntimeError, aiohttp.ClientError, OSError):
                text = None
            if text is None:
                return max(start, position)
            feed(text[max(0, start - position) :])
            position += len(text)


class JobOutput:
    """Splits a job's log: the last line that is a JSON object is its result, all others go to stderr."""

    def __init__(self, *, show: bool) -> None:
        self._show = show
        self._line = ""
        self._candidate: str | None = None

    def feed(self, text: str) -> None:
        """Add the next chunk of the log, which may end within a line."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            shown: str | None = line
            if _is_object(line):
                shown, self._candidate = self._candidate, line
            if shown is not None and self._show:
                say(shown)

    def end(self) -> dict[str, Any] | None:
        """End the log; returns the result, if there is one."""
        self.feed("\n" if self._line else "")
        return None if self._candidate is None else json.loads(self._candidate)


def connect(address: str) -> JobClient:
    """Connect to a cluster.

    Args:
        address: URL of its dashboard, or an address that Ray accepts in RAY_ADDRESS.

    Raises:
        InputError: It does not answer, is not a Ray dashboard, or refuses the token.
    """
    # Ray's client prefers this variable to its argument.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    # Ray logs a line for each ignore file, which does not belong to the output.
    logging.disable(logging.WARNING)
    try:
        return JobClient(address)
    except AuthenticationError as error:
        raise InputError(f"{address} {_refusal(str(error))}") from error
    except (ConnectionError, requests.ConnectionError, requests.Timeout) as error:
        raise InputError(
            f"{address} does not answer; is the cluster up, and is this its dashboard (--address)?"
        ) from error
    except (RuntimeError, requests.RequestException, ValueError) as error:
        raise InputError(f"{address} is not a Ray dashboard ({_in_a_line(error)})") from error


def _refusal(message: str) -> str:
    if message.startswith("Authentication required"):
        return "asks for a token (401); set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file with it"
    if message.startswith("Authentication failed"):
        return "refuses the token (403); set RAY_AUTH_TOKEN_PATH to the file with this cluster's token"
    return "needs a token; set RAY_AUTH_TOKEN_PATH to the file with it"


@contextlib.contextmanager
def _explained_loss(address: str) -> Iterator[None]:
    try:
        yield
    except AuthenticationError as error:
        raise ConnectionError(f"{address} {_refusal(str(error))}") from error
    except (requests.ConnectionError, requests.Timeout) as error:
        raise ConnectionError(
            f"{address} no longer answers; the same command attaches to the job, "
            "or resumes from what is in the store"
        ) from error
    except RuntimeError as error:
        if "status code 5" in str(error):  # a dashboard whose head is dying
            raise ConnectionError(
                f"{address} no longer answers but with {_in_a_line(error)}; the same command attaches to the "
                "job, or resumes from what is in the store"
            ) from error
        raise ConnectionError(f"{address} answers with an error: {_in_a_line(error)}") from error


def exit_code_of(name: str, details: JobDetails) -> int:
    """The exit code for a job that has ended; prints why if it has none of its own."""
    if details.status == JobStatus.SUCCEEDED:
        return 0
    if details.status == JobStatus.STOPPED:
        say(f"lungforge submit: {name} was stopped; the same command resumes it")
        return EXIT_STOPPED
    code = details.driver_exit_code
    if code is None:
        say(f"lungforge submit: {name} could not run: {_in_a_line(details.message)}")
        return EXIT_FAILURE
    # Like a shell, if a signal ended it.
    return code if code >= 0 else 128 - code


def _in_a_line(what: object) -> str:
    """The most informative line of a message: the last of a traceback, else the first."""
    lines = [line.strip() for line in str(what or "").splitlines() if any(map(str.isalnum, line))]
    if not lines:
        return "no reason was given"
    return lines[-1 if any("Traceback (most" in line for line in lines) else 0]


def _is_object(line: str) -> bool:
    if not line.startswith("{"):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
