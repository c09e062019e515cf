"""The batch script for Slurm: what it says and refuses, without a cluster."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from services.cli.commands import parse
from tests.cluster.slurm_cluster import SCRIPT

PAGE = SCRIPT.parents[2] / "docs" / "operations" / "slurm.md"


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    outside = {
        name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "LUNGFORGE"))
    }
    return subprocess.run(
        [SCRIPT, *arguments],
        env=outside | environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )


def test_the_script_is_clean() -> None:
    linted = subprocess.run(
        [Path(sys.executable).with_name("shellcheck"), SCRIPT],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert linted.returncode == 0, linted.stdout


def test_slurm_reads_every_directive() -> None:
    # It stops at the first line that is neither empty nor a comment.
    lines = SCRIPT.read_text(encoding="utf-8").splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    directives = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert directives
    assert max(directives) < first


def test_help_names_every_setting() -> None:
    help_text = _run("--help")
    assert help_text.returncode == 0
    settings = set(re.findall(r"\$\{(LUNGFORGE_[A-Z_]+)", SCRIPT.read_text(encoding="utf-8")))
    assert settings == {"LUNGFORGE_VENV", "LUNGFORGE_IMAGE", "LUNGFORGE_JOIN_SECONDS"}
    for text in (help_text.stdout, PAGE.read_text(encoding="utf-8")):
        assert settings == set(re.findall(r"LUNGFORGE_[A-Z_]+", text))
    default = re.search(r"LUNGFORGE_JOIN_SECONDS:-(\d+)", SCRIPT.read_text(encoding="utf-8"))
    assert default is not None
    assert f"LUNGFORGE_JOIN_SECONDS={default[1]}" in help_text.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        ([], {}, "sbatch --nodes 2"),
        (["show", "x"], {}, "this is not a Slurm job; submit it with sbatch --nodes 2"),
        (["show", "x"], {"SLURM_JOB_ID": "1", "LUNGFORGE_JOIN_SECONDS": "1m"}, "'1m'; give whole seconds"),
        (["show", "x"], {"SLURM_JOB_ID": "1", "PATH": "/usr/bin:/bin"}, "set LUNGFORGE_VENV"),
    ],
)
def test_mistakes_are_answered_before_anything_is_started(
    arguments: list[str], environment: dict[str, str], message: str
) -> None:
    done = _run(*arguments, **environment)
    assert done.returncode == 2
    assert message in done.stdout + done.stderr


def test_the_commands_of_the_page_are_commands_of_lungforge() -> None:
    text = PAGE.read_text(encoding="utf-8").replace("\\\n", " ")
    commands = [
        line.split("lungforge.sbatch ", 1)[1] for line in text.splitlines() if "lungforge.sbatch " in line
    ]
    words = [
        shlex.split(command.rstrip(")"))
        for command in commands
        if command.startswith(tuple("abcdefghijklmnopqrstuvwxyz"))
    ]
    assert {command[0] for command in words} >= {"preprocess", "train", "sample", "evaluate", "nightly"}
    for name, *options in words:
        parse(name, options)
