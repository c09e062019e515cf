"""Ray's job client, as ``lungforge submit`` uses it. Importing this imports Ray."""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from lungforge.errors import InputError
from services.common.progress import say

EXIT_FAILURE, EXIT_STOPPED = 1, 130
#: For an answer of the cluster; Ray's own client would wait for ever.
_ANSWER_S = 30.0
#: Without a line of the log, after which the cluster is asked whether it is still there.
_SILENCE_S = 15.0
#: Before a log's connection that broke is made anew.
_PAUSE_S = 2.0


class JobResult(dict[str, Any]):
    """The result that a job printed, and the code that it left with."""

    def __init__(self, result: dict[str, Any], exit_code: int) -> None:
        super().__init__(result)
        self.exit_code = exit_code


class JobClient(JobSubmissionClient):
    """Ray's client, which does not wait for ever."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> requests.Response:
        return super()._do_request(method, endpoint, timeout=_ANSWER_S, **options)

    def run_to_end(self, base: str, entrypoint: str, *, working_dir: str | None, again: bool) -> JobResult:
        """See ``services.submit.job.run``.

        Args:
            base: Name of the submission.
            entrypoint: The line of shell that is its job.
            working_dir: Folder to send along, if any.
            again: Whether to run it anew where it is done.
        """
        name = None
        try:
            with _explained_loss(self.get_address()):
                name, job = self._job(base, entrypoint, working_dir, again)
                talk = JobOutput(show=job is None)
                if job is None:
                    job = self._follow(name, talk.feed)
                else:
                    talk.feed(self.get_job_logs(name))
        except KeyboardInterrupt:
            if name is None:
                raise
            say(
                f"lungforge submit: {name} goes on; the same command attaches to it, and this ends it:\n"
                f"  ray job stop --address {self.get_address()} {name}"
            )
            raise SystemExit(EXIT_STOPPED) from None
        result, code = talk.end(), _exit_code(name, job)
        if result is None:
            raise SystemExit(code)
        return JobResult(result, code)

    def _job(
        self, base: str, entrypoint: str, working_dir: str | None, again: bool
    ) -> tuple[str, JobDetails | None]:
        """The submission's name; and what became of it, if it is done. It is handed in if need be.

        Ray does not support a name's second use, even of a deleted job. So every try keeps its own, and
        those after the first have numbers from 2 behind it.
        """
        jobs = {job.submission_id: job for job in self.list_jobs()}
        tries = itertools.chain([base], (f"{base}-{number}" for number in itertools.count(2)))
        done = list(itertools.takewhile(jobs.__contains__, tries))
        if done:
            name, job = done[-1], jobs[done[-1]]
            if not job.status.is_terminal():
                self._say_attached(name)
                return name, None
            if job.status == JobStatus.SUCCEEDED and not again:
                say(f"lungforge submit: {name} was done before; this is its result (--again runs it again)")
                return name, job
            say(f"lungforge submit: {name} has {str(job.status).lower()}; it is run again")
        name = f"{base}-{len(done) + 1}" if done else base
        try:
            self.submit_job(
                entrypoint=entrypoint,
                submission_id=name,
                runtime_env={"working_dir": working_dir} if working_dir else None,
            )
        except RuntimeError:
            # Another one was faster with the same command: one job is enough.
            if not any(job.submission_id == name for job in self.list_jobs()):
                raise
            self._say_attached(name)
        else:
            say(f"lungforge submit: {name} was handed in at {self.get_address()}")
        return name, None

    def _say_attached(self, name: str) -> None:
        say(f"lungforge submit: {name} is under way at {self.get_address()}; its log from the beginning:")

    def _follow(self, name: str, feed: Callable[[str], None]) -> JobDetails:
        """Let the whole log be heard, as it comes, and return what became of the job."""
        heard = 0
        while True:
            heard = asyncio.run(self._read_log(name, heard, feed))
            details = self.get_job_info(name)
            if details.status.is_terminal():
                return details
            time.sleep(_PAUSE_S)

    async def _read_log(self, name: str, heard: int, feed: Callable[[str], None]) -> int:
        """The log from the character ``heard`` on; returns where it ended, or its connection broke."""
        position = 0
        log = self.tail_job_logs(name)
        while True:
            waiting = asyncio.ensure_future(anext(log, None))
            while not (await asyncio.wait({waiting}, timeout=_SILENCE_S))[0]:
                # A connection to a host that was cut off stays silent, and is no error.
                self.get_job_info(name)
            try:
                text = waiting.result()
            except (RuntimeError, aiohttp.ClientError, OSError):
                text = None
            if text is None:
                return max(heard, position)
            feed(text[max(0, heard - position) :])
            position += len(text)


class JobOutput:
    """What a job writes: lines to stderr, but for the last that is a JSON object, its result."""

    def __init__(self, *, show: bool) -> None:
        self._show = show
        self._line = ""
        self._candidate: str | None = None

    def feed(self, text: str) -> None:
        """Take the next piece of the log; it may end within a line."""
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            told: str | None = line
            if _is_object(line):
                told, self._candidate = self._candidate, line
            if told is not None and self._show:
                say(told)

    def end(self) -> dict[str, Any] | None:
        """The result, if there is one."""
        self.feed("\n" if self._line else "")
        return None if self._candidate is None else json.loads(self._candidate)


def connect(address: str) -> JobClient:
    """A client of a cluster.

    Args:
        address: URL of its dashboard, or an address that Ray takes in RAY_ADDRESS.

    Raises:
        InputError: It does not answer, is no dashboard of Ray, or takes no such token.
    """
    # Ray's client takes its variable and not its argument where there are both.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    # What Ray would tell of its own doings, a line for each file of ignored names, is no part of the talk.
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
        raise InputError(f"{address} is no dashboard of Ray ({_in_a_line(error)})") from error


def _refusal(told: str) -> str:
    if told.startswith("Authentication required"):
        return "asks for a token (401); set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file with it"
    if told.startswith("Authentication failed"):
        return "refuses the token (403); RAY_AUTH_TOKEN_PATH is to name the file with this cluster's token"
    return "needs a token, and there is none; set RAY_AUTH_TOKEN_PATH to the file with it"


@contextlib.contextmanager
def _explained_loss(address: str) -> Iterator[None]:
    try:
        yield
    except AuthenticationError as error:
        raise ConnectionError(f"{address} {_refusal(str(error))}") from error
    except (requests.ConnectionError, requests.Timeout) as error:
        raise ConnectionError(
            f"{address} does not answer any more; the same command attaches to the job, "
            "or goes on from what is in the store"
        ) from error
    except RuntimeError as error:
        raise ConnectionError(f"{address} answers with a fault: {_in_a_line(error)}") from error


def _exit_code(name: str, details: JobDetails) -> int:
    if details.status == JobStatus.SUCCEEDED:
        return 0
    if details.status == JobStatus.STOPPED:
        say(f"lungforge submit: {name} was stopped; the same command goes on")
        return EXIT_STOPPED
    code = details.driver_exit_code
    if code is None:
        say(f"lungforge submit: {name} could not run: {_in_a_line(details.message)}")
        return EXIT_FAILURE
    # As shells count, where a signal ended it.
    return code if code >= 0 else 128 - code


def _in_a_line(what: object) -> str:
    """The line of an explanation that says most: of a traceback, which Ray likes to answer with, the last."""
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
