"""``lungforge show``: a dataset's manifest and lineage, and a contact sheet."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import tyro

from lungforge.config import between, check
from lungforge.ct.window import hu_to_uint8
from lungforge.datasets import Dataset, Kind, rows_from_table
from lungforge.datasets.lineage import Ancestor, Finding, ancestors
from lungforge.datasets.strict_json import parse_json
from lungforge.errors import AccessError, ContentError, InputError
from lungforge.models.model_dataset import ModelDetails, read_history
from lungforge.storage import join_uri, write_bytes_atomic
from lungforge.storage.reading import read_range
from lungforge.visualisation.contact_sheets import WINDOW_TEXT, Tile, contact_sheet, png_bytes
from lungforge.visualisation.training_curves import plot_curves
from services.common.training_time import read_training_seconds
from services.eval.results import EvaluationReport
from services.tools import show_text
from services.tools.slice_sheet import slice_sheet

#: The longest head of a weights file that is read, in bytes: of tens of thousands of tensors.
_LONGEST_HEAD = 10 * 2**20


@dataclasses.dataclass(frozen=True)
class ShowConfig:
    """Show a dataset's manifest and lineage; write a contact sheet."""

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="URI")]
    """URI or folder of the dataset."""

    sheet: str | None = None
    """Write a contact sheet to this PNG file: CT in two windows, map, and CT with outlines; for a model, its
    training curves."""

    rows: int = dataclasses.field(default=6, metadata=between(1, 100))
    """Number of rows on the contact sheet, evenly spaced over the dataset."""

    verify: bool = False
    """Read every part and check its sha256."""

    def __post_init__(self) -> None:
        check(self)


@dataclasses.dataclass(frozen=True)
class ShowResult:
    """Description of a dataset.

    Attributes:
        dataset: URI.
        kind: slices, crops, samples, model or report.
        rows: Number of rows in all parts.
        parts: Number of part files.
        megabytes: Size of all parts.
        manifest_sha256: Checksum of the manifest, by which descendants refer to the dataset.
        made_by: Version of LungForge.
        config: Configuration of the job.
        details: Further details recorded by the job.
        verdict: Of a report: the sentence and the judgements on each set, and the results in sentences.
        lineage: The ancestors, indented by generation.
        verified: Whether every part was read and matches its checksum.
        sheet: Path of the contact sheet, if one was written.
        parameters: Of a model: how many its network has; None where its weights do not tell.
        training_minutes: Of a model: how long its training took; None where that was not recorded.
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
    verdict: tuple[str, ...]
    lineage: tuple[str, ...]
    verified: bool
    sheet: str | None
    parameters: int | None = None
    training_minutes: float | None = None

    @property
    def text(self) -> str:
        """A summary that fits a screen."""
        size = f"{self.rows:,} rows" if self.rows else ""
        files = f"{self.parts} {'file' if self.parts == 1 else 'files'}, {self.megabytes:g} MB"
        entries: list[show_text.Entry] = [
            (self.kind, [self.dataset]),
            ("size", [", ".join(filter(None, [size, files]))]),
        ]
        match self.kind:
            case Kind.SLICES | Kind.CROPS:
                entries.append(("contents", show_text.slices(self.details)))
            case Kind.SAMPLES:
                entries.append(("sampled", show_text.samples(self.config, self.details)))
            case Kind.MODEL:
                with contextlib.suppress(ContentError):  # the rest can be shown all the same
                    details = ModelDetails.of_json(self.details)
                    entries += show_text.model(details, self.config, self.parameters, self.training_minutes)
            case Kind.REPORT:
                entries.append(("verdict", self.verdict))
        entries += [
            ("options", show_text.options(self.config)),
            ("made by", [self.made_by]),
            ("sha256", [self.manifest_sha256, "every file verified" if self.verified else ""]),
            ("made from", self.lineage),
            ("sheet", [self.sheet or ""]),
        ]
        return show_text.summary(entries)


def run(config: ShowConfig) -> ShowResult:
    """Describe the dataset, and write its contact sheet if requested.

    Raises:
        InputError: There is no such dataset, it fails verification, or it has no images.
    """
    dataset = Dataset.open(config.data)
    if config.verify:
        dataset.verify()
    if config.sheet:
        write_bytes_atomic(config.sheet, curves(dataset) or sheet(dataset, config.rows))
    manifest = dataset.manifest
    return ShowResult(
        dataset=config.data,
        kind=Kind(manifest.kind).value,
        rows=dataset.rows,
        parts=len(manifest.parts),
        megabytes=round(manifest.nbytes / 1e6, 1),
        manifest_sha256=dataset.manifest_sha256,
        made_by=f"LungForge {manifest.code_version}",
        config=manifest.config,
        details=manifest.details,
        verdict=tuple(verdict(dataset)),
        lineage=tuple(lineage(dataset)),
        verified=config.verify,
        sheet=config.sheet,
        parameters=parameters(dataset),
        training_minutes=training_minutes(dataset),
    )


def parameters(dataset: Dataset) -> int | None:
    """How many numbers the weights of a model hold, by the head of their file; None of another dataset.

    A safetensors file begins with the length of its head, eight bytes, and the head, which is JSON.
    """
    part = next((part for part in dataset.parts if part.name == "model.safetensors"), None)
    if dataset.manifest.kind is not Kind.MODEL or part is None:
        return None
    uri = join_uri(dataset.uri, part.path)
    try:
        length = int.from_bytes(read_range(uri, 0, 8), "little")
        if 8 + length > min(part.bytes, _LONGEST_HEAD):
            return None
        head = parse_json(read_range(uri, 8, 8 + length))
        return sum(math.prod(entry["shape"]) for name, entry in head.items() if name != "__metadata__")
    except (ValueError, KeyError, TypeError, AttributeError, AccessError):
        return None


def training_minutes(dataset: Dataset) -> float | None:
    """How long the training of a model took; None where that was not recorded."""
    seconds = None
    if dataset.manifest.kind is Kind.MODEL:
        seconds = read_training_seconds(dataset.uri)
    return None if seconds is None else round(seconds / 60, 1)


def verdict(dataset: Dataset) -> Iterator[str]:
    """The results of a report in lines; none of another dataset."""
    if dataset.manifest.kind is not Kind.REPORT:
        return
    report = EvaluationReport.from_json(dataset.read_file("metrics.json"))
    for results, headline in zip(report.sets, report.headlines, strict=True):
        yield f"{results.name}: {headline.sentence}"
        yield from (f"  {chip.name}: {chip.judgement} ({chip.value})" for chip in headline.chips)
    yield from report.verdict


def lineage(dataset: Dataset) -> Iterator[str]:
    """One line per ancestor, children before their parents, indented by two spaces per generation.

    Marked if the ancestor cannot be reached, or has changed since the dataset was made.
    """
    for ancestor in ancestors(dataset):
        parent = ancestor.parent
        name = f"{parent.kind.value} {parent.uri} (sha256 {parent.sha256[:12]})"
        yield f"{'  ' * ancestor.generation}{name}{_mark(ancestor)}"


def _mark(ancestor: Ancestor) -> str:
    match ancestor.finding:
        case Finding.SAME:
            return ""
        case Finding.CHANGED:
            return f": CHANGED since, its manifest is now {(ancestor.sha256 or '')[:12]}"
        case Finding.NOT_FOLLOWED:
            return ": not followed, for only local and S3 parents are, and those beside the dataset itself"
        case Finding.TOO_DEEP:
            return ": not followed further; no lineage of LungForge is so long"
        case _:
            return ": cannot be reached from here"


def curves(dataset: Dataset) -> bytes | None:
    """A PNG of the training curves of a model; None if the dataset is not a trained model."""
    history = read_history(dataset)
    if history is None:
        return None
    details = ModelDetails.of(dataset.manifest)
    return plot_curves(history, f"{details.model}, {details.rows} slices")


def sheet(dataset: Dataset, count: int) -> bytes:
    """A PNG of evenly spaced rows of the dataset.

    Slices and samples are shown upright, in the lung and the soft-tissue window, with map and outlines.

    Raises:
        InputError: The dataset has no images.
    """
    kind = Kind(dataset.manifest.kind)
    if kind not in (Kind.SLICES, Kind.SAMPLES, Kind.CROPS) or dataset.rows == 0:
        raise InputError(
            f"{dataset.uri}: a {kind.value} dataset of {dataset.rows} rows has no images to show"
        )
    text = {"Source": f"LungForge {kind.value}, manifest sha256 {dataset.manifest_sha256}"}
    rows = [dataset_row(dataset, index) for index in spread(dataset.rows, count)]
    if kind is Kind.CROPS:
        tiles = [Tile(hu_to_uint8(row["image"]), "nodule" if row["label"] else "no nodule") for row in rows]
        lines = [tiles[start : start + 6] for start in range(0, len(tiles), 6)]
        return png_bytes(contact_sheet(lines, footer=WINDOW_TEXT, tile_px=160), text)
    return png_bytes(slice_sheet(kind, rows), text)


def spread(rows: int, count: int) -> list[int]:
    """At most ``count`` evenly spaced row indices from 0 to ``rows`` - 1."""
    return sorted({int(index) for index in np.linspace(0, rows - 1, min(count, rows)).round()})


def dataset_row(dataset: Dataset, index: int) -> dict[str, Any]:
    """A row of a dataset by index, in the order of the manifest, with images as arrays."""
    for part in dataset.manifest.parts:
        if index < part.rows:
            return rows_from_table(dataset.read_part(part).slice(index, 1))[0]
        index -= part.rows
    raise IndexError(index)
