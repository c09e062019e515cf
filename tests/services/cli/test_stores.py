"""Whatever a store refuses, every command says it in one line, by whichever option the place is given."""

import pytest

from services.cli import main as cli
from tests.small_store import SmallStore, refusal

PLACE = "s3://lab/place"
#: Commands, each with a URI in one of its options.
COMMANDS = {
    "preprocess source": ["preprocess", "--source", PLACE, "--out", "OUT"],
    "preprocess dry run": ["preprocess", "--source", PLACE, "--out", "OUT", "--dry-run"],
    "preprocess out": ["preprocess", "--source", "OUT", "--out", PLACE],
    "train data": ["train", "--data", PLACE, "--out", "OUT", "--preset", "tiny"],
    "sample model": ["sample", "--model", PLACE, "--data", "OUT", "--out", "OUT"],
    "evaluate real": ["evaluate", "--real", PLACE, "--synthetic", "OUT", "--out", "OUT"],
    "nightly store": ["nightly", "--store", PLACE],
    "show": ["show", PLACE],
    "export data": ["export", "--data", PLACE, "--out", "OUT", "--format", "png"],
    "phantom out": ["phantom", "--out", PLACE, "--series", "1"],
}


def _told(command: str, out: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code, and the only line that is said."""
    code = cli.main([out if word == "OUT" else word for word in COMMANDS[command]])
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1, captured.err
    assert captured.err.startswith(f"lungforge {COMMANDS[command][0]}: {PLACE}")
    return code, captured.err


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_store_refuses_is_one_line_and_two_and_an_outage_is_one(
    command: str,
    small_store: SmallStore,
    tmp_path: object,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = f"{tmp_path}/out"
    small_store.manner = lambda request: refusal(403, "AccessDenied")
    code, line = _told(command, out, capsys)
    assert (code, "access denied" in line) == (2, True)
    small_store.manner = lambda request: refusal(503, "SlowDown")
    code, line = _told(command, out, capsys)
    assert (code, "try again later" in line) == (1, True)
    small_store.manner = lambda request: None
    monkeypatch.setenv("AWS_ENDPOINT_URL", small_store.host)
    code, line = _told(command, out, capsys)
    assert (code, "AWS_ENDPOINT_URL" in line) == (2, True)
