"""Which copies are detected, and which real slices wrongly: ``python -m benchmarks.near_duplicates``.

Real slices are changed in each of the ways in which a copy may differ from its original, and searched for
among all of them by the search of ``lungforge evaluate``. Unchanged, each is searched for among the slices of
other scans: what is taken for a near-duplicate there is a false alarm. The threshold lies between the two.
"""

import argparse
import dataclasses
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import ray
from PIL import Image
from scipy import ndimage

from benchmarks.planted_faults import Slice, moved
from lungforge.ct.io.patient_table import scan_of
from lungforge.ct.window import hu_to_uint8
from lungforge.datasets import Dataset, Kind
from lungforge.datasets.patches import Cut, patch_at, patch_corner
from lungforge.datasets.slices import SliceRow
from lungforge.errors import InputError
from lungforge.metrics.near_duplicates import MIN_CORRELATION, thumbnails
from lungforge.metrics.patch_search import cells
from lungforge.randomness import numpy_generator
from services.common.ray_session import ray_session
from services.eval.copy_search import NOBODY, most_like
from services.eval.downstream.examples import read_rows
from services.eval.records import RealPool

#: Slices that a task looks for at a time.
_BATCH: Final = 32


def noisy(hu: Slice, generator: np.random.Generator) -> Slice:
    """With noise of 20 HU."""
    return hu + generator.normal(scale=20.0, size=hu.shape).astype(np.float32)


def halved(hu: Slice, down: Image.Resampling, up: Image.Resampling) -> Slice:
    """At half its size, brought back."""
    height, width = hu.shape
    small = Image.fromarray(hu).resize((width // 2, height // 2), down)
    return np.asarray(small.resize((width, height), up))


#: In which ways a copy differs from its original: HU ``[H, W]`` in, HU out.
KINDS: Final[dict[str, Callable[[Slice, np.random.Generator], Slice]]] = {
    "as it is": lambda hu, _: hu,
    "mirrored": lambda hu, _: hu[:, ::-1],
    "shifted by half a pixel": lambda hu, _: moved(hu, down=0.5, right=0.5),
    "shifted by 1 px": lambda hu, _: moved(hu, down=1, right=-1),
    "shifted by 3 px": lambda hu, _: moved(hu, down=-3, right=3),
    "turned by 2 degrees": lambda hu, _: moved(hu, degrees=2),
    "zoomed by +3 %": lambda hu, _: moved(hu, zoom=1.03),
    "zoomed by -3 %": lambda hu, _: moved(hu, zoom=0.97),
    "noise of 20 HU": noisy,
    "50 HU brighter": lambda hu, _: hu + 50,
    "50 HU darker": lambda hu, _: hu - 50,
    "contrast 0.8": lambda hu, _: hu * 0.8,
    "halved, enlarged (bicubic)": lambda hu, _: halved(
        hu, Image.Resampling.BICUBIC, Image.Resampling.BICUBIC
    ),
    "halved, enlarged (nearest)": lambda hu, _: halved(
        hu, Image.Resampling.NEAREST, Image.Resampling.NEAREST
    ),
    "blurred 3x3": lambda hu, _: ndimage.uniform_filter(hu, 3),
    "mirrored, shifted by 2.5 px": lambda hu, _: moved(hu[:, ::-1], down=2.5, right=-2.5),
    "mirrored, turned, zoomed, shifted": lambda hu, _: moved(
        hu[:, ::-1], degrees=-2, zoom=1.03, down=2, right=-2
    ),
    "all of these": lambda hu, generator: noisy(
        halved(
            moved(hu[:, ::-1], degrees=2, zoom=0.97, down=3, right=3) + 50,
            Image.Resampling.BICUBIC,
            Image.Resampling.BICUBIC,
        ),
        generator,
    ),
}


def pool_of(rows: Sequence[SliceRow], cut: Cut | None) -> RealPool:
    """The slices as an evaluation keeps them, in Ray's object store."""
    grey = np.stack([hu_to_uint8(row.image) for row in rows])
    scans = [scan_of(row.series_uid) for row in rows]
    return RealPool(
        keys=tuple((row.series_uid, row.slice_index) for row in rows),
        patients=np.unique(np.asarray(scans), return_inverse=True)[1].astype(np.int64),
        thumbnails=thumbnails(grey) if cut is None else np.zeros((len(rows), 0), np.float32),
        rows=np.stack([np.zeros(len(rows), np.int64), np.arange(len(rows))], axis=1),
        cut=cut,
        images=(ray.put(np.stack([grey, np.stack([row.label for row in rows])], axis=1)),),
        cells=() if cut is None else (ray.put(cells(grey, cut.size)),),
    )


@ray.remote
def search(
    pool: RealPool, rows: Sequence[SliceRow], kind: str | None, patch: int | None
) -> list[tuple[bool, float]]:
    """Look for changed slices, or for those of None among the slices of others: is it one, and how like."""
    numbers = {key: int(number) for key, number in zip(pool.keys, pool.patients, strict=True)}
    greys, labels, patients = [], [], []
    for row in rows:
        generator = numpy_generator(0, "near-duplicates", row.series_uid, row.slice_index)
        hu = row.image.astype(np.float32)
        if kind is not None:
            hu = KINDS[kind](hu, generator)
        changed = dataclasses.replace(row, image=np.rint(hu).clip(-1024, 3071).astype(np.int16))
        if patch is not None:
            anywhere = dataclasses.replace(row, nodules=())
            changed = patch_at(changed, patch, patch_corner(anywhere, patch, generator))
        greys.append(hu_to_uint8(changed.image))
        labels.append(changed.label)
        patients.append(numbers[row.series_uid, row.slice_index] if kind is None else NOBODY)
    found = most_like(
        np.stack(greys),
        np.stack(labels),
        pool,
        sources=[None] * len(rows),
        patients=np.asarray(patients, dtype=np.int64),
    )
    return [(one[1].is_near_duplicate, one[1].correlation) for one in found if one is not None]


def evenly(rows: Sequence[SliceRow], count: int | None) -> list[SliceRow]:
    """So many of the slices, spread evenly; all for None, or where there are no more."""
    wanted = min(count or len(rows), len(rows))
    return [rows[place * len(rows) // wanted] for place in range(wanted)]


def measure(rows: Sequence[SliceRow], patch: int | None, queries: int | None = None) -> list[dict[str, Any]]:
    """A row for each kind of copy, and one for real slices of others.

    Args:
        rows: The slices that are searched.
        patch: Side of patches, in px; None for whole slices.
        queries: How many of them are looked for; None for all.
    """
    pool = ray.put(pool_of(rows, None if patch is None else Cut(patch, 0)))
    rows = evenly(rows, queries)
    results = []
    for kind in (*KINDS, None):
        start = time.monotonic()
        batches = [rows[first : first + _BATCH] for first in range(0, len(rows), _BATCH)]
        found = [
            one
            for each in ray.get([search.remote(pool, batch, kind, patch) for batch in batches])
            for one in each
        ]
        alike = [correlation for _, correlation in found]
        results.append(
            {
                "kind": kind or "real slices of other scans",
                "slices": len(found),
                "near_duplicates": sum(one for one, _ in found),
                "share": sum(one for one, _ in found) / len(found),
                "lowest_correlation": min(alike),
                "median_correlation": float(np.median(alike)),
                "highest_correlation": max(alike),
                "seconds_per_slice": (time.monotonic() - start) / len(found),
            }
        )
    return results


def main() -> int:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.near_duplicates", description=__doc__)
    parser.add_argument("--data", required=True, help="slices, as `lungforge preprocess` made them")
    parser.add_argument("--patch", type=int, help="patches of this many px; whole slices when not given")
    parser.add_argument("--slices", type=int, help="take so many slices, evenly; all when not given")
    parser.add_argument("--queries", type=int, help="look for so many of these, evenly; all when not given")
    parser.add_argument("--workers", type=int, default=2, help="slices at a time (default: 2)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    try:
        rows = list(read_rows(Dataset.open(arguments.data, Kind.SLICES), None))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    rows = evenly(rows, arguments.slices)
    with ray_session(arguments.workers):
        results = measure(rows, arguments.patch, arguments.queries)
    if arguments.json:
        print(json.dumps({"threshold": MIN_CORRELATION, "patch": arguments.patch, "rows": results}))
        return 0
    print(f"{len(rows)} slices; the threshold of a slice is {MIN_CORRELATION}, or higher near borders\n")
    print("| copies | near-duplicates | correlation: lowest | median | highest |")
    print("|---|---|---|---|---|")
    for row in results:
        print(
            f"| {row['kind']} | {row['near_duplicates']} of {row['slices']} ({row['share']:.2%}) | "
            f"{row['lowest_correlation']:.2f} | {row['median_correlation']:.2f} | "
            f"{row['highest_correlation']:.2f} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
