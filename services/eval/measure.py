"""The numbers of an evaluation, from what its parts gave: the document that becomes ``metrics.json``."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from lungforge.ct import classes
from lungforge.metrics.features import Description
from lungforge.metrics.frechet import frechet_distance_of_features
from lungforge.metrics.kid import kernel_distance, kernel_distance_over_subsets
from lungforge.metrics.map_agreement import STRUCTURES
from lungforge.metrics.precision_recall import FEWEST, NEIGHBOUR, precision, recall
from lungforge.metrics.real_baseline import FloorComparison, compare_with_floor
from lungforge.randomness import numpy_generator
from services.eval.numbers import rounded
from services.eval.records import Match, Measured

#: Near-copies that the document names.
_NAMED_TWINS = 50


def measure_set(
    name: str,
    real: Measured,
    synthetic: Measured,
    description: Description,
    matches: Sequence[Match],
    seed: int,
) -> dict[str, Any]:
    """All numbers of one set of synthetic slices, as JSON values.

    Args:
        name: What the report calls it; with the seed it decides the random halves and subsets.
        real: The real slices that are compared with.
        synthetic: The set.
        description: The extractor's.
        matches: For each synthetic slice, the real one most like it.
        seed: Of the job.
    """
    floors = {
        measure: compare_with_floor(
            real.features,
            real.scans,
            synthetic.features,
            distance,
            numpy_generator(seed, name, halves),
            fewest=fewest,
        )
        for measure, distance, halves, fewest in (
            ("frechet", frechet_distance_of_features, "frechet", 2),
            ("kernel", kernel_distance, "kernel", 2),
            ("precision", precision, "precision and recall", FEWEST),
            ("recall", recall, "precision and recall", FEWEST),
        )
    }
    kernel = kernel_distance_over_subsets(
        real.features, synthetic.features, numpy_generator(seed, name, "kernel subsets")
    )
    return {
        "name": name,
        "images": len(synthetic.features),
        "source_scans": len(set(synthetic.scans)),
        "frechet": {
            "name": description.distance_name,
            "value": rounded(frechet_distance_of_features(real.features, synthetic.features)),
            "real_images": len(real.features),
            "synthetic_images": len(synthetic.features),
            "at_equal_n": _floor(floors["frechet"]),
        },
        "kernel": {
            "name": f"Kernel distance, KID ({description.name})",
            **{key: rounded(value) for key, value in dataclasses.asdict(kernel).items()},
            "at_equal_n": _floor(floors["kernel"]),
        },
        "precision_recall": {
            "name": f"Improved precision and recall ({description.name})",
            "neighbour": NEIGHBOUR,
            "real_images": len(real.features),
            "synthetic_images": len(synthetic.features),
            "precision": _share(precision, real, synthetic, floors["precision"]),
            "recall": _share(recall, real, synthetic, floors["recall"]),
        },
        "hounsfield_units": hounsfield_table(real, synthetic),
        "nodule_contrast_hu": {
            "real": _spread(real.fidelity.contrasts),
            "synthetic": _spread(synthetic.fidelity.contrasts),
        },
        "twins": twins_document(matches),
    }


def hounsfield_table(real: Measured, synthetic: Measured) -> list[dict[str, Any]]:
    """A row a class: pixels, median and quartiles of HU, real and synthetic."""

    def side(measured: Measured, label: int) -> dict[str, Any]:
        histogram = measured.fidelity.histogram
        names = {"median": 0.5, "lower_quartile": 0.25, "upper_quartile": 0.75}
        return {
            "pixels": histogram.pixels(label),
            **{name: histogram.quantile(label, fraction) for name, fraction in names.items()},
        }

    return [
        {"class": name, "real": side(real, label), "synthetic": side(synthetic, label)}
        for label, name in enumerate(classes.NAMES)
    ]


def agreement_table(real: Measured, synthetic: Measured) -> list[dict[str, Any]]:
    """A row a structure: how what is found again in the slices overlaps the map, real and synthetic."""

    def side(values: Sequence[float]) -> dict[str, Any]:
        if not values:
            return {"images": 0, "median": None, "5_percent": None}
        low, median = (rounded(float(value)) for value in np.quantile(values, [0.05, 0.5]))
        return {"images": len(values), "median": median, "5_percent": low}

    return [
        {
            "structure": name,
            "real": side(real.fidelity.dice[name]),
            "synthetic": side(synthetic.fidelity.dice[name]),
        }
        for name in STRUCTURES
    ]


def twins_document(matches: Sequence[Match]) -> dict[str, Any]:
    """How many synthetic slices are near-copies, which, and how like real ones the others are."""
    copies = [match for match in matches if match.resemblance.is_near_copy]
    correlations = [match.resemblance.correlation for match in matches]
    return {
        "checked": len(matches),
        "near_copies": len(copies),
        "median_correlation": rounded(float(np.median(correlations))),
        "highest_correlation": rounded(max(correlations)),
        "named": [
            {
                "sample_id": match.sample_id,
                "series_uid": match.series_uid,
                "slice_index": match.slice_index,
                "own_source": match.own_source,
                "mean_error_grey_levels": rounded(match.resemblance.error_levels),
                "texture_correlation": rounded(match.resemblance.correlation),
                "real_slice": match.resemblance.view,
            }
            for match in copies[:_NAMED_TWINS]
        ],
    }


def _share(
    measure: Callable[[np.ndarray, np.ndarray], float],
    real: Measured,
    synthetic: Measured,
    floor: FloorComparison | None,
) -> dict[str, Any]:
    """Precision or recall over all images; None where a side has too few."""
    enough = min(len(real.features), len(synthetic.features)) >= FEWEST
    value = rounded(measure(real.features, synthetic.features)) if enough else None
    return {"value": value, "at_equal_n": _floor(floor)}


def _floor(comparison: FloorComparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    return {key: rounded(value) for key, value in dataclasses.asdict(comparison).items()}


def _spread(values: Sequence[float]) -> dict[str, Any]:
    if not values:
        return {"nodules": 0, "median": None, "lower_quartile": None, "upper_quartile": None}
    lower, median, upper = (rounded(float(value)) for value in np.percentile(values, [25, 50, 75]))
    return {"nodules": len(values), "median": median, "lower_quartile": lower, "upper_quartile": upper}
