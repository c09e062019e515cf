"""The numbers of an evaluation, from what its parts gave: the document that becomes ``metrics.json``."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from lungforge.ct import classes
from lungforge.metrics.features import Description
from lungforge.metrics.floor import FloorComparison, compare_with_floor
from lungforge.metrics.frechet import frechet_distance_of_features
from lungforge.metrics.kernel import kernel_distance, kernel_distance_over_subsets
from lungforge.metrics.leakage import scan_of
from lungforge.randomness import numpy_generator
from services.eval.parts import Match, Measured

#: Below this many images on a side a Fréchet distance in 2,048 dimensions is mostly bias.
FEW_IMAGES = 2048
#: Digits that are kept; the further ones change with the order of additions.
_DIGITS = 6
#: Near-copies that the document names.
_NAMED_TWINS = 50
#: A synthetic mean within this many spreads of the floor counts as equal to it.
_SPREADS = 2.0


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
    scans = [scan_of(series) for series in real.scans]
    floors = {
        measure: compare_with_floor(
            real.features, scans, synthetic.features, distance, numpy_generator(seed, name, measure)
        )
        for measure, distance in (("frechet", frechet_distance_of_features), ("kernel", kernel_distance))
    }
    kernel = kernel_distance_over_subsets(
        real.features, synthetic.features, numpy_generator(seed, name, "kernel subsets")
    )
    return {
        "name": name,
        "images": len(synthetic.features),
        "source_scans": len({scan_of(series) for series in synthetic.scans}),
        "frechet": {
            "name": description.distance_name,
            "value": _rounded(frechet_distance_of_features(real.features, synthetic.features)),
            "real_images": len(real.features),
            "synthetic_images": len(synthetic.features),
            "at_equal_n": _floor(floors["frechet"]),
        },
        "kernel": {
            "name": f"Kernel distance, KID ({description.name})",
            **{key: _rounded(value) for key, value in dataclasses.asdict(kernel).items()},
            "at_equal_n": _floor(floors["kernel"]),
        },
        "hounsfield_units": hounsfield_table(real, synthetic),
        "nodule_contrast_hu": {"real": _spread(real.contrasts), "synthetic": _spread(synthetic.contrasts)},
        "twins": twins_document(matches),
    }


def hounsfield_table(real: Measured, synthetic: Measured) -> list[dict[str, Any]]:
    """A row a class: pixels, median and quartiles of HU, real and synthetic."""

    def side(measured: Measured, label: int) -> dict[str, Any]:
        histogram = measured.histogram
        names = {"median": 0.5, "lower_quartile": 0.25, "upper_quartile": 0.75}
        return {
            "pixels": histogram.pixels(label),
            **{name: histogram.quantile(label, fraction) for name, fraction in names.items()},
        }

    return [
        {"class": name, "real": side(real, label), "synthetic": side(synthetic, label)}
        for label, name in enumerate(classes.NAMES)
    ]


def twins_document(matches: Sequence[Match]) -> dict[str, Any]:
    """How many synthetic slices are near-copies, which, and how like real ones the others are."""
    copies = [match for match in matches if match.resemblance.is_near_copy]
    correlations = [match.resemblance.correlation for match in matches]
    return {
        "checked": len(matches),
        "near_copies": len(copies),
        "median_correlation": _rounded(float(np.median(correlations))),
        "highest_correlation": _rounded(max(correlations)),
        "named": [
            {
                "sample_id": match.sample_id,
                "series_uid": match.series_uid,
                "slice_index": match.slice_index,
                "own_source": match.own_source,
                "mean_error_grey_levels": _rounded(match.resemblance.error_levels),
                "texture_correlation": _rounded(match.resemblance.correlation),
                "real_slice": match.resemblance.view,
            }
            for match in copies[:_NAMED_TWINS]
        ],
    }


def warnings_of(numbers: dict[str, Any]) -> list[str]:
    """What a reader must know before the numbers of a set."""
    frechet, name = numbers["frechet"], numbers["name"]
    warnings = []
    fewest = min(frechet["real_images"], frechet["synthetic_images"])
    if fewest < FEW_IMAGES:
        warnings.append(
            f"{name}: {fewest} images on the smaller side, below {FEW_IMAGES}: the Fréchet distance is "
            "biased upwards. Read it against the floor at the same number of images, and compare it with "
            "nothing outside this report."
        )
    if frechet["at_equal_n"] is None:
        warnings.append(f"{name}: no floor, for the real slices are of one scan only or too few.")
    return warnings


def verdict_of(sets: Sequence[dict[str, Any]]) -> list[str]:
    """The findings on all sets in sentences, the gravest first."""
    copied = [numbers for numbers in sets if numbers["twins"]["near_copies"]]
    sentences = [
        f"{numbers['twins']['near_copies']} of {numbers['twins']['checked']} slices of “{numbers['name']}” "
        "are near-copies of real ones: no number on them means anything."
        for numbers in copied
    ]
    for numbers in sets:
        if numbers in copied:
            continue
        sentences.append(_distance_sentence(numbers))
        sentences.append(
            f"None of the {numbers['twins']['checked']} slices of “{numbers['name']}” is a near-copy of "
            f"a real one (highest correlation of texture {numbers['twins']['highest_correlation']:.2f})."
        )
    return sentences


def plus_minus(mean: float, spread: float) -> str:
    """A mean and its spread for a person: the spread with two digits, the mean to the same place."""
    places = 0 if spread <= 0 else max(0, 1 - math.floor(math.log10(spread)))
    return f"{mean:.{places}f} ± {spread:.{places}f}".replace("-", "\N{MINUS SIGN}")


def _distance_sentence(numbers: dict[str, Any]) -> str:
    name, floor = f"“{numbers['name']}”", numbers["frechet"]["at_equal_n"]
    if floor is None:
        return f"How far {name} is from the real slices cannot be judged without a floor."
    against = (
        f"Fréchet distance {plus_minus(floor['synthetic_mean'], floor['synthetic_spread'])} against "
        f"{plus_minus(floor['real_mean'], floor['real_spread'])} between real and real, "
        f"{floor['images']} images a side"
    )
    if floor["synthetic_mean"] <= floor["real_mean"] + _SPREADS * floor["real_spread"]:
        return f"By so many images, {name} is as near to real slices as they are to one another ({against})."
    if floor["real_mean"] <= 0:
        return f"{name} differs from the real slices ({against})."
    ratio = floor["synthetic_mean"] / floor["real_mean"]
    return f"{name} is {ratio:.3g} times as far from real slices as they are from one another ({against})."


def _floor(comparison: FloorComparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    return {key: _rounded(value) for key, value in dataclasses.asdict(comparison).items()}


def _spread(values: Sequence[float]) -> dict[str, Any]:
    if not values:
        return {"nodules": 0, "median": None, "lower_quartile": None, "upper_quartile": None}
    lower, median, upper = (_rounded(float(value)) for value in np.percentile(values, [25, 50, 75]))
    return {"nodules": len(values), "median": median, "lower_quartile": lower, "upper_quartile": upper}


def _rounded(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.{_DIGITS}g}")
