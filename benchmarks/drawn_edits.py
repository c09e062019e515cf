"""Edited maps drawn by models: ``python -m benchmarks.drawn_edits --data URI --models URI ... --out FILE``.

Draws the second picture of ``docs/map-edits.md``: one slice, or the patch of it that the models draw, with a
column for each edit and a row for each model; of diffusion models a second row, in which only what is around
the edit is drawn and the rest is the real slice. Then the seam of the latter is measured over the slices
of some subsets: how much larger the steps in HU are across the border of what was drawn than beside it.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import torch

from benchmarks.edit_pictures import edit, example
from lungforge.ct import classes
from lungforge.ct.edits import EDITS, EditedMap, edit_map
from lungforge.ct.window import hu_to_uint8
from lungforge.datasets import Dataset, Kind
from lungforge.datasets.patches import cut_patch
from lungforge.datasets.slices import RowIndex, SliceRow, index_rows
from lungforge.errors import InputError
from lungforge.metrics.seam import seam_ratio
from lungforge.models.base import InpaintingSampler, SamplingOptions, SliceSampler
from lungforge.models.model_dataset import ModelDataset
from lungforge.randomness import numpy_generator
from lungforge.storage import write_bytes_atomic
from lungforge.visualisation.contact_sheets import (
    WINDOW_WORDS,
    Picture,
    Tile,
    contact_sheet,
    enlarge,
    map_picture,
    png_bytes,
)
from services.common.progress import progress
from services.sample.worker import surroundings

FACTOR = 3
BATCH = 8
STEPS, GUIDANCE = 50, 1.5
#: Patches that are tried until every edit has room in one.
TRIES = 200


def load(uri: str) -> tuple[str, SliceSampler, int | None]:
    """A model's name, its sampler, and the side of its patches."""
    model = ModelDataset.open(uri)
    options = SamplingOptions("ancestral", STEPS, GUIDANCE)
    sampler = model.sampler(options, torch.device("cpu"), classes=classes.COUNT)
    return model.dataset.uri.rsplit("/", 1)[-1], sampler, model.details.patch


def edited_example(index: RowIndex, patch: int | None) -> tuple[SliceRow, list[EditedMap]]:
    """The slice or patch that is shown, and its edits.

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
    raise InputError("not every edit has room in the example; give other --subsets")


def sampled(
    sampler: SliceSampler, row: SliceRow, edits: Sequence[EditedMap], inpaint: bool
) -> list[np.ndarray]:
    """An image of each edit, HU; all start from the same noise."""
    labels = np.stack([each.label for each in edits])
    identities = [("drawn edits",)] * len(edits)
    if not inpaint:
        return list(sampler.sample(labels, identities))
    assert isinstance(sampler, InpaintingSampler), "only diffusion models inpaint"
    # All that differs from the slice's own map is drawn: where a nodule is put in, and where one was taken
    # out before. Where nothing was edited, nothing is drawn.
    changes = [each.label != row.label for each in edits]
    masks = [surroundings(changed, row.spacing_mm) if changed.any() else changed for changed in changes]
    real = np.broadcast_to(row.image, labels.shape)
    return list(sampler.inpaint(labels, identities, real.copy(), np.stack(masks)))


def sheet(row: SliceRow, edits: Sequence[EditedMap], rows: Sequence[tuple[str, list[np.ndarray]]]) -> bytes:
    """The picture as PNG: maps above, a row of images for each way to draw."""

    def tile(picture: Picture, caption: str) -> Tile:
        return Tile(enlarge(picture, FACTOR), caption)

    tiles = [[tile(map_picture(each.label), "map") for each in edits]]
    tiles += [[tile(hu_to_uint8(image), name) for image in images] for name, images in rows]
    headings = ["insert (after remove)" if each.edit == "insert" else each.edit for each in edits]
    picture = contact_sheet(tiles, column_headings=headings, footer=WINDOW_WORDS, legend=True)
    source = f"LungForge synthetic slices from edited maps of {row.series_uid}, slice {row.slice_index}"
    return png_bytes(picture, {"Source": source})


def seams(
    sampler: InpaintingSampler, index: RowIndex, patch: int | None, images: int
) -> dict[str, list[float]]:
    """Seam ratios of nodules taken out: inpainted, pasted from a free drawing, and of the real slice."""
    found: dict[str, list[float]] = {"inpainted": [], "pasted": [], "real, nothing drawn": []}
    chosen = np.linspace(0, len(index) - 1, min(images, len(index))).round().astype(int)
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
            for name, pictures in zip(found, (inside, free, real), strict=True):
                found[name] += [seam_ratio(image, mask) for image, mask in zip(pictures, masks, strict=True)]
            advance(len(batch))
    return found


def main() -> int:
    """Draw the picture, measure the seams, and print them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.drawn_edits", description=__doc__)
    parser.add_argument("--data", required=True, help="slices, as `lungforge preprocess` made them")
    parser.add_argument("--models", nargs="+", required=True, help="models of one size, a row each")
    parser.add_argument("--subsets", type=int, nargs="+", help="of the slices; all when not given")
    parser.add_argument("--out", required=True, help="the PNG file")
    parser.add_argument(
        "--images", type=int, default=64, help="slices whose seams are measured (default: 64); 0: none"
    )
    arguments = parser.parse_args()
    try:
        index = index_rows(Dataset.open(arguments.data, Kind.SLICES), arguments.subsets)
        models = [load(uri) for uri in arguments.models]
        patch = models[0][2]
        row, edits = edited_example(index, patch)
        rows = []
        for name, sampler, _ in models:
            rows.append((name, sampled(sampler, row, edits, False)))
            if isinstance(sampler, InpaintingSampler):
                rows.append((f"{name}, inpainted", sampled(sampler, row, edits, True)))
        write_bytes_atomic(arguments.out, sheet(row, edits, rows))
        for name, sampler, _ in models:
            if isinstance(sampler, InpaintingSampler) and arguments.images:
                _print_seams(name, seams(sampler, index, patch, arguments.images))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _print_seams(model: str, found: dict[str, list[float]]) -> None:
    for name, values in found.items():
        low, median, high = np.nanpercentile(values, [10, 50, 90])
        print(
            f"{model}, {name}: seam ratio mean {np.nanmean(values):.2f}, median {median:.2f}, "
            f"10 % to 90 % {low:.2f} to {high:.2f}, n = {len(values)}"
        )


if __name__ == "__main__":
    sys.exit(main())
