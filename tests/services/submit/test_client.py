"""What a job's log and its end are made of: the result, and the code to leave with."""

import json

import pytest
from ray.job_submission import JobDetails, JobStatus

from services.submit.client import JobOutput, exit_code_of


def _ended(status: JobStatus, code: int | None = None, message: str | None = None) -> JobDetails:
    return JobDetails(
        type="SUBMISSION", entrypoint="x", status=status, driver_exit_code=code, message=message
    )


@pytest.mark.parametrize(
    ("job", "code"),
    [
        (_ended(JobStatus.SUCCEEDED, 0), 0),
        (_ended(JobStatus.FAILED, 1), 1),
        (_ended(JobStatus.FAILED, 2), 2),
        (_ended(JobStatus.FAILED, 3), 3),  # a night that is worse
        (_ended(JobStatus.FAILED, 130), 130),
        (_ended(JobStatus.FAILED, -9), 137),  # killed, as for want of memory
        (_ended(JobStatus.FAILED, None), 1),
        (_ended(JobStatus.STOPPED, None), 130),
    ],
)
def test_the_code_is_the_jobs_own(job: JobDetails, code: int) -> None:
    assert exit_code_of("name", job) == code


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("\nruntime_env setup failed\nThe folder is not there.", "runtime_env setup failed"),
        (
            "500: Traceback (most recent call last):\n  File x\nValueError: too large\n.",
            "ValueError: too large",
        ),
        ("", "no reason was given"),
    ],
)
def test_a_job_that_did_not_run_is_explained_in_a_line(
    message: str, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code_of("name", _ended(JobStatus.FAILED, message=message)) == 1
    assert capsys.readouterr().err == f"lungforge submit: name could not run: {line}\n"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_the_last_object_is_the_result_however_the_log_is_cut(
    size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    result = {"uri": "s3://lab/slices", "reason": "Fréchet", "nested": {"rows": [1, 2]}}
    log = 'begin\n{"loss": 1}\n{not json\n{}{}\n' + json.dumps(result) + "\nlate talk\nno newline at the end"
    output = JobOutput(show=True)
    for start in range(0, len(log), size):
        output.feed(log[start : start + size])
    assert output.end() == result
    printed = capsys.readouterr()
    assert printed.out == ""
    # An object that is not the last is printed like any other line.
    assert printed.err == 'begin\n{not json\n{}{}\n{"loss": 1}\nlate talk\nno newline at the end\n'


def test_a_log_without_an_object_has_no_result(capsys: pytest.CaptureFixture[str]) -> None:
    output = JobOutput(show=False)
    output.feed("[1, 2]\n17\nnull\n")
    assert output.end() is None
    assert capsys.readouterr().err == ""
