"""Every command and program that the pages show is run: one user, one folder, the pages in their order.

Blocks marked ``bash`` and ``python`` are run; those marked ``sh`` need a cluster, a GPU or hours, and are
read by ``test_shell_blocks.py``.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.site import DOCS, ROOT, blocks, pages

#: Pages whose commands have a test of their own: on real scans.
ELSEWHERE = {DOCS / "tutorial-luna16.md"}


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1800)
def test_the_commands_in_the_docs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=":")
    ran = {"bash": 0, "python": 0}
    for page in pages():
        for block in [] if page in ELSEWHERE else blocks(page, *ran):
            shell = ["bash", "-euo", "pipefail", "-c"]
            done = subprocess.run(
                [*(shell if block.language == "bash" else [sys.executable, "-c"]), block.text],
                cwd=tmp_path,
                capture_output=True,
                encoding="utf-8",
                check=False,
                timeout=600,
            )
            printed = f"{page.name}:\n{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
            assert done.returncode == 0, printed
            ran[block.language] += 1
    assert ran["bash"] >= 20
    assert ran["python"] >= 3


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
