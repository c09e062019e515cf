"""How far apart slices of a scan stop being near-duplicates: ``python -m benchmarks.neighbouring_slices``.

Every slice is compared with every other one of its scan by the rule of ``lungforge evaluate``, and the pairs
are counted by the distance between them.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import combinations
from typing import Final

import numpy as np

from lungforge.ct.io.patient_table import scan_of
from lungforge.ct.window import hu_to_uint8
from lungforge.datasets import Dataset, Kind
from lungforge.datasets.slices import SliceRow, index_rows
from lungforge.errors import InputError
from lungforge.metrics.near_duplicates import Query

#: Upper ends of the bands of distances, mm.
_BANDS_MM: Final = (1.0, 2.0, 3.0, 5.0, 10.0, 20.0)


def pairs(rows: Sequence[SliceRow], places_mm: Sequence[float]) -> list[tuple[float, bool, float]]:
    """Distance in mm of each pair of slices of a scan, whether they are near-duplicates, and correlation.

    Args:
        rows: Slices of any scans.
        places_mm: Where each is along its scan.
    """
    results = []
    for one, other in combinations(range(len(rows)), 2):
        first, second = rows[one], rows[other]
        apart = abs(places_mm[one] - places_mm[other])
        if scan_of(first.series_uid) != scan_of(second.series_uid) or not 0 < apart <= _BANDS_MM[-1]:
            continue
        query = Query.of(hu_to_uint8(first.image), first.label)
        _, alike = query.resemblance([query.whole(hu_to_uint8(second.image), second.label)])
        results.append((apart, alike.is_near_duplicate, alike.correlation))
    return results


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbouring_slices", description=__doc__)
    parser.add_argument("--data", required=True, help="slices, best of `lungforge preprocess --slices all`")
    arguments = parser.parse_args()
    try:
        dataset = Dataset.open(arguments.data, Kind.SLICES)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    index = index_rows(dataset, None)
    rows = index.read(range(len(index)))
    places = [
        float(place)
        for part in dataset.parts
        for batch in dataset.iter_batches(part, columns=["z_mm"])
        for place in batch.column("z_mm").to_pylist()
    ]
    found = pairs(rows, places)
    print("| mm apart | pairs | near-duplicates | median correlation |")
    print("|---|---|---|---|")
    for low, high in zip((0.0, *_BANDS_MM), _BANDS_MM, strict=False):
        band = [(is_one, alike) for apart, is_one, alike in found if low < apart <= high]
        if band:
            median = np.median([alike for _, alike in band])
            print(f"| {low:g} to {high:g} | {len(band)} | {sum(one for one, _ in band)} | {median:.2f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
