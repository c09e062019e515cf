"""What ``lungforge show`` prints for people: a summary that fits a screen of 80 columns and 24 lines."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lungforge.models.model_dataset import ModelDetails
from services.cli.results import printable

#: Columns and lines of the smallest terminal that a summary fits.
WIDTH = 80
LINES = 21
_INDENT = 11
#: Lines that one entry takes, at most, before the others have had theirs.
_ENTRY_LINES = 2
_MORE = " ..."

#: What an entry is called, and its lines.
Entry = tuple[str, Sequence[str]]


def summary(entries: Iterable[Entry]) -> str:
    """Entries as text: the last ones shortened where there would be more lines than a screen has."""
    kept = [(name, list(filter(None, lines))) for name, lines in entries]
    blocks = [_block(name, lines) for name, lines in kept if lines]
    spare = LINES - sum(min(len(block), _ENTRY_LINES) for block in blocks)
    lines: list[str] = []
    for block in blocks:
        room = min(len(block), _ENTRY_LINES)
        extra = max(0, min(len(block) - room, spare))
        spare -= extra
        shown = block[: room + extra]
        if len(shown) < len(block):
            shown[-1] = f"{shown[-1][: WIDTH - len(_MORE)]}{_MORE}"
        lines += shown
    if any(line.endswith(_MORE) for line in lines):
        lines.append("--json prints all of it.")
    return "\n".join(lines)


def slices(details: Mapping[str, Any]) -> list[str]:
    """What a preprocessed dataset says of its subsets, and of what is not in it."""
    subsets = details.get("subsets")
    lines = []
    if isinstance(subsets, Mapping):
        lines = [
            f"subset {name}: {_count(each, 'volumes')}, {_count(each, 'slices')}, {_count(each, 'nodules')}"
            for name, each in subsets.items()
            if isinstance(each, Mapping)
        ]
    for name in ("rejected", "annotations_outside"):
        if isinstance(details.get(name), list) and details[name]:
            lines.append(f"{name.replace('_', ' ')}: {len(details[name])}")
    return lines


def samples(config: Mapping[str, Any], details: Mapping[str, Any]) -> list[str]:
    """How samples were made."""
    edits = config.get("edits")
    names = (
        [str(edit[0]) for edit in edits if isinstance(edit, list) and edit] if isinstance(edits, list) else []
    )
    left_out = details.get("left_out") or 0
    return [
        f"from {details.get('maps')} maps; sampler {config.get('sampler')}, {config.get('steps')} steps, "
        f"guidance {config.get('guidance')}; edits: {' '.join(names) or 'none'}",
        f"{left_out} left out, as their edit had no room" if left_out else "",
    ]


def model(
    details: ModelDetails, config: Mapping[str, Any], parameters: int | None, minutes: float | None
) -> list[Entry]:
    """What a model is, how it was trained, and how far off its images are."""
    images = "whole slices" if details.patch is None else "patches"
    network = [f"{details.model}, {images} of {details.size} px"]
    if parameters is not None:
        network.append(f"{parameters:,} parameters")
    trained = []
    if details.steps:
        took = "" if minutes is None else f" in {minutes:,.0f} min"
        trained.append(f"{details.steps:,} steps of {config.get('batch')} images{took}")
    if details.rows:
        subsets = details.subsets
        of = "all subsets" if subsets is None else f"subsets {' '.join(map(str, subsets))}"
        trained.append(f"on {details.rows:,} slices of {len(details.series_uids or ())} scans, {of}")
    if details.imported_from:
        trained.append(f"imported from {details.imported_from}")
    metrics = dict(details.final_metrics or {})
    errors = [
        f"{metrics.pop(name):.0f} HU at {band} noise"
        for band in ("low", "middle", "high")
        if (name := f"error_{band}_noise_hu") in metrics
    ]
    return [
        ("network", [", ".join(network)]),
        ("trained", ["; ".join(trained)]),
        ("error", [f"{', '.join(errors)}, of the image at the end of training" if errors else ""]),
        ("measures", [", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in metrics.items())]),
    ]


def options(config: Mapping[str, Any], prefix: str = "") -> list[str]:
    """The options that decided the content, those that were left open aside."""
    words = []
    for name, value in config.items():
        if isinstance(value, Mapping):
            words += options(value, f"{prefix}{name}.")
        elif value is not None and value is not False:
            words.append(f"{prefix}{name} {_value(value)}")
    return words if prefix else [", ".join(words)]


def _value(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(map(_value, value))
    return "yes" if value is True else str(value)


def _count(counts: Mapping[str, Any], name: str) -> str:
    count = counts.get(name, 0)
    return f"{count:,} {name}" if isinstance(count, int) else f"? {name}"


def _block(name: str, lines: Sequence[str]) -> list[str]:
    block: list[str] = []
    for line in lines:
        indent = " " * (_INDENT + len(line) - len(line.lstrip()))
        block += textwrap.wrap(
            printable(line.lstrip()),
            WIDTH,
            initial_indent=indent,
            subsequent_indent=indent + "  ",
            break_on_hyphens=False,
        )
    block[0] = name.ljust(_INDENT) + block[0][_INDENT:]
    return block
