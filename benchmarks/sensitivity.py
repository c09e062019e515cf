"""Which faults the measures see: ``python -m benchmarks.sensitivity --data URI --real SUBSETS [--json]``.

Real slices are divided at random into two sets of ``--images`` slices each, without a common scan: one stays
as it is, the other is offered as synthetic, with a fault planted in every slice of it, or with one slice in
twenty replaced by a near-duplicate of a slice of the first set. That is repeated, with other slices. The
power of a measure is the share of the repeats in which it raises an alarm:

- radiomic distance, KID and Hounsfield units by their permutation test, as in the report: p < 0.05;
- the other measures where they exceed what 95 % of another series of repeats without a fault gave;
- near-duplicates where there is one.

"untouched" offers real slices as they are: its alarms are false.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.planted_faults import COPIES, FAULTS
from benchmarks.planted_slices import MeasuredRows, measure_rows
from lungforge.ct.io.patient_table import scan_of
from lungforge.datasets import Dataset, Kind
from lungforge.datasets.slices import index_rows
from lungforge.errors import InputError
from lungforge.metrics.extractors import EFFICIENTNET_LITE0
from lungforge.metrics.frechet import frechet_distance_of_features
from lungforge.metrics.kid import kid_p_value
from lungforge.metrics.permutation import SIGNIFICANCE, ScanPermutations, mean_shift_p_values, permute_scans
from lungforge.metrics.precision_recall import precision, recall
from lungforge.metrics.radiomic_distance import radiomic_p_value, regions_in_both
from lungforge.metrics.real_baseline import halves_by_group
from lungforge.randomness import numpy_generator
from services.common.progress import progress

UNTOUCHED: Final = "untouched"
#: Permutations of each test here; the report's have more.
_PERMUTATIONS: Final = 199
#: Share of the offered slices that are replaced by copies.
_COPIES: Final = 0.05


@dataclass(frozen=True)
class Sets:
    """Two sets of real slices of different scans, by their rows; the second is offered as synthetic."""

    reference: NDArray[np.int64]
    offered: NDArray[np.int64]
    permutations: ScanPermutations


def draw_sets(scans: Sequence[str], images: int, generator: np.random.Generator) -> Sets:
    """Two random sets.

    Raises:
        InputError: There are too few slices.
    """
    halves = halves_by_group(scans, generator)
    if min(map(len, halves)) < images:
        raise InputError(
            f"--images is {images}, and half of the slices are {min(map(len, halves))}; give fewer, or more "
            "subsets"
        )
    reference, offered = (np.sort(generator.choice(half, images, replace=False)) for half in halves)
    one, other = ([scans[row] for row in rows] for rows in (reference, offered))
    permutations = permute_scans(one, other, generator, _PERMUTATIONS)
    if permutations is None:
        raise InputError("the slices are of too few scans; give more subsets")
    return Sets(reference, offered, permutations)


def plant(
    clean: MeasuredRows, faulty: MeasuredRows, sets: Sets, name: str, generator: np.random.Generator
) -> MeasuredRows:
    """What is measured of the offered slices: each with the fault, or a few replaced by copies of others."""
    if name not in COPIES:
        return faulty.take(sets.offered)
    count = max(1, round(_COPIES * len(sets.offered)))
    kept, copied = sets.offered[count:], generator.choice(sets.reference, count, replace=False)
    return faulty.take(copied).join(clean.take(kept))


def alarms(reference: MeasuredRows, offered: MeasuredRows, permutations: ScanPermutations) -> dict[str, bool]:
    """Which of the measures that need no threshold raise an alarm."""
    regions = regions_in_both(reference.radiomics, offered.radiomics)
    medians = mean_shift_p_values(reference.medians, offered.medians, permutations)
    radiomic = radiomic_p_value(reference.radiomics, offered.radiomics, regions, permutations)
    return {
        "radiomic distance": radiomic < SIGNIFICANCE,
        "KID": kid_p_value(reference.features, offered.features, permutations) < SIGNIFICANCE,
        "Hounsfield units": bool(np.nanmin(medians) < SIGNIFICANCE),
        "near-duplicates": bool(offered.copies.any()),
    }


def scores(reference: MeasuredRows, offered: MeasuredRows) -> dict[str, float]:
    """The measures that are compared with what they are without a fault; larger is worse."""
    contrasts = [np.nanmedian(side.contrasts) for side in (reference, offered)]
    return {
        "Fréchet distance": frechet_distance_of_features(reference.features, offered.features),
        "precision": -precision(reference.features, offered.features),
        "recall": -recall(reference.features, offered.features),
        "nodule contrast": abs(float(contrasts[1] - contrasts[0])),
    }


def powers(
    measured: dict[str, MeasuredRows], scans: Sequence[str], images: int, repeats: int, seed: int
) -> dict[str, dict[str, float]]:
    """For each fault the power of each measure.

    Args:
        measured: What is measured of all slices, for each fault and untouched.
        scans: Of the slices.
        images: In each set.
        repeats: How many draws for each fault, and for the thresholds.
        seed: Decides the sets.
    """
    clean = measured[UNTOUCHED]
    usual: dict[str, list[float]] = {}
    for repeat in range(repeats):
        sets = draw_sets(scans, images, numpy_generator(seed, "thresholds", repeat))
        for name, score in scores(clean.take(sets.reference), clean.take(sets.offered)).items():
            usual.setdefault(name, []).append(score)
    thresholds = {name: float(np.quantile(values, 1 - SIGNIFICANCE)) for name, values in usual.items()}
    counts: dict[str, dict[str, int]] = {fault: {} for fault in measured}
    with progress("draws", repeats, unit="draws") as advance:
        for repeat in range(repeats):
            sets = draw_sets(scans, images, numpy_generator(seed, "draws", repeat))
            reference = clean.take(sets.reference)
            for fault, faulty in measured.items():
                offered = plant(clean, faulty, sets, fault, numpy_generator(seed, "copies", fault, repeat))
                raised = alarms(reference, offered, sets.permutations)
                raised |= {
                    name: score > thresholds[name] for name, score in scores(reference, offered).items()
                }
                for name, alarm in raised.items():
                    counts[fault][name] = counts[fault].get(name, 0) + alarm
            advance()
    return {
        fault: {name: count / repeats for name, count in of_fault.items()}
        for fault, of_fault in counts.items()
    }


def scans_a_side(scans: Sequence[str], images: int, repeats: int, seed: int) -> int:
    """Scans of the side with fewer, median over the draws of ``powers``."""
    counts = []
    for repeat in range(repeats):
        sets = draw_sets(scans, images, numpy_generator(seed, "draws", repeat))
        counts.append(min(len({scans[row] for row in rows}) for rows in (sets.reference, sets.offered)))
    return int(np.median(counts))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sensitivity", description=__doc__)
    parser.add_argument("--data", required=True, help="slices, as `lungforge preprocess` wrote them")
    parser.add_argument("--real", required=True, type=int, nargs="+", help="subsets of the slices to use")
    parser.add_argument("--images", type=int, default=100, help="in each set (default: 100)")
    parser.add_argument("--repeats", type=int, default=100, help="draws of the sets (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="decides the sets and the noise (default: 0)")
    parser.add_argument("--features", help="folder or URI where features are kept for the next run")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    try:
        index = index_rows(Dataset.open(arguments.data, Kind.SLICES), arguments.real)
        rows = index.read(range(len(index)))
        scans = [scan_of(row.series_uid) for row in rows]
        draw_sets(scans, arguments.images, numpy_generator(arguments.seed, "thresholds", 0))
        measured = measure_rows(
            rows, {UNTOUCHED: None, **FAULTS, **COPIES}, arguments.seed, arguments.features
        )
        found = powers(measured, scans, arguments.images, arguments.repeats, arguments.seed)
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    result = {
        "faults": found,
        "n": arguments.images,
        "scans": scans_a_side(scans, arguments.images, arguments.repeats, arguments.seed),
        "repeats": arguments.repeats,
        "seed": arguments.seed,
        "slices": len(rows),
        "all_scans": len(set(scans)),
        "subsets": arguments.real,
        "side_px": rows[0].image.shape[1],
        "extractor": EFFICIENTNET_LITE0,
    }
    if arguments.json:
        print(json.dumps(result, ensure_ascii=False))
        return 0
    names = list(found[UNTOUCHED])
    print(f"n = {arguments.images} a side of {len(rows)} slices, {arguments.repeats} repeats")
    print(f"| planted fault | {' | '.join(names)} |")
    print("|---|" + "---|" * len(names))
    for fault, of_fault in found.items():
        print(f"| {fault} | {' | '.join(f'{of_fault[name]:.2f}' for name in names)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
