"""Messages of one line that give the cause, and no secret."""

import pytest

from lungforge.errors import InputError
from services.common.errors import reason_of


class _WrappedError(RuntimeError):
    """As Ray wraps what a task raises: a traceback for a message, and the error itself as ``cause``."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__("ray::task() (pid=7)\n  File ...\nTraceback")
        self.cause = cause


def test_the_cause_of_an_error_is_given_in_one_line() -> None:
    error = InputError("maps are of 16 x 16 px;\n make others")
    assert reason_of(_WrappedError(_WrappedError(error))) == "maps are of 16 x 16 px; make others"
    assert reason_of(_WrappedError(RuntimeError("part 000007"))) == "RuntimeError: part 000007"


def test_a_long_story_is_cut() -> None:
    reason = reason_of(RuntimeError("word " * 1000))
    assert len(reason) == 300
    assert reason.endswith("…")


def test_no_message_contains_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abc/def+hunter2")
    monkeypatch.setenv("LAB_TOKEN", "7")  # too short to be one, and part of many words
    error = OSError(
        "key abc/def+hunter2, https://me:pass@host/a/b?X-Amz-Signature=0f&x=1 and s3://lab/7 (403)"
    )
    assert reason_of(error) == "OSError: key ***, https://host/a/b and s3://lab/7 (403)"
