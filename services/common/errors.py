"""The error behind an error: Ray wraps what its tasks and actors raise, and messages may hold secrets."""

from lungforge.errors import AccessError, InputError
from lungforge.public_uri import public_message
from lungforge.storage.errors import explanation

#: The longest line.
_CHARACTERS = 300


def unwrap(error: BaseException) -> BaseException:
    """What a task or an actor raised, behind the wrappers of Ray.

    Ray's RayTaskError is made an instance of its cause's class too, with a traceback for a message; the
    plain cause has the plain message.
    """
    while isinstance(cause := getattr(error, "cause", None), BaseException):
        error = cause
    return error


def user_error(error: BaseException) -> InputError | AccessError | None:
    """The error written for a user, behind Ray's wrappers and ``raise ... from``; None without one.

    What a library meets on the local disk (full, read-only, ...) is written for a user here.
    """
    seen: set[int] = set()
    behind: BaseException | None = error
    local: OSError | None = None
    while behind is not None and id(behind) not in seen:
        seen.add(id(behind))
        behind = unwrap(behind)
        if isinstance(behind, (InputError, AccessError)):
            return behind
        if isinstance(behind, OSError) and behind.errno is not None and _is_of_disk(behind):
            local = behind
        behind = behind.__cause__
    return None if local is None else explanation(local)


def _is_of_disk(error: OSError) -> bool:
    """Whether a place is in the way, and not a program: a missing file, a broken pipe, a socket."""
    return not isinstance(error, (FileNotFoundError, FileExistsError, ConnectionError, TimeoutError))


def reason_of(error: BaseException) -> str:
    """The error behind all that wraps it, as one line without credentials."""
    error = unwrap(error)
    words = " ".join(str(error).split())
    line = words if isinstance(error, (InputError, AccessError)) else f"{type(error).__name__}: {words}"
    line = public_message(line)
    return line if len(line) <= _CHARACTERS else f"{line[: _CHARACTERS - 1]}…"
