"""``lungforge show``: what a dataset is, what it was made from, and what its pictures look like."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from lungforge.errors import InputError
from lungforge.store import Dataset, Kind, Parent, StoreError


@dataclasses.dataclass(frozen=True)
class ShowConfig:
    """Say what a dataset is and what it was made from; draw a contact sheet."""

    data: str
    """The dataset."""

    sheet: str | None = None
    """Write a contact sheet to this PNG file: CT, map, and the nodules outlined on the lungs."""

    rows: int = 6
    """Rows of the dataset on the contact sheet, spread evenly over it."""

    verify: bool = False
    """Read every part and check its sha256."""

    def __post_init__(self) -> None:
        if not 1 <= self.rows <= 100:
            raise InputError(f"--rows is {self.rows}; choose from 1 to 100")


@dataclasses.dataclass(frozen=True)
class ShowResult:
    """What a dataset is.

    Attributes:
        dataset: Its URI.
        kind: slices, crops, samples, model or report.
        rows: Rows of all parts.
        parts: Number of part files.
        megabytes: Their size.
        manifest_sha256: Checksum of the manifest: what descendants name it by.
        made_by: Version of LungForge.
        config: The job's configuration.
        details: What the job wrote down beside it.
        lineage: The datasets it was made from, theirs below them and further in.
        verified: Whether every part was read and has its checksum.
        sheet: The contact sheet, when one was drawn.
    """

    dataset: str
    kind: str
    rows: int
    parts: int
    megabytes: float
    manifest_sha256: str
    made_by: str
    config: dict[str, Any]
    details: dict[str, Any]
    lineage: tuple[str, ...]
    verified: bool
    sheet: str | None


def run(config: ShowConfig) -> ShowResult:
    """Describe the dataset; draw its contact sheet when asked to.

    Raises:
        InputError: There is no such dataset, it fails verification, or it has no pictures to draw.
    """
    dataset = Dataset.open(config.data)
    if config.verify:
        dataset.verify()
    if config.sheet:
        _draw(dataset, config.sheet, config.rows)
    manifest = dataset.manifest
    return ShowResult(
        dataset=config.data,
        kind=Kind(manifest.kind).value,
        rows=dataset.rows,
        parts=len(manifest.parts),
        megabytes=round(sum(part.bytes for part in manifest.parts) / 1e6, 1),
        manifest_sha256=dataset.manifest_sha256,
        made_by=f"LungForge {manifest.code_version}",
        config=manifest.config,
        details=manifest.details,
        lineage=tuple(lineage(dataset)),
        verified=config.verify,
        sheet=config.sheet,
    )


def lineage(dataset: Dataset, depth: int = 0) -> Iterator[str]:
    """A line for each ancestor, children before their own parents, two spaces further in a generation.

    A line says so when the ancestor is gone, or is no longer what the dataset was made from.
    """
    for parent in dataset.manifest.parents:
        line = f"{'  ' * depth}{Kind(parent.kind).value} {parent.uri} (sha256 {parent.sha256[:12]})"
        try:
            ancestor = Dataset.open(parent.uri)
        except (StoreError, OSError):
            yield f"{line}: not to be reached from here"
            continue
        if ancestor.manifest_sha256 != parent.sha256:
            yield f"{line}: CHANGED since, its manifest is now {ancestor.manifest_sha256[:12]}"
            continue
        yield line
        yield from lineage(ancestor, depth + 1)
