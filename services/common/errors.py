"""Why a night failed, in one line that may be shown to anybody."""

import os
import re

from lungforge.errors import AccessError, InputError

#: The longest line.
_CHARACTERS = 300
#: Environment variables whose values are shown to nobody.
_SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|ACCESS_KEY", re.IGNORECASE)
#: Shorter values would be found in innocent words.
_LEAST_SECRET = 6


def reason_of(error: BaseException) -> str:
    """The error behind all that wraps it, as one line without credentials."""
    # What a task of Ray raises is wrapped, and its message holds a traceback.
    while isinstance(inner := getattr(error, "cause", None), BaseException):
        error = inner
    words = " ".join(str(error).split())
    line = words if isinstance(error, (InputError, AccessError)) else f"{type(error).__name__}: {words}"
    line = _without_secrets(line)
    return line if len(line) <= _CHARACTERS else f"{line[: _CHARACTERS - 1]}…"


def _without_secrets(line: str) -> str:
    """The line without user names and passwords in URLs, signed queries, and secrets of the environment."""
    line = re.sub(r"://[^/\s@]*@", "://", line)
    line = re.sub(r"(://[^\s?]*)\?\S*", r"\1", line)
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= _LEAST_SECRET:
            line = line.replace(value, "***")
    return line
