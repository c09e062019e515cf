"""How far a set of synthetic slices is from the real ones, by the features of a network."""

import dataclasses
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lungforge.metrics.extractors import Description
from lungforge.metrics.frechet import frechet_distance_of_features, frechet_distance_without_bias
from lungforge.metrics.kid import kid, kid_over_subsets, kid_p_value
from lungforge.metrics.permutation import ScanPermutations
from lungforge.metrics.precision_recall import FEWEST, NEIGHBOUR, precision, recall
from lungforge.metrics.real_baseline import BaselineComparison, compare_with_baseline
from lungforge.randomness import numpy_generator
from services.eval.records import MeasuredSlices
from services.eval.rounding import rounded, rounded_baseline
from services.eval.set_results import (
    Coverage,
    FrechetResult,
    KidResult,
    NetworkDistances,
    PrecisionRecallResult,
)

#: Images of each side in the test of the KID, at most: its kernel has a value for each pair.
_KID_IMAGES = 2000

_Measure: TypeAlias = Callable[[NDArray[np.float32], NDArray[np.float32]], float]


@dataclasses.dataclass(frozen=True)
class _Compared:
    """The two sides, and the random halves of them; ``name`` and ``seed`` decide these."""

    name: str
    real: MeasuredSlices
    synthetic: MeasuredSlices
    seed: int

    @property
    def counts(self) -> dict[str, int]:
        """Images of each side."""
        return {"real_images": len(self.real.features), "synthetic_images": len(self.synthetic.features)}

    def generator(self, purpose: str) -> np.random.Generator:
        """Random numbers of one purpose: its name is part of the results, whatever a measure is called."""
        return numpy_generator(self.seed, self.name, purpose)

    def baseline(self, measure: _Measure, halves: str, fewest: int = 2) -> BaselineComparison | None:
        """A measure of random halves; their purpose is ``halves``."""
        return rounded_baseline(
            compare_with_baseline(
                self.real.features,
                self.real.scans,
                self.synthetic.features,
                measure,
                self.generator(halves),
                fewest=fewest,
            )
        )


def network_distances(
    name: str,
    real: MeasuredSlices,
    synthetic: MeasuredSlices,
    extractor: Description,
    permutations: ScanPermutations | None,
    seed: int,
) -> NetworkDistances:
    """Fréchet distance and KID, each with its real-vs-real baseline.

    Args:
        name: What the report calls the set; with the seed it decides the random halves and subsets.
        real: The real slices that are compared with.
        synthetic: The set.
        extractor: What gave the features.
        permutations: Of the scans of both; None with too few for a test.
        seed: Of the job.
    """
    compared = _Compared(name, real, synthetic, seed)
    subsets = kid_over_subsets(real.features, synthetic.features, compared.generator("kernel subsets"))
    without_bias = frechet_distance_without_bias(
        real.features, synthetic.features, compared.generator("frechet without bias")
    )
    return NetworkDistances(
        frechet=FrechetResult(
            name=extractor.distance_name,
            value=rounded(frechet_distance_of_features(real.features, synthetic.features)),
            baseline=compared.baseline(frechet_distance_of_features, "frechet"),
            without_bias=None if without_bias is None else rounded(without_bias),
            **compared.counts,
        ),
        kid=KidResult(
            name=f"KID ({extractor.name})",
            mean=rounded(subsets.mean),
            spread=rounded(subsets.spread),
            subsets=subsets.subsets,
            subset_size=subsets.subset_size,
            baseline=compared.baseline(kid, "kernel"),
            p_value=_kid_p_value(real, synthetic, permutations, compared.generator("kernel test")),
            permutations=0 if permutations is None else permutations.count,
        ),
    )


def second_distances(
    name: str,
    real: MeasuredSlices,
    synthetic: MeasuredSlices,
    extractor: Description,
    permutations: ScanPermutations | None,
    seed: int,
) -> NetworkDistances:
    """The same by the features of the second network."""
    assert real.second is not None
    assert synthetic.second is not None
    one = dataclasses.replace(real, features=real.second)
    other = dataclasses.replace(synthetic, features=synthetic.second)
    return network_distances(name, one, other, extractor, permutations, seed)


def precision_and_recall(
    name: str, real: MeasuredSlices, synthetic: MeasuredSlices, extractor: Description, seed: int
) -> PrecisionRecallResult:
    """Precision and recall with their real-vs-real baseline; arguments as of ``network_distances``."""
    compared = _Compared(name, real, synthetic, seed)

    def coverage(measure: _Measure) -> Coverage:
        enough = min(compared.counts.values()) >= FEWEST
        value = rounded(measure(real.features, synthetic.features)) if enough else None
        return Coverage(value, compared.baseline(measure, "precision and recall", FEWEST))

    return PrecisionRecallResult(
        name=f"Improved precision and recall ({extractor.name})",
        neighbour=NEIGHBOUR,
        precision=coverage(precision),
        recall=coverage(recall),
        **compared.counts,
    )


def _kid_p_value(
    real: MeasuredSlices,
    synthetic: MeasuredSlices,
    permutations: ScanPermutations | None,
    generator: np.random.Generator,
) -> float | None:
    """Of all images, or of as many of each side as fit."""
    if permutations is None:
        return None
    count = len(real.features)
    tested = np.flatnonzero(permutations.taking_part)
    one, other = (
        np.sort(generator.permutation(side)[:_KID_IMAGES])
        for side in (tested[tested < count], tested[tested >= count])
    )
    chosen = permutations.keep(np.concatenate([one, other]))
    return kid_p_value(real.features[one], synthetic.features[other - count], chosen)
