"""No page repeats a default: the tables of options are made from the configurations."""

import re

import pytest

from services.cli.commands import COMMANDS, load
from tests.docs.site import DOCS, pages, tool

hooks = tool("site")

#: Measurements say what was run, which no later default changes.
PAGES = [page for page in pages() if DOCS / "measurements" not in page.parents]
DEFAULTS = {
    option.name: option.default
    for command in COMMANDS.values()
    for option in hooks.options(load(command.config))
    if option.name.startswith("--") and option.default not in ("required", "–", "off", "0", "1")
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_page_repeats_a_default(page: object) -> None:
    text = re.sub(r"\s+", " ", page.read_text(encoding="utf-8"))  # type: ignore[attr-defined]
    for name, default in DEFAULTS.items():
        value = re.escape(default)
        for pattern in (
            rf"`{name}`[^.`|]{{0,40}}\({value}\)",  # `--seeds` networks (5)
            rf"`{name}(?: {value})?`[^.`|]{{0,40}}\bdefault\b[^.|]{{0,20}}",  # `--seeds` is by default 5
            rf"\bdefault\b[^.|]{{0,20}}`{name} {value}`",  # the default `--seeds 5`
        ):
            match = re.search(pattern, text)
            assert match is None, f"{match[0]!r}: leave it to the table of options"
