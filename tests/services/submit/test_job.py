"""What ``lungforge submit`` makes of its words: a name, a line of shell, or a refusal."""

import datetime
import os
import shlex
import socket
import subprocess
from pathlib import Path

import pytest

from lungforge.errors import InputError
from services.cli.commands import parse
from services.submit import job
from services.submit.config import entrypoint, resolve, submission_id
from services.submit.job import run


def _id(words: list[str]) -> str:
    return submission_id(words[0], parse(words[0], words[1:]))


def test_the_same_command_has_the_same_name_however_it_is_written() -> None:
    plain = ["train", "--preset", "cpu", "--data", "s3://lab/slices", "--out", "s3://lab/model"]
    name = _id(plain)
    words = ["--out=s3://lab/model", "--data", "s3://lab/slices", "--model", "sdm", "--preset=cpu"]
    assert name == _id(["train", *words])
    # Where it goes, and on how many workers, is no part of a manifest's digest, but of a job's name.
    for other in (["--out", "s3://lab/other"], ["--workers", "4"], ["--seed", "1"], ["--preset", "tiny"]):
        assert _id([*plain, *other]) != name
    assert name.startswith("lungforge-train-")
    assert len(name) == len("lungforge-train-") + 12


def test_a_dry_run_is_not_taken_for_the_run() -> None:
    words = ["sample", "--model", "m", "--data", "d", "--out", "o"]
    assert _id(words) != _id([*words, "--dry-run"])


def test_a_night_without_a_date_is_tonights() -> None:
    words = ["--store", "s3://lab"]
    sent, tonight = resolve("nightly", words)
    assert sent == [*words, "--date", datetime.datetime.now(datetime.UTC).date().isoformat()]
    assert _id(["nightly", *sent]) == submission_id("nightly", tonight)
    assert submission_id("nightly", tonight) != _id(["nightly", *words, "--date", "2020-01-01"])
    assert resolve("nightly", [*words, "--date", "2020-01-01"])[0] == [*words, "--date", "2020-01-01"]


def test_the_line_of_shell_keeps_every_word_together() -> None:
    words = ["--source", "s3://lab/a b;rm -rf $HOME", "--out", "x'y"]
    line = entrypoint("preprocess", words)
    assert shlex.split(line) == ["python", "-m", "services", "preprocess", *words, "--json"]
    printed = subprocess.run(
        ["sh", "-c", line.replace("python -m services", "printf '%s\\n'")],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    assert printed.stdout.splitlines() == ["preprocess", *words, "--json"]


def test_own_options_stand_before_the_stage_and_the_stages_behind() -> None:
    stage = ["phantom", "--out=--again"]
    for flags in (["--again", "--address", "http://h:1"], ["--address=http://h:1", "--again"]):
        read = parse("submit", [*flags, *stage])
        assert (read.address, read.again, read.command) == ("http://h:1", True, tuple(stage))
    assert not parse("submit", stage).again
    # The value of an option is no stage, even if it is called like one.
    with pytest.raises(InputError, match="no stage is named"):
        parse("submit", ["--address", "train"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian", "--data", "d"], "there is no stage 'trian'; did you mean train?"),
        (["submit", "train"], "there is no stage 'submit'"),
        (["--address", "head:8265", "show", "x"], "--address is 'head:8265'; give the dashboard's URL"),
        (["--working-dir", "/no/such", "show", "x"], "--working-dir is '/no/such'; there is no such folder"),
    ],
)
def test_a_wrong_option_of_submit_is_one_line(words: list[str], message: str) -> None:
    with pytest.raises(InputError) as error:
        parse("submit", words)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "words",
    [
        ["nightly", "--store", "s", "--pushgateway", "http://user:pa55word@gateway"],
        ["--address", "http://user:pa55word@head:8265", "show", "x"],
        ["show", "https://host/slices?token=pa55word"],
    ],
)
def test_a_password_is_not_sent_and_not_repeated(words: list[str]) -> None:
    with pytest.raises(InputError, match=r"has a (user name or password|query) in a URI") as error:
        parse("submit", words)
    assert "pa55word" not in str(error.value)


def test_nothing_is_sent_when_an_option_of_the_stage_is_wrong() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        stage = ["preprocess", "--source", "a", "--out", "b", "--size", "3"]
        with pytest.raises(InputError, match="--size is 3"):
            run(parse("submit", ["--address", address, *stage]))
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_token_that_is_mounted_is_read_by_its_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    token = tmp_path / "token"
    token.write_text("0" * 64, encoding="utf-8")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    owner = os.getuid()
    warned = {}
    for user, mode in ((owner, 0o600), (owner, 0o640), (owner + 1, 0o640), (owner + 1, 0o644)):
        token.chmod(mode)
        monkeypatch.setattr(os, "getuid", lambda user=user: user)
        job._warn_of_open_token()
        warned[user == owner, mode] = "other users can read the token" in capsys.readouterr().err
    assert warned == {(True, 0o600): False, (True, 0o640): True, (False, 0o640): False, (False, 0o644): True}
