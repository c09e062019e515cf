"""``lungforge show``: what a dataset is, what it was made from, and what its pictures look like."""

import dataclasses
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import tyro

from lungforge.ct.window import hu_to_uint8
from lungforge.datasets import Dataset, Kind, rows_from_table
from lungforge.errors import InputError
from lungforge.storage import StoreError, write_bytes_atomic
from lungforge.visualisation.contact_sheets import (
    WINDOW_WORDS,
    Tile,
    contact_sheet,
    enlarge,
    map_picture,
    overlay_picture,
    png_bytes,
)


@dataclasses.dataclass(frozen=True)
class ShowConfig:
    """Say what a dataset is and what it was made from; draw a contact sheet."""

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="URI")]
    """URI or folder of the dataset."""

    sheet: str | None = None
    """Write a contact sheet to this PNG file: CT, map, and the nodules outlined on the lungs; of a model, the
    curves of its training."""

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
        write_bytes_atomic(config.sheet, curves(dataset) or sheet(dataset, config.rows))
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


def curves(dataset: Dataset) -> bytes | None:
    """A PNG of the losses over the steps of a model's training; None where the dataset is no such model."""
    from lungforge.models.model_dataset import ModelDetails, read_history  # late: it loads PyTorch

    history = read_history(dataset)
    if history is None:
        return None
    from lungforge.visualisation.training_curves import draw_curves  # late: it loads matplotlib

    details = ModelDetails.of(dataset.manifest)
    return draw_curves(history, f"{details.model}, {details.rows} slices")


def sheet(dataset: Dataset, count: int) -> bytes:
    """A PNG of some rows, spread evenly over the dataset.

    Slices and samples are shown as CT, map, and CT with the outlines of lungs and nodules; crops as they are.

    Raises:
        InputError: The dataset has no pictures.
    """
    kind = Kind(dataset.manifest.kind)
    if kind not in (Kind.SLICES, Kind.SAMPLES, Kind.CROPS) or dataset.rows == 0:
        raise InputError(
            f"{dataset.uri}: a {kind.value} dataset of {dataset.rows} rows has no pictures to draw"
        )
    text = {"Source": f"LungForge {kind.value}, manifest sha256 {dataset.manifest_sha256}"}
    rows = [dataset_row(dataset, number) for number in spread(dataset.rows, count)]
    if kind is Kind.CROPS:
        tiles = [Tile(hu_to_uint8(row["image"]), "nodule" if row["label"] else "no nodule") for row in rows]
        lines = [tiles[start : start + 6] for start in range(0, len(tiles), 6)]
        return png_bytes(contact_sheet(lines, footer=WINDOW_WORDS, tile_px=160), text)
    picture = contact_sheet(
        [_tiles(kind, row) for row in rows],
        column_headings=("synthetic CT" if kind is Kind.SAMPLES else "CT", "map", "outlines"),
        footer=WINDOW_WORDS,
        legend=True,
    )
    return png_bytes(picture, text)


def _tiles(kind: Kind, row: dict[str, Any]) -> list[Tile]:
    hu, label = row["image"], row["label"]
    factor = max(1, 256 // max(hu.shape))
    if kind is Kind.SAMPLES:
        caption = f"sample {row['sample_id']}"
    else:
        caption = f"...{row['series_uid'][-12:]}, slice {row['slice_index']}, subset {row['subset']}"
    sizes = ", ".join(f"{nodule['diameter_mm']:.1f} mm" for nodule in row["nodules"])
    return [
        Tile(enlarge(hu_to_uint8(hu), factor), caption),
        Tile(enlarge(map_picture(label), factor), f"nodules: {sizes}" if sizes else "no nodule"),
        Tile(overlay_picture(hu, label, row["nodules"], factor=factor)),
    ]


def spread(rows: int, count: int) -> list[int]:
    """At most ``count`` row numbers from 0 to ``rows`` - 1, spread evenly."""
    return sorted({int(number) for number in np.linspace(0, rows - 1, min(count, rows)).round()})


def dataset_row(dataset: Dataset, number: int) -> dict[str, Any]:
    """One row of a dataset by its number, in the order of the manifest; pictures as arrays."""
    for part in dataset.manifest.parts:
        if number < part.rows:
            return rows_from_table(dataset.read_part(part).slice(number, 1))[0]
        number -= part.rows
    raise IndexError(number)
