"""A lease in a store: of the jobs that would run one does, and a dead one's place is free again in time.

A lease is a folder of generations, ``000017.json``; the newest says who holds it and until when. When it is
expired or given back, another job creates the next one. Why no two hold it at a time, whatever dies or sleeps
meanwhile:

- A generation is created exclusively (a link locally, ``If-None-Match: *`` on S3): of all that try, one wins.
- A holder writes only the generation that it created, and only while that is in its name: should a store
  lose a condition after all, one of two holders finds the other's name there, and steps back.
- It takes the lease for lost when three quarters of the duration have passed since it last wrote, by its
  monotonic clock; others wait for the whole. So the clocks of two hosts may be apart by a quarter of the
  duration, which is what is assumed of them.
- The newest generation is never removed, only marked as given back. So one that slept between looking and
  creating, and created a generation that others have cleared away, finds a newer one and steps back.
"""

import contextlib
import dataclasses
import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

from lungforge.errors import ContentError, InputError
from lungforge.storage.errors import explained
from lungforge.storage.files import join_uri, open_uri, read_if_there, replace_bytes, write_bytes_atomic

#: How long a lease holds without being renewed: what a killed job delays the next one by, at most.
DURATION_S = 600.0
#: The share of the duration after which a holder that could not renew stops.
_TRUSTED = 0.75
#: Renewals within the duration.
_RENEWALS = 6
#: How often taking starts anew, as others take and give back at the same time.
_TRIES = 10

_NAME = re.compile(r"(\d{6})\.json")


class LeaseHeldError(OSError):
    """Another job holds the lease."""


class LeaseLostError(OSError):
    """The lease ran out before it was renewed, or another job has taken it."""


@dataclasses.dataclass(frozen=True)
class Holding:
    """What a generation says: who holds the lease.

    Attributes:
        holder: A random name.
        host: Where it runs, for people.
        started: When it took the lease, ISO 8601 in UTC.
        expires: Until when it holds unless renewed, likewise.
        released: Whether it was given back.
    """

    holder: str
    host: str
    started: str
    expires: str
    released: bool = False

    @property
    def free(self) -> bool:
        """Whether the next generation may be created."""
        return self.released or time.time() >= datetime.fromisoformat(self.expires).timestamp()


class Lease:
    """A lease that is held. ``renew`` before anything that only the holder may do."""

    def __init__(self, uri: str, generation: int, holding: Holding, duration_s: float, since: float) -> None:
        self._file = _file(uri, generation)
        self._uri, self._generation, self._holding = uri, generation, holding
        self._duration_s = duration_s
        self._trusted_until = since + _TRUSTED * duration_s
        self._lock = threading.Lock()

    def renew(self) -> None:
        """Hold the lease for its whole duration from now.

        Raises:
            LeaseLostError: It is held no more, and never will be again.
            AccessError: The store refuses; what was held is held for what is left of it.
        """
        with self._lock:
            since = time.monotonic()
            self._require(since < self._trusted_until, "it was not renewed in time")
            self._write(dataclasses.replace(self._holding, expires=_from_now(self._duration_s)))
            self._require(newest_generation(self._uri) == self._generation, "another job has taken it")
            # One that looked before this write arrived would see an expired lease.
            self._require(time.monotonic() < self._trusted_until, "it was not renewed in time")
            self._trusted_until = since + _TRUSTED * self._duration_s

    def release(self) -> None:
        """Give the lease back, if it is still held."""
        with self._lock:
            if time.monotonic() < self._trusted_until:
                self._trusted_until = float("-inf")
                with contextlib.suppress(LeaseLostError):
                    self._write(dataclasses.replace(self._holding, released=True))

    def _write(self, holding: Holding) -> None:
        """Write the generation anew, where it is still this holder's."""
        present = read_if_there(self._file)
        mine = present is not None and _from_bytes(present, self._file).holder == holding.holder
        if mine and present is not None:
            try:
                replace_bytes(self._file, _to_bytes(holding), expected=present)
            except FileExistsError:
                mine = False
        self._require(mine, "another job has taken it")
        self._holding = holding

    def _require(self, held: bool, reason: str) -> None:
        if not held:
            self._trusted_until = float("-inf")
            raise LeaseLostError(f"{self._uri}: the lease is lost: {reason}; the same command again resumes")

    def renew_until(self, stop: threading.Event) -> None:
        """Renew every so often until ``stop`` is set, or until the lease is lost."""
        while not stop.wait(self._duration_s / _RENEWALS):
            try:
                self.renew()
            except LeaseLostError:
                return
            except (OSError, InputError):
                continue  # a store that is away for a while; when it is away for long, the lease runs out


def take_lease(uri: str, duration_s: float = DURATION_S) -> Lease:
    """Take the lease, which nothing renews by itself; see ``held_lease``.

    Args:
        uri: Its folder.
        duration_s: For how long it holds.

    Raises:
        LeaseHeldError: Another job holds it; says which.
        ContentError: The folder holds something else.
        AccessError: The store refuses.
    """
    for _ in range(_TRIES):
        newest = newest_generation(uri)
        if newest:
            data = read_if_there(_file(uri, newest))
            if data is None:
                continue  # cleared away by the holder of a newer one
            present = _from_bytes(data, _file(uri, newest))
            if not present.free:
                raise LeaseHeldError(
                    f"{uri}: held by another run, on {present.host} since {present.started}; "
                    f"free at {present.expires} unless it is renewed"
                )
        since = time.monotonic()
        holding = Holding(secrets.token_hex(16), socket.gethostname(), _from_now(0), _from_now(duration_s))
        content = _to_bytes(holding)
        try:
            write_bytes_atomic(_file(uri, newest + 1), content, exclusive=True)
        except FileExistsError:
            continue
        if newest_generation(uri) == newest + 1 and read_if_there(_file(uri, newest + 1)) == content:
            _clear(uri, below=newest + 1)
            return Lease(uri, newest + 1, holding, duration_s, since)
    raise LeaseHeldError(f"{uri}: other runs take the lease at the same time; try again in a while")


@contextlib.contextmanager
def held_lease(uri: str, duration_s: float = DURATION_S) -> Iterator[Lease]:
    """Hold the lease within the block, renewed by a thread; it is given back however the block ends.

    Raises:
        LeaseHeldError: Another job holds it.
    """
    lease = take_lease(uri, duration_s)
    stop = threading.Event()
    thread = threading.Thread(target=lease.renew_until, args=(stop,), daemon=True)
    try:
        thread.start()
        yield lease
    finally:
        stop.set()
        thread.join()
        lease.release()


def _file(uri: str, generation: int) -> str:
    return join_uri(uri, f"{generation:06}.json")


def _generations(uri: str) -> list[int]:
    fs, path = open_uri(uri)
    with explained(uri):
        try:
            names = [name.rsplit("/", 1)[-1] for name in fs.ls(path, detail=False)]
        except FileNotFoundError:
            return []
    return sorted(int(match[1]) for match in map(_NAME.fullmatch, names) if match)


def newest_generation(uri: str) -> int:
    """The newest generation; 0 when there is none."""
    return max(_generations(uri), default=0)


def _clear(uri: str, below: int) -> None:
    """Remove older generations. They mean nothing any more, so that a store that refuses does no harm."""
    for generation in _generations(uri):
        if generation < below:
            fs, path = open_uri(_file(uri, generation))
            with contextlib.suppress(OSError):
                fs.rm_file(path)


def _from_now(seconds: float) -> str:
    return datetime.fromtimestamp(time.time() + seconds, UTC).isoformat()


def _to_bytes(holding: Holding) -> bytes:
    return (json.dumps(dataclasses.asdict(holding)) + "\n").encode()


def _from_bytes(data: bytes, uri: str) -> Holding:
    try:
        holding = Holding(**json.loads(data))
        datetime.fromisoformat(holding.expires)
    except (ValueError, TypeError) as error:
        raise ContentError(f"{uri}: no lease ({error}); remove the file when no run is under way") from error
    return holding
