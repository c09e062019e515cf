"""Samples of edited maps: ``python -m benchmarks.map_edit_samples --data URI --models URI ... --out FILE``.

Makes the second figure of ``docs/concepts/map-edits.md``: one slice, or a patch of it, with a column per edit
and a row per model; for diffusion models also a row with inpainting, where only the surroundings of the edit
are synthetic. Then it measures the seam of inpainting over the slices: the ratio of HU differences across the
border of the synthetic region to those beside it.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.map_edit_figure import edit, example
from lungforge.ct import classes
from lungforge.ct.edits import EDITS, EditedMap, edit_map, surroundings
from lungforge.ct.window import hu_to_uint8
from lungforge.datasets import Dataset, Kind
from lungforge.datasets.patches import cut_patch
from lungforge.datasets.slices import RowIndex, SliceRow, evenly, index_rows
from lungforge.errors import InputError
from lungforge.metrics.seam import seam_ratio
from lungforge.models.base import InpaintingSampler, SamplingOptions, SliceSampler
from lungforge.models.model_dataset import ModelDataset
from lungforge.randomness import numpy_generator
from lungforge.storage import write_bytes_atomic
from lungforge.visualisation.contact_sheets import (
    WINDOW_TEXT,
    Tile,
    contact_sheet,
    enlarge,
    png_bytes,
    render_map,
)
from services.common.progress import progress

FACTOR = 3
BATCH = 8
#: Maximum number of patches to try until every edit has room in one.
TRIES = 200


def load(uri: str) -> tuple[str, SliceSampler, int | None]:
    """Load a model: its name, its sampler with the model's defaults, and the side of its patches."""
    model = ModelDataset.open(uri)
    sampler = model.sampler(SamplingOptions(), torch.device("cpu"), classes=classes.COUNT)
    return model.dataset.uri.rsplit("/", 1)[-1], sampler, model.details.patch


def edited_example(index: RowIndex, patch: int | None) -> tuple[SliceRow, list[EditedMap]]:
    """The example slice or patch, and its edits.

    Raises:
        InputError: One of the edits has no room in it.
    """
    row = example(index)
    for seed in range(TRIES):
        place = row if patch is None else cut_patch(row, patch, numpy_generator(seed, "example"))
        try:
            return place, [edit(name, place, seed, index.diameters_mm) for name in EDITS]
        except InputError:
            continue
    raise InputError("not every edit has room in the example; try other --subsets")


def sample_edits(
    sampler: SliceSampler, row: SliceRow, edits: Sequence[EditedMap], inpaint: bool
) -> list[NDArray[np.int16]]:
    """Sample one image per edit, in HU, all from the same noise."""
    labels = np.stack([each.label for each in edits])
    identities = [("map edits",)] * len(edits)
    if not inpaint:
        return list(sampler.sample(labels, identities))
    assert isinstance(sampler, InpaintingSampler), "only diffusion models can inpaint"
    # Everything that differs from the original map is inpainted: inserted nodules, and those removed before.
    # Without an edit, nothing is inpainted.
    changes = [each.label != row.label for each in edits]
    masks = [surroundings(changed, row.spacing_mm) if changed.any() else changed for changed in changes]
    real = np.broadcast_to(row.image, labels.shape)
    return list(sampler.inpaint(labels, identities, real.copy(), np.stack(masks)))


def sheet(
    row: SliceRow, edits: Sequence[EditedMap], rows: Sequence[tuple[str, list[NDArray[np.int16]]]]
) -> bytes:
    """The figure as PNG: maps above, and one row of images per model or method."""

    def tile(picture: NDArray[np.uint8], caption: str) -> Tile:
        return Tile(enlarge(picture, FACTOR), caption)

    tiles = [[tile(render_map(each.label), "map") for each in edits]]
    tiles += [[tile(hu_to_uint8(image), name) for image in images] for name, images in rows]
    headings = ["insert (after remove)" if each.edit == "insert" else each.edit for each in edits]
    picture = contact_sheet(tiles, column_headings=headings, footer=WINDOW_TEXT, legend=True)
    source = f"LungForge synthetic slices from edited maps of {row.series_uid}, slice {row.slice_index}"
    return png_bytes(picture, {"Source": source})


def seams(
    sampler: InpaintingSampler, index: RowIndex, patch: int | None, images: int
) -> dict[str, list[float]]:
    """Seam ratios of removed nodules: inpainted, pasted from an unconstrained sample, and real."""
    ratios: dict[str, list[float]] = {"inpainted": [], "pasted": [], "real": []}
    chosen = evenly(len(index), images)
    with progress("seams", len(chosen), unit="images") as advance:
        for start in range(0, len(chosen), BATCH):
            batch = []
            for number, row in enumerate(index.read(chosen[start : start + BATCH]), start=start):
                generator = numpy_generator(0, "seams", number)
                row = row if patch is None else cut_patch(row, patch, generator)
                edited = edit_map(
                    "remove",
                    row.label,
                    row.nodules,
                    spacing_mm=row.spacing_mm,
                    generator=generator,
                    diameters_mm=index.diameters_mm,
                )
                if edited is not None:
                    batch.append((number, row, edited, surroundings(edited.changed, row.spacing_mm)))
            labels = np.stack([edited.label for _, _, edited, _ in batch])
            real = np.stack([row.image for _, row, _, _ in batch])
            masks = np.stack([mask for *_, mask in batch])
            identities = [("seams", number) for number, *_ in batch]
            inside = sampler.inpaint(labels, identities, real, masks)
            free = np.where(masks, sampler.sample(labels, identities), real)
            for name, pictures in zip(ratios, (inside, free, real), strict=True):
                ratios[name] += [seam_ratio(image, mask) for image, mask in zip(pictures, masks, strict=True)]
            advance(len(batch))
    return ratios


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.map_edit_samples", description=__doc__)
    parser.add_argument("--data", required=True, help="slices dataset of `lungforge preprocess`")
    parser.add_argument(
        "--models", nargs="+", required=True, help="models of the same image size, one row each"
    )
    parser.add_argument("--subsets", type=int, nargs="+", help="subsets of the slices; all by default")
    parser.add_argument("--out", required=True, help="PNG file")
    parser.add_argument(
        "--images", type=int, default=64, help="slices to measure seams on (default: 64); 0: none"
    )
    arguments = parser.parse_args()
    try:
        index = index_rows(Dataset.open(arguments.data, Kind.SLICES), arguments.subsets)
        models = [load(uri) for uri in arguments.models]
        patch = models[0][2]
        row, edits = edited_example(index, patch)
        rows = []
        for name, sampler, _ in models:
            rows.append((name, sample_edits(sampler, row, edits, False)))
            if isinstance(sampler, InpaintingSampler):
                rows.append((f"{name}, inpainted", sample_edits(sampler, row, edits, True)))
        write_bytes_atomic(arguments.out, sheet(row, edits, rows))
        for name, sampler, _ in models:
            if isinstance(sampler, InpaintingSampler) and arguments.images:
                _print_seams(name, seams(sampler, index, patch, arguments.images))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _print_seams(model: str, ratios: dict[str, list[float]]) -> None:
    for name, values in ratios.items():
        low, median, high = np.nanpercentile(values, [10, 50, 90])
        print(
            f"{model}, {name}: seam ratio mean {np.nanmean(values):.2f}, median {median:.2f}, "
            f"10 % to 90 % {low:.2f} to {high:.2f}, n = {len(values)}"
        )


if __name__ == "__main__":
    sys.exit(main())
