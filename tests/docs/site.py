"""The pages of the site in the order of its navigation, and the code in them."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FRONT = re.compile(r"\A---\n(.*?)^---$\n", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: What stands behind the fence; empty where nothing does.
        text: What is in it.
    """

    language: str
    text: str


def pages() -> list[Path]:
    """The pages of the site, in the order of its navigation."""

    def below(entry: Any) -> Iterator[Path]:
        if isinstance(entry, str):
            yield DOCS / entry
        else:
            for inner in entry.values() if isinstance(entry, dict) else entry:
                yield from below(inner)

    return list(below(yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]))


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of a page in some languages; in all when none is given."""
    found = [Block(*match) for match in _BLOCK.findall(page.read_text(encoding="utf-8"))]
    return [block for block in found if not languages or block.language in languages]


def front_matter(page: Path) -> dict[str, Any]:
    """What a page says of itself before it begins."""
    match = _FRONT.search(page.read_text(encoding="utf-8"))
    assert match is not None, page
    said: dict[str, Any] = yaml.safe_load(match[1])
    return said


def tool(name: str) -> ModuleType:
    """A module of the folder ``.ci``, which is no package."""
    spec = importlib.util.spec_from_file_location(f"ci_{name}", ROOT / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
