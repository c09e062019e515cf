"""What the errors of S3 mean: what the user must mend (``AccessRefusedError``), and what may mend itself.

The codes are those of https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html and those of stores
that speak S3 beside it.
"""

import os
import re
from typing import Any

from botocore import exceptions as boto
from botocore.parsers import ResponseParserError

from lungforge.errors import AccessError, AccessRefusedError
from lungforge.public_uri import public_message

_LATER = "try again later"
_KEYS = "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and the policy of the bucket"
_NEW_KEYS = "set new ones: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or `aws sso login`"
_NO_KEYS = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
_ENDPOINT = "check AWS_ENDPOINT_URL"
_CHECKSUMS = "AWS_REQUEST_CHECKSUM_CALCULATION"

_EXPIRED = {
    "ExpiredToken", "ExpiredTokenException", "InvalidToken", "InvalidClientTokenId", "RequestExpired",
    "TokenRefreshRequired",
}  # fmt: skip
_REGION = {
    "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "InvalidRegionName",
    "PermanentRedirect", "Redirect", "TemporaryRedirect",
}  # fmt: skip
_FULL = {"InsufficientStorage", "QuotaExceeded", "XMinioAdminBucketQuotaExceeded", "XMinioStorageFull"}
#: Refused with a status below 500 although the same request may be taken the next time.
_PASSING = {
    "BadDigest", "IncompleteBody", "OperationAborted", "RequestTimeout", "RequestLimitExceeded", "SlowDown",
    "Throttling", "ThrottlingException", "TooManyRequests", "TooManyRequestsException",
}  # fmt: skip
_UPLOADS = {"PutObject", "UploadPart", "CreateMultipartUpload", "CompleteMultipartUpload"}
_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.TokenRetrievalError,
    boto.NoAuthTokenError,
    boto.SSOError,
)
#: What TLS says of a certificate that is not trusted, and of a server that does not speak TLS.
_LASTING_TLS_ERRORS = ("CERTIFICATE_VERIFY_FAILED", "WRONG_VERSION_NUMBER", "RECORD_LAYER")


class RequestError(OSError):
    """A request to S3 that failed, and is not to be tried again; ``explained_s3`` says what that means.

    Attributes:
        error: What botocore raised.
        answered: Whether the store has ever answered this process.
    """

    def __init__(self, error: Exception, *, answered: bool) -> None:
        super().__init__(str(error))
        self.error, self.answered = error, answered


def explained_s3(error: Exception, uri: str, *, answered: bool = True) -> AccessError:
    """An error of a request as one line that names the URI and what would do.

    Args:
        error: A ``ClientError`` (the store's answer is an error), a ``BotoCoreError`` (there is none), or
            what kept the client from being made.
        uri: What was being read or written.
        answered: Whether the store has answered this process before. Where nobody has ever answered, the
            address is more likely to be wrong than the store to be away.
    """
    if isinstance(error, boto.ClientError):
        return _of_answer(error, uri)
    reason = _words(error)
    if isinstance(error, _CREDENTIALS):
        return AccessRefusedError(f"{uri}: no S3 credentials ({reason}); {_NO_KEYS}")
    if isinstance(error, boto.ProfileNotFound):
        return AccessRefusedError(f"{uri}: no S3 credentials ({reason}); check AWS_PROFILE")
    if isinstance(error, boto.SSLError):
        remedy = (
            "check http:// or https:// in AWS_ENDPOINT_URL, or set AWS_CA_BUNDLE to the store's certificate"
        )
        return AccessRefusedError(f"{uri}: no secure connection to S3 ({reason}); {remedy}")
    if isinstance(error, boto.ProxyConnectionError):
        return AccessError(f"{uri}: S3 cannot be reached ({reason}); check HTTPS_PROXY and HTTP_PROXY")
    if is_lasting(error):
        return _wrong_settings(error, uri)  # a bundle of certificates that cannot be read
    if isinstance(error, (boto.ConnectionError, boto.HTTPClientError, boto.IncompleteReadError)):
        line = f"{uri}: S3 cannot be reached ({reason}); {_ENDPOINT}"
        if isinstance(error, boto.EndpointConnectionError) and not answered:
            return AccessRefusedError(line)
        return AccessError(f"{line}, or try again later")
    if isinstance(error, boto.ParamValidationError):
        return AccessRefusedError(f"{uri}: no bucket can have this name; write s3://BUCKET/FOLDER")
    if isinstance(error, ResponseParserError):
        if answered:
            return AccessError(f"{uri}: S3 answers what cannot be read ({reason}); {_LATER}")
        return AccessRefusedError(f"{uri}: what answers is no S3 ({reason}); {_ENDPOINT}")
    return _wrong_settings(error, uri)


def is_lasting(error: Exception | None) -> bool:
    """Whether a request that failed before it was answered would fail again, whenever it is made."""
    if isinstance(error, boto.SSLError):
        words = str(error).upper().replace(" ", "_")
        return any(lasting in words for lasting in _LASTING_TLS_ERRORS)
    return type(error) is boto.HTTPClientError and isinstance(_inner(error), OSError)


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status of the store's answer, if the error is one."""
    status: int | None = _response(error).get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def code_of(error: BaseException | None) -> str:
    """The code of the store's answer, if the error is one; the HTTP status where the answer has no body."""
    return str(_response(error).get("Error", {}).get("Code", ""))


def _wrong_settings(error: Exception, uri: str) -> AccessRefusedError:
    """The line for settings of AWS with which no request can be made."""
    reason = _words(error)
    if reason.startswith("Invalid endpoint:"):
        given = reason.removeprefix("Invalid endpoint:").strip()
        host = re.sub(r"^\w*:?//", "", given) or "HOST:PORT"
        return AccessRefusedError(
            f"{uri}: AWS_ENDPOINT_URL is no URL ({given}); write http://{host} or https://{host}"
        )
    names = "AWS_CA_BUNDLE" if isinstance(_inner(error), OSError) else "the AWS_ variables"
    return AccessRefusedError(
        f"{uri}: the settings of AWS are wrong ({reason}); check {names} and the AWS configuration"
    )


def _of_answer(error: boto.ClientError, uri: str) -> AccessError:
    code, status, reason = code_of(error), status_of(error) or 0, _words_of_answer(error)
    if code == "NoSuchBucket":
        return AccessRefusedError(f"{uri}: no such bucket; make it first, or {_ENDPOINT}")
    if code == "InvalidBucketName":
        return AccessRefusedError(f"{uri}: no bucket can have this name ({reason}); write s3://BUCKET/FOLDER")
    if code in _EXPIRED:
        return AccessRefusedError(f"{uri}: the S3 credentials have expired ({reason}); {_NEW_KEYS}")
    if code == "InvalidObjectState":
        return AccessRefusedError(f"{uri}: it is archived ({reason}); restore it from the archive first")
    if code == "RequestTimeTooSkewed":
        return AccessRefusedError(f"{uri}: access denied ({reason}); set the clock of this machine")
    if code in _REGION or status == 301:
        region = _region(error)
        remedy = f"set AWS_DEFAULT_REGION={region}" if region else "check AWS_DEFAULT_REGION"
        return AccessRefusedError(f"{uri}: wrong region ({reason}); {remedy}, and {_ENDPOINT}")
    if code in _FULL or status == 507:
        return AccessError(f"{uri}: no space left ({reason}); free some there, or have the quota raised")
    if code in _PASSING or status in (408, 409, 425, 429) or (status >= 500 and status != 501):
        return AccessError(f"{uri}: S3 is out of order ({reason}); {_LATER}")
    if error.operation_name in _UPLOADS and _about_checksums(code, reason):
        return AccessRefusedError(
            f"{uri}: the store does not take uploads with checksums ({reason}); "
            f"set {_CHECKSUMS}=when_required"
        )
    if status in (401, 403):
        return AccessRefusedError(f"{uri}: access denied ({reason}); {_KEYS}")
    return AccessRefusedError(
        f"{uri}: the store does not do what is asked of it ({reason}); {_ENDPOINT}, or use another store"
    )


def _about_checksums(code: str, reason: str) -> bool:
    """Whether a refused upload may be taken without the checksums that botocore adds to it."""
    if os.environ.get(_CHECKSUMS, "").lower() == "when_required":
        return False
    if code in ("NotImplemented", "MissingContentLength", "XAmzContentSHA256Mismatch", "501", "411"):
        return True
    return any(word in reason.lower() for word in ("checksum", "trailer", "aws-chunked", "sdk-"))


def _region(error: boto.ClientError) -> str | None:
    """The region that a store says is the right one."""
    response = _response(error)
    told: str | None = response.get("Error", {}).get("Region")
    return told or response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")


def _response(error: BaseException | None) -> dict[str, Any]:
    return getattr(error, "response", None) or {}


def _words_of_answer(error: boto.ClientError) -> str:
    told = error.response.get("Error", {})
    code, message = str(told.get("Code", "")), " ".join(str(told.get("Message") or "").split())
    return public_message(f"{code}: {message}".rstrip(": .")) if message else code or _words(error)


def _words(error: Exception) -> str:
    return public_message(" ".join(str(error).split()).rstrip(".")) or type(error).__name__


def _inner(error: Exception | None) -> Any:
    """What a library below botocore raised, where botocore keeps it."""
    return getattr(error, "kwargs", {}).get("error")
