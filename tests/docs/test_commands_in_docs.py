"""Every command that the pages show is run: one user, one folder, the pages in the order of the README."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\((docs/[a-z0-9-]+\.md)\)")
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _pages() -> list[Path]:
    named = [
        ROOT / name for name in dict.fromkeys(LINK.findall((ROOT / "README.md").read_text(encoding="utf-8")))
    ]
    assert set(named) == set((ROOT / "docs").glob("*.md")), "the README leads to every page, and to no other"
    return named


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(1200)
def test_the_commands_in_the_docs_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    ran = 0
    for page in _pages():
        for block in BLOCK.findall(page.read_text(encoding="utf-8")):
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block],
                cwd=tmp_path,
                capture_output=True,
                encoding="utf-8",
                check=False,
                timeout=600,
            )
            printed = f"{page.name}:\n{block}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
            assert done.returncode == 0, printed
            ran += 1
    assert ran >= 8


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
