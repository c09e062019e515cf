"""The evaluation of a small set of synthetic slices, in this process."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from lungforge.api.evaluated_sets import notes_on_leaks, notes_on_size, rows_of
from lungforge.api.measures import Measured, hounsfield_units, map_agreement, near_duplicates
from lungforge.api.results import Distance, Evaluation, SetSize
from lungforge.errors import InputError
from lungforge.extras import is_installed
from lungforge.metrics.extractors import EFFICIENTNET_LITE0, EXTRACTORS, ExtractorName
from lungforge.metrics.frechet import frechet_distance_of_features
from lungforge.metrics.kid import kid, kid_over_subsets, kid_p_value
from lungforge.metrics.permutation import (
    SIGNIFICANCE,
    ScanPermutations,
    permute_scans,
)
from lungforge.metrics.radiomic_distance import (
    FEWEST_SLICES,
    feature_shifts,
    radiomic_distances,
    radiomic_p_value,
    regions_in_both,
)
from lungforge.metrics.radiomics import Region
from lungforge.metrics.real_baseline import compare_with_baseline
from lungforge.randomness import numpy_generator

if TYPE_CHECKING:
    from lungforge.api.evaluated_sets import Slices

#: Without a test, a feature moved that differs by so many standard deviations.
_LARGE_SHIFT: Final = 1.0


def evaluate(
    real: "Slices",
    synthetic: "Slices",
    *,
    training: "Slices | None" = None,
    extractor: ExtractorName | None = EFFICIENTNET_LITE0,
    seed: int = 0,
) -> Evaluation:
    """Measure a small set of synthetic slices against real ones, in this process.

    For some hundred slices; `lungforge evaluate` measures thousands, adds memorisation and downstream tasks,
    refuses test scans that the generator has seen, and writes a report.

    Args:
        real: Real slices of scans that the generator was not trained on, and whose maps it did not sample
            from: a URI, what ``open_slices`` gave (its transforms are left out), or rows of it.
        synthetic: The same of synthetic slices. With ``images`` that a model sampled from ``rows``:
            ``[dataclasses.replace(row, image=image) for row, image in zip(rows, images)]``.
        training: Slices that the generator was trained on, where they are at hand: near-duplicates are looked
            for among them, too.
        extractor: The network for Fréchet distance and KID; None leaves them out.
        seed: Decides random halves, subsets and permutations.

    Returns:
        Distances, each beside its real-vs-real baseline; ``print`` it, or see ``verdict`` and ``to_json``.

    Raises:
        InputError: A set has fewer than two slices, or the sets are of different sizes in px.

    Example:
        >>> real = lungforge.open_slices("lungforge://maps-64", subsets=3)
        >>> too_bright = [dataclasses.replace(row, image=row.image + 200) for row in real.rows()[12:24]]
        >>> lungforge.evaluate(real.rows()[:12], too_bright, extractor=None).units
        'poor'
    """
    if extractor is not None and extractor not in EXTRACTORS:
        raise InputError(f"extractor is {extractor!r}; choose one of {', '.join(EXTRACTORS)}, or None")
    one, other = (
        Measured.of(name, rows_of(given)) for name, given in (("real", real), ("synthetic", synthetic))
    )
    if one.shape != other.shape:
        raise InputError(
            f"the real slices have {one.shape} px and the synthetic ones {other.shape}; open them with "
            "the same size and patches"
        )
    known = [] if training is None else rows_of(training)
    notes = [*notes_on_size(one, other), *notes_on_leaks(one, other, known, synthetic)]
    permutations = permute_scans(one.scans, other.scans, numpy_generator(seed, "permutations"))
    if permutations is None:
        notes.append("too few scans for tests, so chance is not ruled out; take slices of four scans or more")
    radiomic, moved = _radiomic(one, other, permutations, seed)
    if radiomic is None:
        notes.append(f"fewer than {FEWEST_SLICES} slices of a side show lungs, body or nodules large enough")
    elif radiomic.baseline is None:
        notes.append("no real-vs-real baseline: the real slices are too few, or of one scan")
    frechet = distance = None
    if extractor is None or not is_installed("efficientnet_lite_pytorch"):
        if extractor is not None:
            notes.append("Fréchet distance and KID need a network: pip install 'lungforge[eval]'")
    else:
        frechet, distance = _by_network(one, other, extractor, permutations, seed)
    duplicates, highest = near_duplicates(other.rows, [*one.rows, *known])
    return Evaluation(
        real=SetSize(len(one.rows), len(set(one.scans))),
        synthetic=SetSize(len(other.rows), len(set(other.scans))),
        radiomic=radiomic,
        moved=moved,
        frechet=frechet,
        kid=distance,
        hounsfield_units=hounsfield_units(one, other, permutations),
        map_agreement=map_agreement(one.rows, other.rows),
        near_duplicates=duplicates,
        highest_correlation=highest,
        notes=tuple(notes),
    )


def _radiomic(
    real: Measured, synthetic: Measured, permutations: ScanPermutations | None, seed: int
) -> tuple[Distance | None, tuple]:
    one, other = real.radiomics, synthetic.radiomics
    regions: tuple[Region, ...] = regions_in_both(one, other)
    if not regions:
        return None, ()

    def distance(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
        return sum(radiomic_distances(first, second, regions).values())

    baseline = compare_with_baseline(
        one, real.scans, other, distance, numpy_generator(seed, "radiomics"), fewest=FEWEST_SLICES
    )
    p_value = None if permutations is None else radiomic_p_value(one, other, regions, permutations)
    shifts = feature_shifts(one, other, regions, permutations)
    moved = tuple(
        shift
        for shift in shifts
        if (abs(shift.shift) >= _LARGE_SHIFT if shift.p_value is None else shift.p_value < SIGNIFICANCE)
    )
    return Distance("radiomic distance", distance(one, other), baseline, p_value), moved


def _by_network(
    real: Measured,
    synthetic: Measured,
    name: ExtractorName,
    permutations: ScanPermutations | None,
    seed: int,
) -> tuple[Distance, Distance]:
    """Fréchet distance and KID of a network's features."""
    from lungforge.metrics.features import load_extractor

    extractor = load_extractor(name)
    one, other = extractor.embed(real.hu), extractor.embed(synthetic.hu)

    def beside(
        title: str,
        value: float,
        measure: Callable[[NDArray[np.floating], NDArray[np.floating]], float],
        p_value: float | None,
    ) -> Distance:
        generator = numpy_generator(seed, "halves")
        return Distance(
            title, value, compare_with_baseline(one, real.scans, other, measure, generator), p_value
        )

    subsets = kid_over_subsets(one, other, numpy_generator(seed, "KID subsets"))
    return (
        beside(
            extractor.description.distance_name,
            frechet_distance_of_features(one, other),
            frechet_distance_of_features,
            None,
        ),
        beside(
            f"KID ({name})",
            subsets.mean,
            kid,
            None if permutations is None else kid_p_value(one, other, permutations),
        ),
    )
