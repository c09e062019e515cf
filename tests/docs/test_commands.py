"""Every command and program that the pages show is run: one user, one folder, the pages in their order.

Blocks marked ``bash`` and ``python`` are run; those marked ``sh`` need a cluster, a GPU or hours, and are
read by ``test_shell_blocks.py``.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.docs.site import DOCS, ROOT, blocks, pages
from tests.ray_head import RayHead

#: Pages that have a test of their own: test_tutorial.py on real scans, test_python_api_in_docs.py.
ELSEWHERE = {DOCS / name for name in ("tutorial-luna16.md", "how-to/python.md", "how-to/own-detector.md")}


@pytest.fixture
def one_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A Ray that all commands join: to start one takes longer than most of them (test_tutorial.py does)."""
    with RayHead(work_in=tmp_path) as head:
        for name, value in head.of_a_driver.items():
            monkeypatch.setenv(name, value)
        yield


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("one_ray")
def test_the_commands_in_the_docs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    monkeypatch.chdir(tmp_path)
    ran = {"bash": 0, "python": 0}
    for page in pages():
        names: dict[str, Any] = {}  # what a block of Python leaves for the next one of the page
        for block in [] if page in ELSEWHERE else blocks(page, *ran):
            if block.language == "python":
                exec(compile(block.text, page.name, "exec"), names)
            else:
                _run(block.text, page.name)
            ran[block.language] += 1
    assert ran["bash"] >= 20
    assert ran["python"] >= 3


def _run(text: str, page: str) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, f"{page}:\n{text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def test_the_site_leads_to_every_page_once() -> None:
    assert sorted(pages()) == sorted(DOCS.rglob("*.md"))


def test_every_block_says_what_it_is() -> None:
    languages = {block.language for page in pages() for block in blocks(page)}
    assert languages <= {"bash", "sh", "python", "text", "yaml", "toml"}


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs"])
def test_links_between_pages_lead_somewhere(name: str) -> None:
    path = ROOT / name
    links = 0
    for page in [path] if path.is_file() else sorted(path.rglob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
            links += 1
    assert links
