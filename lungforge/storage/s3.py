"""The client of S3: s3fs, which tries a request once over and says so while it waits."""

import asyncio
import contextlib
import contextvars
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from s3fs import S3FileSystem
from s3fs.errors import translate_boto_error

from lungforge.storage.s3_errors import RequestError, code_of, is_lasting, status_of

_log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
#: Requests of a process that are under way at a time: those of 16 readers, and of what writes beside them.
CONNECTIONS = 32
#: Requests in all. botocore waits up to 1, 2, 4, 8, 16, 20, 20, 20 s between them, half of it on average.
ATTEMPTS = 9
#: A request that is tried again is reported after the first time, and one whose first try is still without an
#: answer (a large upload may be) after the second.
TOLD_AFTER_S, TOLD_UNTRIED_AFTER_S = 3.0, 15.0
#: Seconds between two lines of a process, however many of its requests wait.
TOLD_EVERY_S = 5.0

#: Pauses before XML that breaks off, or is none, is asked for again.
_PAUSES_S = (0.1, 0.5, 2.0)

#: Answers with which s3fs or the caller continues; no error for a user.
_MEANINGFUL = (404, 409, 412, 416)
#: Requests whose answer has no body that would say why, and those that are answered alike but for that.
_ANSWERED_WITH_REASON: dict[str, tuple[str, dict[str, Any]]] = {
    "head_object": ("get_object", {"Range": "bytes=0-0"}),
    "head_bucket": ("list_objects_v2", {"MaxKeys": 1}),
}


class S3Store(S3FileSystem):
    """s3fs with the errors of LungForge: botocore's retries are the only ones, and are not silent.

    s3fs repeats what botocore has tried to the end, five times over, and once more around the reading of a
    body. Here a request fails once, by an error that s3fs does not repeat; only bodies that break off are.

    Attributes:
        answered: Whether the store has answered yet.
        proven: The conditions that it was seen to keep, by bucket.
        proving: Held by the thread that tries one.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.answered = False
        self.proven: set[tuple[str, str]] = set()
        self.proving = threading.Lock()

    async def set_session(self, refresh: bool = False, kwargs: dict[str, Any] | None = None) -> Any:
        """The client, whose tries are counted."""
        client = await super().set_session(refresh=refresh, kwargs=kwargs or {})
        events = client.meta.events
        events.register("request-created.s3", _count_try, unique_id="lungforge-tries")
        events.register_first("needs-retry.s3", _raise_lasting, unique_id="lungforge-lasting")
        return client

    async def _call_s3(self, method: str, *akwarglist: Any, **kwargs: Any) -> Any:
        place = kwargs.get("Key") or kwargs.get("Prefix") or ""
        uri = f"s3://{kwargs.get('Bucket', '')}/{place}".rstrip("/")
        try:
            call = getattr(await self.set_session(), method)
        # A missing AWS_CA_BUNDLE is no missing object.
        except (BotoCoreError, ValueError, OSError) as error:
            raise RequestError(error, answered=self.answered) from error
        arguments = self._get_s3_method_kwargs(call, *akwarglist, **kwargs)
        try:
            with _waiting(uri):
                answer = await _answer(call, arguments)
        except ClientError as error:
            self.answered = True
            meaningful = status_of(error) in _MEANINGFUL and code_of(error) != "NoSuchBucket"
            lasting = not meaningful and (status_of(error) or 0) in (*range(400, 500), 501, 507)
            if method in _ANSWERED_WITH_REASON and lasting:
                alike, more = _ANSWERED_WITH_REASON[method]
                await self._call_s3(alike, *akwarglist, **kwargs, **more)
            if meaningful:
                raise translate_boto_error(error) from error
            raise RequestError(error, answered=True) from error
        except (BotoCoreError, ResponseParserError) as error:
            raise RequestError(error, answered=self.answered) from error
        if _is_page(answer, place):
            raise RequestError(ResponseParserError("a page of HTML"), answered=self.answered)
        self.answered = True
        if "Body" in answer:
            answer["Body"] = _Body(answer["Body"], uri)
        return answer


async def _answer(call: Callable[..., Awaitable[Any]], arguments: dict[str, Any]) -> Any:
    for pause in _PAUSES_S:
        with contextlib.suppress(ResponseParserError):
            return await call(**arguments)
        await asyncio.sleep(pause)
    return await call(**arguments)


def _is_page(answer: dict[str, Any], key: str) -> bool:
    """Whether a web server answers, such as the console of a store."""
    kind = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("content-type", "")
    return kind.startswith("text/html") and not key.endswith(".html")


class _Body:
    """The body of an answer, that says so when it does not come."""

    def __init__(self, body: Any, uri: str) -> None:
        self._body, self._uri = body, uri

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    async def read(self, amount: int | None = None) -> bytes:
        with _waiting(self._uri):
            content: bytes = await self._body.read(amount)
        return content


class _Wait:
    """One request, or the reading of a body: says every so often that it waits, until it is ended."""

    last_told = float("-inf")

    def __init__(self, uri: str) -> None:
        self.uri, self.attempt, self.attempts = uri, 1, ATTEMPTS
        self.started = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(TOLD_AFTER_S, self._tell)

    def end(self) -> None:
        self._timer.cancel()

    def _tell(self) -> None:
        self._timer = self._loop.call_later(TOLD_EVERY_S, self._tell)
        now = time.monotonic()
        waited = now - self.started
        if now - _Wait.last_told < TOLD_EVERY_S:
            return
        if self.attempt > 1:
            _Wait.last_told = now
            _log.warning("S3 does not answer, try %d of %d (%s)", self.attempt, self.attempts, self.uri)
        elif waited >= TOLD_UNTRIED_AFTER_S:
            _Wait.last_told = now
            _log.warning("S3 has not answered for %.0f s (%s)", waited, self.uri)


_current: contextvars.ContextVar[_Wait | None] = contextvars.ContextVar("lungforge_s3_wait", default=None)


@contextlib.contextmanager
def _waiting(uri: str) -> Iterator[None]:
    wait = _Wait(uri)
    token = _current.set(wait)
    try:
        yield
    finally:
        wait.end()
        _current.reset(token)


def _count_try(request: Any, **_: Any) -> None:
    """Botocore's event before each try of a request."""
    wait, retries = _current.get(), request.context.get("retries", {})
    if wait is not None:
        wait.attempt, wait.attempts = retries.get("attempt", 1), retries.get("max", ATTEMPTS)


def _raise_lasting(caught_exception: Exception | None = None, **_: Any) -> None:
    """Botocore's event after each try: a certificate is no better the next time."""
    if caught_exception is not None and is_lasting(caught_exception):
        raise caught_exception
