"""Shell blocks that need a cluster, a GPU or hours: what they call exists, and takes these options."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cli.commands import COMMANDS, parse
from tests.docs.site import ROOT, Block, blocks, pages

PAGES = [*pages(), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
BLOCKS = [(page, block) for page in PAGES for block in blocks(page, "sh")]
#: What stands before a command of LungForge.
STARTS = re.compile(
    r"(?:^|[\s(])(?:(?:\.venv/bin/)?lungforge(?: submit(?: --address \S+)?)?"
    r"|python -m services|lab submit|lungforge\.sbatch) ({})(?= |$)".format("|".join(COMMANDS))
)


def _lines(block: Block) -> list[str]:
    return [line.partition(" # ")[0] for line in block.text.replace("\\\n", " ").splitlines()]


def _commands() -> Iterator[tuple[str, str, str]]:
    for page in PAGES:
        for block in blocks(page, "sh", "bash"):  # what is run is read, too
            for line in _lines(block):
                match = STARTS.search(line)
                if match is not None:
                    options = re.split(r";| [|>&]", line[match.end() :])[0]
                    yield page.name, match[1], options.strip().rstrip(")")


@pytest.mark.parametrize(("page", "command", "options"), _commands())
def test_commands_are_understood(page: str, command: str, options: str) -> None:
    words = shlex.split(options, comments=True)
    if words == ["..."] or "--help" in words or "toy" in words:  # toy is a generator of another package
        return
    if "--config" in words:  # whose file another block writes; what runs the blocks reads it
        return
    parse(command, [word for word in words if word != "--json"])


def test_there_are_commands_of_every_stage() -> None:
    assert {"preprocess", "train", "sample", "evaluate"} <= {command for _, command, _ in _commands()}


@pytest.mark.parametrize(
    ("page", "block"), BLOCKS, ids=[f"{page.stem}-{i}" for i, (page, _) in enumerate(BLOCKS)]
)
def test_bash_reads_it(page: Path, block: Block) -> None:
    done = subprocess.run(
        ["bash", "-n", "-c", block.text], capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr


def test_targets_of_make_exist() -> None:
    made = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {
        match[1]
        for page in PAGES
        for match in re.finditer(r"(?:^|[`\s])make ([a-z][a-z-]+)(?=[`\s])", _code(page), re.MULTILINE)
    }
    assert {"demo", "test", "docs"} <= named
    assert named <= made


def test_benchmarks_exist_and_take_these_options() -> None:
    seen = 0
    for page, block in BLOCKS:
        for line in _lines(block):
            match = re.search(r"python -m (benchmarks[a-z_.]*)(.*)", line)
            if match is None:
                continue
            path = ROOT / match[1].replace(".", "/")
            files = [path.with_suffix(".py")] if path.with_suffix(".py").exists() else list(path.glob("*.py"))
            source = "\n".join(file.read_text(encoding="utf-8") for file in files)
            for option in re.findall(r"(--[a-z-]+)", match[2]):
                name = option.removeprefix("--").replace("-", "_")
                assert f'"{option}"' in source or f"{name}:" in source, f"{page.name}: {match[1]} {option}"
            seen += 1
    assert seen >= 8


def test_files_of_the_repository_exist() -> None:
    for page, block in BLOCKS:
        for name in re.findall(r"(?<![\w/.])((?:cluster|docker|benchmarks|tests)/[\w./-]+\.\w+)", block.text):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def _code(page: Path) -> str:
    """What a page shows as code, in blocks and in lines."""
    text = page.read_text(encoding="utf-8")
    return "\n".join([*(block.text for block in blocks(page)), *re.findall(r"`[^`\n]+`", text)])
