"""Whether an S3 store keeps conditional writes: tried once a bucket and process, before the first is needed.

Commits, leases and parts rely on them. Stores that read over a condition answer as if they had kept it, so
that two runs would overwrite each other and neither would know.
"""

import contextlib
import secrets
from dataclasses import dataclass
from typing import Any

from lungforge.errors import AccessRefusedError
from lungforge.storage.s3_errors import status_of

#: The name of a file that is there only while a store is tried, up to its random end. One that a killed
#: process leaves is never read; nor is it cleared away, as it might be that of a living one.
_PROBE = ".lungforge-probe-"


@dataclass(frozen=True)
class Condition:
    """A condition of a PUT.

    Attributes:
        header: Its name in HTTP.
        arguments: It as arguments of s3fs, such that no object that is there satisfies it.
    """

    header: str
    arguments: dict[str, str]


#: Only where nothing is.
IF_NONE_MATCH = Condition("If-None-Match", {"mode": "create"})
#: Only over one content; that of this tag nobody has.
IF_MATCH = Condition("If-Match", {"IfMatch": f'"{"0" * 32}"'})


def require_condition(fs: Any, path: str, condition: Condition) -> None:
    """Make sure that a store keeps a condition of a PUT.

    Three requests, once a client and bucket. The object that is tried lies beside ``path``: a policy may
    allow writing only there.

    Args:
        fs: An ``S3Store``.
        path: What is to be written: bucket and key.
        condition: The condition that it is to be written by.

    Raises:
        AccessRefusedError: The store reads over the condition or refuses it; or nothing may be written there.
        AccessError: It cannot be told now.
    """
    bucket = path.split("/", 1)[0]
    with fs.proving:
        if (bucket, condition.header) in fs.proven:
            return
        probe = f"{path.rsplit('/', 1)[0]}/{_PROBE}{secrets.token_hex(8)}"
        fs.pipe_file(probe, b"first")
        try:
            kept = not _is_written(fs, probe, condition)
        finally:
            with contextlib.suppress(OSError):  # where nothing may be deleted, it stays
                fs.rm_file(probe)
        if not kept:
            raise AccessRefusedError(
                f"s3://{bucket}: the store reads over the condition of a conditional write "
                f"({condition.header}), so that two runs would overwrite each other; "
                "use a store, or a release, that keeps it"
            )
        fs.proven.add((bucket, condition.header))


def _is_written(fs: Any, probe: str, condition: Condition) -> bool:
    """Whether an object is written over although the condition forbids it."""
    try:
        fs.pipe_file(probe, b"second", **condition.arguments)
    except FileExistsError:
        return False
    except OSError as error:
        status = status_of(error.__cause__)
        if status in (409, 412):
            return False
        if status in (400, 501):
            raise AccessRefusedError(
                f"s3://{probe.split('/', 1)[0]}: the store refuses conditional writes ({condition.header}), "
                "without which two runs would overwrite each other; use a store, or a release, that has them"
            ) from error
        raise
    return True
