"""Handing commands in at a real Ray head: what comes back, and who is let in."""

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lungforge.ct.phantoms.generate import write_phantoms
from services.cli.commands import parse
from services.submit.config import submission_id
from tests.ray_head import RayHead, wait_until


@pytest.fixture(scope="module")
def head() -> Iterator[RayHead]:
    """A cluster of one head, which all tests of this file share."""
    with RayHead() as head:
        yield head


@pytest.fixture(scope="module")
def luna16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small scans."""
    folder = tmp_path_factory.mktemp("scans") / "luna16"
    write_phantoms(str(folder), series=2, seed=0, size=64, slices=12)
    return folder


def _preprocess(source: Path, out: Path) -> list[str]:
    return ["preprocess", "--source", str(source), "--out", str(out), "--size", "32", "--workers", "1"]


def _id(words: list[str]) -> str:
    return submission_id(words[0], parse(words[0], words[1:]))


def _endless(folder: Path) -> list[str]:
    """A command that runs until it is stopped."""
    return ["phantom", "--out", str(folder), "--series", "100000", "--size", "64", "--slices", "10"]


@pytest.mark.ray
def test_a_stage_runs_there_and_answers_as_it_would_here(head: RayHead, luna16: Path, tmp_path: Path) -> None:
    words = _preprocess(luna16, tmp_path / "slices")
    first = head.submit(*words, "--json")
    assert first.returncode == 0, first.stderr
    result = json.loads(first.stdout)
    assert (result["volumes"], result["uri"]) == (2, str(tmp_path / "slices"))
    assert (tmp_path / "slices" / "manifest.json").is_file()
    assert "preprocess: 2/2 volumes" in first.stderr
    assert '{"uri"' not in first.stderr, "the result is on stdout alone"

    done = head.submit(*words)
    assert done.returncode == 0, done.stderr
    assert "has already succeeded" in done.stderr
    assert re.search(r"^volumes +2$", done.stdout, re.MULTILINE)
    assert "2/2 volumes" not in done.stderr
    assert [name for name in head.jobs() if name.startswith(_id(words))] == [_id(words)]

    again = head.submit("--again", *words, "--json")
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == result
    assert "is finished already" in again.stderr
    assert head.jobs()[f"{_id(words)}-2"]["status"] == "SUCCEEDED"


@pytest.mark.slow
@pytest.mark.ray
def test_two_at_once_are_one_job(head: RayHead, luna16: Path, tmp_path: Path) -> None:
    words = _preprocess(luna16, tmp_path / "slices")
    both = [
        subprocess.Popen(
            head.command(*words, "--json"),
            env=head.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert answers[0][0] == answers[1][0]
    assert sorted("lungforge submit: submitted " in errors for _, errors in answers) == [False, True]
    assert [name for name in head.jobs() if name.startswith(_id(words))] == [_id(words)]


@pytest.mark.slow
@pytest.mark.ray
def test_what_failed_is_run_again(head: RayHead, tmp_path: Path) -> None:
    source = tmp_path / "luna16"
    words = _preprocess(source, tmp_path / "slices")
    failed = head.submit(*words)
    # The exit code and message of the stage, not Ray's 1.
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert "lungforge preprocess: " in failed.stderr
    assert str(source) in failed.stderr
    write_phantoms(str(source), series=1, seed=0, size=64, slices=12)
    mended = head.submit(*words, "--json")
    assert mended.returncode == 0, mended.stderr
    assert f"{_id(words)} has failed; running it again" in mended.stderr
    assert json.loads(mended.stdout)["volumes"] == 1
    assert {name: job["status"] for name, job in head.jobs().items() if name.startswith(_id(words))} == {
        _id(words): "FAILED",
        f"{_id(words)}-2": "SUCCEEDED",
    }


@pytest.mark.slow
@pytest.mark.ray
def test_ctrl_c_leaves_the_job_running_and_a_stop_leaves_with_130(head: RayHead, tmp_path: Path) -> None:
    words = _endless(tmp_path / "luna16")
    process = subprocess.Popen(
        head.command(*words),
        env=head.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    name = _id(words)
    wait_until(lambda: head.jobs().get(name, {}).get("status") == "RUNNING", 60)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert f"ray job stop --address {head.address} {name}" in errors
    assert "Traceback" not in errors
    assert head.jobs()[name]["status"] == "RUNNING"

    attached = subprocess.Popen(
        head.command(*words),
        env=head.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert attached.stderr is not None
    assert f"{name} is running" in attached.stderr.readline()
    # It follows the log from its beginning.
    assert any("Running entrypoint" in line for line in attached.stderr)
    assert head.request("POST", f"/api/jobs/{name}/stop")[0] == 200
    _, errors = attached.communicate(timeout=60)
    assert attached.returncode == 130, errors
    assert f"{name} was stopped" in errors


@pytest.mark.slow
@pytest.mark.ray
def test_the_folder_that_is_sent_is_what_runs(head: RayHead, tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    # Python's listing, which a lungforge that is installed there could not have printed.
    program = (
        "import json, os, sys\nprint(json.dumps({'files': sorted(os.listdir()), 'words': sys.argv[1:]}))\n"
    )
    (tmp_path / "services" / "__main__.py").write_text(program, encoding="utf-8")
    (tmp_path / ".gitignore").write_text("keys.env\n", encoding="utf-8")
    (tmp_path / ".rayignore").write_text("tests/\n", encoding="utf-8")
    (tmp_path / "keys.env").write_text("AWS_SECRET_ACCESS_KEY=x\n", encoding="utf-8")
    for folder in (".git", ".venv", "tests", "kept"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").touch()
    sent = head.submit("--working-dir", str(tmp_path), "show", "s3://lab/slices", "--json")
    assert sent.returncode == 0, sent.stderr
    result = json.loads(sent.stdout)
    assert result["words"] == ["show", "s3://lab/slices", "--json"]
    assert result["files"] == [".gitignore", ".rayignore", "kept", "services"]


# --- tokens and addresses -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.ray
def test_a_missing_and_a_wrong_token_have_different_messages(head: RayHead, tmp_path: Path) -> None:
    assert head.get("/api/jobs/", token=None)[0] == 401
    assert head.get("/api/jobs/", token="0" * 64)[0] == 403
    words = ["show", "somewhere"]
    before = head.jobs()
    missing = head.submit(*words, RAY_AUTH_MODE="disabled")
    wrong_token = "0123456789abcdef" * 4
    wrong = head.submit(*words, RAY_AUTH_TOKEN=wrong_token)
    nowhere = head.submit(*words, RAY_AUTH_TOKEN_PATH="", HOME=str(tmp_path))
    for refused, message in (
        (missing, f"{head.address} asks for a token (401); set RAY_AUTH_MODE=token"),
        (wrong, f"{head.address} refuses the token (403)"),
        (nowhere, f"{head.address} needs a token; set RAY_AUTH_TOKEN_PATH"),
    ):
        assert refused.returncode == 2
        assert refused.stdout == ""
        assert message in refused.stderr
        assert refused.stderr.count("\n") == 1, refused.stderr
        assert wrong_token not in refused.stderr
    assert head.jobs() == before


NOBODY = "http://127.0.0.1:9"


def _plain(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``lungforge submit WORDS`` where no address is given but by the environment."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return subprocess.run(
        [sys.executable, "-m", "services", "submit", *words],
        env=inherited | environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )


@pytest.mark.slow
def test_a_token_that_others_can_read_is_warned_about(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0" * 64, encoding="utf-8")
    printed = {}
    for mode in (0o600, 0o640, 0o604):
        token.chmod(mode)
        printed[mode] = _plain(
            "--address", NOBODY, "show", "x", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token)
        ).stderr
    warning = f"lungforge submit: other users can read the token in {token}; to fix this: chmod 600 {token}\n"
    assert [text.startswith(warning) for text in printed.values()] == [False, True, True]


@pytest.mark.slow
@pytest.mark.ray
def test_an_address_that_is_typed_wins_over_the_environments(head: RayHead) -> None:
    lost = _plain("show", "nowhere", RAY_ADDRESS=NOBODY)
    assert lost.returncode == 2
    assert lost.stderr.startswith(f"lungforge submit: {NOBODY} does not answer; ")
    assert lost.stderr.count("\n") == 1
    # Without a token the head is not entered, and says so: it was asked, and not nobody.
    others = {"RAY_ADDRESS": NOBODY, "RAY_API_SERVER_ADDRESS": NOBODY}
    typed = _plain("--address", head.address, "show", "nowhere", **others)
    assert f"{head.address} asks for a token (401)" in typed.stderr
    named = _plain("show", "nowhere", RAY_ADDRESS=NOBODY, RAY_API_SERVER_ADDRESS=head.address)
    assert f"{head.address} asks for a token (401)" in named.stderr


class _Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"hello")

    def log_message(self, *args: object) -> None:
        pass


def test_another_server_is_no_dashboard(tmp_path: Path) -> None:
    server = http.server.HTTPServer(("127.0.0.1", 0), _Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        printed = subprocess.run(
            [sys.executable, "-m", "services", "submit", "--address", address, "show", "x"],
            capture_output=True,
            encoding="utf-8",
            check=False,
            timeout=60,
        )
    finally:
        server.shutdown()
    assert printed.returncode == 2
    assert printed.stderr.startswith(f"lungforge submit: {address} is not a Ray dashboard (")
    assert printed.stderr.count("\n") == 1
