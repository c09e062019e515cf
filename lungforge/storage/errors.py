"""What the errors of file systems and of S3 mean to LungForge."""

import errno
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import ClientError as HTTPError
from botocore.exceptions import BotoCoreError

from lungforge.errors import AccessError, AccessRefusedError, InputError
from lungforge.public_uri import public_message
from lungforge.storage.s3_errors import RequestError, explained_s3

_AGAIN = "and run the same command again"
_PERMISSIONS = "check the permissions of the file and of its folders"
#: What to do where no more can be written, and where nothing can be until something is mended.
_FULL = {
    errno.ENOSPC: f"free some space there {_AGAIN}",
    errno.EDQUOT: f"free some space, or have the quota raised, {_AGAIN}",
}
_IN_TEMPORARY_FOLDER = f"free some space there, or set TMPDIR to a folder with more, {_AGAIN}"
_REFUSED = {
    errno.EACCES: _PERMISSIONS,
    errno.EPERM: _PERMISSIONS,
    errno.EROFS: "choose a place that can be written",
    errno.ENAMETOOLONG: "choose a place with a shorter path",
    errno.ELOOP: "choose a place without a circle of links",
}


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn what a file system or S3 raises into one line that names the URI and what would do.

    A missing or an existing file passes: only the caller knows what that means.

    Raises:
        AccessError: Unreachable, timed out, cut short, no space, ...
        AccessRefusedError: Denied, expired, no credentials, read-only, ...
        InputError: A file is where a folder should be, or the other way round.
    """
    try:
        yield
    except (FileNotFoundError, FileExistsError, AccessError):
        raise
    except RequestError as error:
        raise explained_s3(error.error, uri, answered=error.answered) from error
    except BotoCoreError as error:
        raise explained_s3(error, uri) from error
    except HTTPError as error:
        # Without its cause, as Ray keeps tracebacks: after a redirection, that quotes a signed URI.
        raise explanation(error, uri) from None
    except OSError as error:
        raise explanation(error, uri) from error


def explanation(error: OSError | HTTPError, uri: str = "") -> AccessError | InputError:
    """The error as one line.

    Args:
        error: What a file system raised.
        uri: What was being read or written; the file that the error names if it is not given.
    """
    place = uri or str(getattr(error, "filename", None) or "a file")
    reason = _reason(error)
    number = getattr(error, "errno", None)
    if isinstance(error, (NotADirectoryError, IsADirectoryError)):
        return InputError(f"{place}: something is in the way ({reason}); choose another place")
    if number in _FULL:
        remedy = _IN_TEMPORARY_FOLDER if _is_temporary(place) else _FULL[number]
        return AccessError(f"{place}: {reason}; {remedy}")
    if isinstance(error, PermissionError):
        return AccessRefusedError(f"{place}: access denied ({reason}); {_PERMISSIONS}")
    if number in _REFUSED:
        return AccessRefusedError(f"{place}: {reason}; {_REFUSED[number]}")
    if isinstance(error, HTTPError):
        return AccessError(f"{place}: the answer of the store broke off ({reason}); try again later")
    return AccessError(f"{place}: {reason}; try again later")


def _is_temporary(place: str) -> bool:
    """Whether it is in a folder that the program made for itself."""
    return place.startswith(f"{tempfile.gettempdir()}/{tempfile.gettempprefix()}")


def _reason(error: Exception) -> str:
    """The words of the error in one line."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return public_message(" ".join(str(words).split()))
