"""The error of the store, and what it makes of the errors of file systems and of S3."""

from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import ConnectionError as S3ConnectionError
from botocore.exceptions import NoCredentialsError, PartialCredentialsError, ProfileNotFound

from lungforge.errors import InputError


class StoreError(InputError):
    """A dataset cannot be read or written. One line that names the URI and what would do."""


@contextmanager
def explained(uri: str) -> Iterator[None]:
    """Turn what a user can mend (credentials, permissions, endpoint, wrong path) into a StoreError.

    A missing or an existing file passes: only the caller knows what that means.
    """
    try:
        yield
    except PermissionError as error:
        remedy = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the policy of the bucket"
        if not uri.startswith("s3://"):
            remedy = "check the permissions of the file and of its folders"
        raise StoreError(f"{uri}: access denied ({_reason(error)}); {remedy}") from error
    except (NoCredentialsError, PartialCredentialsError, ProfileNotFound) as error:
        remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
        raise StoreError(f"{uri}: no S3 credentials ({error}); {remedy}") from error
    except S3ConnectionError as error:
        raise StoreError(f"{uri}: S3 cannot be reached ({error}); check AWS_ENDPOINT_URL") from error
    except (NotADirectoryError, IsADirectoryError) as error:
        raise StoreError(
            f"{uri}: something is in the way ({_reason(error)}); choose another place"
        ) from error


def _reason(error: OSError) -> str:
    """The words of the error in one line; s3fs puts them into its only argument."""
    return " ".join(str(error.strerror or error).split())
