"""What the command line prints where, and the codes that it leaves with."""

import dataclasses
import errno
import json
import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lungforge.errors import AccessError, AccessRefusedError, InputError
from services.cli import main as cli


def _raising(error: BaseException):
    def execute(name: str, arguments: list[str]) -> None:
        raise error

    return execute


def test_help_and_version_are_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    assert "lungforge COMMAND" in capsys.readouterr().out
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == "lungforge 0.1.0\n"


def test_no_command_is_a_mistake() -> None:
    assert cli.main([]) == 2


def test_a_mistyped_command_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["preproces"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "did you mean preprocess?" in captured.err


def test_bad_input_is_one_line_and_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["phantom", "--out", "x", "--size", "7"]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "lungforge phantom: --size is 7; give a number from 64 to 1024\n"


def test_an_unknown_option_is_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["phantom", "--out", "x", "--sise", "128"]) == 2
    assert "--size" in capsys.readouterr().err


def test_an_input_error_in_a_ray_task_is_reported_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ray.exceptions import RayTaskError

    cause = InputError("the map has class 9; classes are 0 to 5")
    wrapped = RayTaskError("draw", "a long remote traceback", cause).as_instanceof_cause()
    monkeypatch.setattr(cli, "execute", _raising(wrapped))
    assert cli.main(["sample"]) == 2
    assert capsys.readouterr().err == "lungforge sample: the map has class 9; classes are 0 to 5\n"


def test_a_refusing_store_is_one_line_and_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "execute", _raising(PermissionError("Access Denied")))
    assert cli.main(["sample"]) == 1
    assert capsys.readouterr().err == "lungforge sample: PermissionError: Access Denied\n"


def test_a_store_that_refuses_a_task_of_ray_is_one_line_and_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ray.exceptions import RayTaskError

    passing = AccessError("s3://lab/luna16/1.raw: S3 is out of order (SlowDown); try again later")
    lasting = AccessRefusedError("s3://lab/luna16/1.raw: access denied (no); check the policy of the bucket")
    for cause, code in ((passing, 1), (lasting, 2)):
        wrapped = RayTaskError("read", "a long remote traceback", cause).as_instanceof_cause()
        for error in (cause, wrapped, pickle.loads(pickle.dumps(cause))):
            monkeypatch.setattr(cli, "execute", _raising(error))
            assert cli.main(["preprocess"]) == code
            assert capsys.readouterr().err == f"lungforge preprocess: {cause}\n"


@pytest.mark.parametrize(
    ("number", "code", "remedy"),
    [
        (errno.ENOSPC, 1, "free some space"),
        (errno.EDQUOT, 1, "have the quota raised"),
        (errno.EROFS, 2, "choose a place that can be written"),
        (errno.EACCES, 2, "check the permissions"),
    ],
)
def test_a_disk_that_a_library_finds_full_or_closed_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, code: int, remedy: str
) -> None:
    from ray.exceptions import RayTaskError

    cause = OSError(number, os.strerror(number), "/scratch/x")
    for error in (cause, RayTaskError("write", "a long remote traceback", cause).as_instanceof_cause()):
        monkeypatch.setattr(cli, "execute", _raising(error))
        assert cli.main(["sample"]) == code
        told = capsys.readouterr().err
        assert told.startswith("lungforge sample: /scratch/x: ")
        assert remedy in told
        assert told.count("\n") == 1


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "execute", _raising(AssertionError("ours")))
    with pytest.raises(AssertionError, match="ours"):
        cli.main(["sample"])


def test_sigterm_leaves_with_130(tmp_path: Path) -> None:
    # The program says when it is inside its work, so that the signal cannot come too early.
    program = (
        "import sys, time\nfrom services.cli import main as cli\n"
        "def execute(name, arguments):\n    print('working', flush=True)\n    time.sleep(60)\n"
        "cli.execute = execute\nsys.exit(cli.main(['phantom']))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "working\n"
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "interrupted" in errors


def test_json_is_one_line_on_stdout(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "services",
        "phantom",
        "--out",
        str(tmp_path / "luna16"),
        "--series",
        "1",
    ]
    done = subprocess.run(
        [*command, "--size", "64", "--slices", "12", "--json"],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    result = json.loads(done.stdout)
    assert result["series"] == 1
    assert (tmp_path / "luna16" / "subset0").is_dir()


def test_the_overview_does_not_load_the_heavy_libraries() -> None:
    program = (
        "import sys\nfrom services.cli.main import main\nmain(['--help'])\n"
        "print([name for name in ('torch', 'ray') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_while_it_is_imported_is_no_traceback(tmp_path: Path, number: signal.Signals) -> None:
    """The command line takes a second to import, in which people press Ctrl-C, too."""
    (tmp_path / "tyro.py").write_text(
        f"import os, signal\nos.kill(os.getpid(), {int(number)})\nsignal.pause()\n", encoding="utf-8"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import services.__main__ as entry; raise SystemExit(entry.main())"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[3]}"},
        # As a shell in the foreground has it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "lungforge: interrupted\n")


@dataclasses.dataclass(frozen=True)
class _Made:
    out: str = "samples"

    @property
    def next_steps(self) -> tuple[str, ...]:
        return (f"lungforge show {self.out}", "open https://me:dont-print-me@host/report.html")


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_what_to_do_next_is_talk_and_no_result(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "execute", lambda name, arguments: _Made())
    assert cli.main(["sample", *words]) == 0
    captured = capsys.readouterr()
    assert captured.err == "next: lungforge show samples\nnext: open https://host/report.html\n"
    assert captured.out == ('{"out": "samples"}\n' if words else "out  samples\n")


def test_training_without_a_preset_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--data", "slices", "--out", "model"]) == 2
    said = capsys.readouterr().err
    names = "tiny, cpu, luna256, luna256-edm, luna512-patch"
    assert said == f"lungforge train: give a --preset: {names} (lungforge train --help)\n"
