"""Every command that the pages show is run: one user, one folder, the pages in the order of the site."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def _pages() -> list[Path]:
    """The pages of the site, in the order of its navigation."""

    def below(entry: Any) -> Iterator[Path]:
        if isinstance(entry, str):
            yield DOCS / entry
        else:
            for inner in entry.values() if isinstance(entry, dict) else entry:
                yield from below(inner)

    return list(below(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))


def test_the_site_leads_to_every_page_once() -> None:
    pages = _pages()
    assert sorted(pages) == sorted(DOCS.rglob("*.md"))


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
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
