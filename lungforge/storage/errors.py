"""What the errors of file systems and of S3 mean to LungForge."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import ClientError
from botocore.exceptions import BotoCoreError, NoCredentialsError, PartialCredentialsError, ProfileNotFound
from botocore.exceptions import ConnectionError as S3ConnectionError

from lungforge.errors import AccessError, InputError
from lungforge.public_uri import public_message


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn what a file system or S3 raises into one line that names the URI and what would do.

    A missing or an existing file passes: only the caller knows what that means.

    Raises:
        AccessError: Denied, expired, unreachable, timed out, cut short, no space, ...
        InputError: A file is where a folder should be, or the other way round.
    """
    try:
        yield
    except (FileNotFoundError, FileExistsError, AccessError):
        raise
    except PermissionError as error:
        remedy = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the policy of the bucket"
        if not uri.startswith("s3://"):
            remedy = "check the permissions of the file and of its folders"
        raise AccessError(f"{uri}: access denied ({_reason(error)}); {remedy}") from error
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound) as error:
        remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        raise AccessError(f"{uri}: no S3 credentials ({error}); {remedy}") from error
    except S3ConnectionError as error:
        raise AccessError(f"{uri}: S3 cannot be reached ({error}); check AWS_ENDPOINT_URL") from error
    except (NotADirectoryError, IsADirectoryError) as error:
        raise InputError(
            f"{uri}: something is in the way ({_reason(error)}); choose another place"
        ) from error
    except ClientError as error:
        # Without its cause, as Ray keeps tracebacks: after a redirection, that quotes a signed URI.
        raise AccessError(f"{uri}: {_reason(error)}; try again later") from None
    except (OSError, BotoCoreError) as error:
        raise AccessError(f"{uri}: {_reason(error)}; try again later") from error


def _reason(error: Exception) -> str:
    """The words of the error in one line; s3fs puts them into its only argument."""
    words = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return public_message(" ".join(str(words).split()))
