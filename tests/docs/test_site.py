"""The site: built strictly, complete, with every option, and without anything from other servers."""

import dataclasses
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lungforge.models.registry import GENERATORS, load_generator
from services.cli.commands import COMMANDS, load
from tests.docs.site import DOCS, ROOT, pages, tool

hooks = tool("site")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


class _Loaded(HTMLParser):
    """What a browser loads to show a page: scripts, styles, fonts and images, but no links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        name = "href" if tag == "link" and given.get("rel") != "canonical" else "src"
        self.addresses.append(given.get(name) or "")


@pytest.mark.slow
def test_the_site_is_built_and_loads_nothing_from_elsewhere(site: Path) -> None:
    built = sorted(site.rglob("*.html"))
    expected = {page.relative_to(DOCS).with_suffix(".html") for page in pages()}
    assert {page.relative_to(site) for page in built} == expected | {Path("404.html")}
    for page in built:
        loaded = [address for address in _Loaded(page.read_text(encoding="utf-8")).addresses if address]
        assert loaded
        assert not [address for address in loaded if re.match(r"(https?:)?//", address)], page
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text(encoding="utf-8")), style


@pytest.mark.slow
def test_every_command_has_its_options_on_the_site(site: Path) -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in site.rglob("*.html"))
    assert "condition-dropout" in (site / "search" / "search_index.json").read_text(encoding="utf-8")
    assert "<!-- options" not in text
    assert "<!-- presets" not in text
    for command in COMMANDS.values():
        for field in dataclasses.fields(load(command.config)):
            if field.default_factory is dataclasses.MISSING:
                name = field.name.replace("_", "-")
                assert f"<code>--{name}</code>" in text or f"<code>{field.name.upper()}</code>" in text, name
    for model in GENERATORS:
        for field in dataclasses.fields(load_generator(model).network_options):
            assert f"<code>--network.{field.name.replace('_', '-')}</code>" in text


def test_every_command_is_asked_for_once() -> None:
    asked = [
        command
        for page in pages()
        for command in re.findall(r"^<!-- options: ([a-z-]+) -->$", page.read_text("utf-8"), re.MULTILINE)
    ]
    assert sorted(asked) == sorted(COMMANDS)


def test_options_are_those_of_the_configuration() -> None:
    lines = {
        line.split(" | ")[0].removeprefix("| "): line for line in hooks.options_of("preprocess").splitlines()
    }
    assert lines["`--size`"] == (
        "| `--size` | Rows and columns of the images, in pixels; None keeps those of the scans. "
        "| whole number, from 16 to 4096 | 256 |"
    )
    assert lines["`--slices`"].removesuffix(" |").split(" | ")[2:] == [
        "nodule-centres, nodules, all",
        "nodule-centres",
    ]
    assert lines["`--source`"].removesuffix(" |").split(" | ")[2:] == ["text", "required"]
    assert lines["`--crops`"].removesuffix(" |").split(" | ")[2:] == ["switch", "off"]
    assert lines["`--subsets`"].removesuffix(" |").split(" | ")[2:] == [
        "one or more: whole number, from 0 to 9",
        "–",
    ]
    assert "| `DATA` | URI or folder of the dataset. | text | required |" in hooks.options_of("show")


def test_presets_stand_beside_one_another() -> None:
    text = hooks.options_of("train")
    (header,) = re.findall(r"^\| option \| (?!what).*luna512-patch \|$", text, re.MULTILINE)
    columns = [cell.strip() for cell in header.strip("|").split("|")]
    (steps,) = (line for line in text.splitlines() if re.match(r"\| `--steps` \| \d", line))
    values = dict(zip(columns, (cell.strip() for cell in steps.strip("|").split("|")), strict=True))
    assert (values["tiny"], values["cpu"], values["luna256"]) == ("300", "3000", "80000")
    assert text.count("`--network.base-channels`") == len(GENERATORS)


def test_presets_say_what_they_are_for() -> None:
    text = hooks.presets_of("train")
    assert "| `cpu` | About an hour on two cores, at 64 px. |" in text
    assert text.count("\n") == 1 + sum(name is not None for name in load(COMMANDS["train"].presets or ""))


def test_links_to_code_are_names_on_the_site() -> None:
    page = type("Page", (), {"file": type("File", (), {"src_uri": "reference/evaluate.md"})})
    text = "see [`kid.py`](../../lungforge/metrics/kid.py), [show](show.md) and [data](../how-to/data.md)"
    assert hooks.on_page_markdown(text, page) == "see `kid.py`, [show](show.md) and [data](../how-to/data.md)"
