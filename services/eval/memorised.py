"""What an evaluation says on memorisation: the numbers of a set, and the sentence on them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from lungforge.metrics.leakage import scan_of
from lungforge.metrics.memorisation import Memorisation, measure_memorisation
from lungforge.randomness import numpy_generator
from services.eval.numbers import rounded
from services.eval.records import Key, Measured

#: Parts of the axis in the picture of the distributions.
_BINS = 30
_QUANTILES = {"5_percent": 0.05, "25_percent": 0.25, "median": 0.5, "75_percent": 0.75, "95_percent": 0.95}


def memorisation_document(
    training: np.ndarray,
    training_keys: Sequence[Key],
    synthetic: Measured,
    real: Measured,
    name: str,
    seed: int,
) -> dict[str, Any]:
    """How near synthetic slices come to the training slices, beside held-out real ones, as JSON values.

    Args:
        training: Features ``[T, D]`` of the slices that the generator was trained on.
        training_keys: Which these are.
        synthetic: The set.
        real: The real slices that are compared with; those of training scans are left out.
        name: What the report calls the set; with the seed it decides the redrawn scans.
        seed: Of the job.

    Returns:
        ``why_not``: None, or a sentence why there are no numbers.
    """
    if not len(training):
        return {"why_not": "the slices that the generator was trained on are not at hand"}
    trained = {scan_of(series) for series, _ in training_keys}
    fresh = np.array([scan not in trained for scan in real.scans])
    if not fresh.any():
        return {"why_not": "no real slice to compare with is of a scan that the generator did not see"}
    found = measure_memorisation(
        training,
        synthetic.features,
        synthetic.scans,
        real.features[fresh],
        [scan for scan, keep in zip(real.scans, fresh, strict=True) if keep],
        numpy_generator(seed, name, "memorisation"),
    )
    if found is None:
        return {"why_not": "the held-out real slices equal slices that the generator was trained on"}
    own = sum(training_keys[index] == key for index, key in zip(found.nearest, synthetic.keys, strict=True))
    return {
        "why_not": None,
        "training_images": len(training),
        "ratio": rounded(found.ratio),
        "interval_95_percent": None if found.interval is None else [rounded(end) for end in found.interval],
        "closer_than_5_percent": rounded(found.closer_than_5_percent),
        "nearest_is_own_source": int(own),
        "synthetic": _distances(found.synthetic),
        "held_out": _distances(found.held_out),
        "histogram": _histogram(found),
    }


def memorisation_sentence(name: str, numbers: dict[str, Any]) -> str:
    """The finding on a set, as far as its numbers carry it."""
    if numbers["why_not"] is not None:
        return f"Whether “{name}” repeats its training slices was not measured: {numbers['why_not']}."
    if numbers["interval_95_percent"] is None:
        return (
            f"Whether “{name}” repeats its training slices cannot be judged with slices of one scan "
            f"(ratio of distances {numbers['ratio']:.2f})."
        )
    low, high = numbers["interval_95_percent"]
    against = (
        f"its median distance to the nearest training slice is {numbers['ratio']:.2f} times that of held-out "
        f"real slices, 95 % interval {low:.2f} to {high:.2f}; for {numbers['nearest_is_own_source']} of "
        f"{numbers['synthetic']['images']} the nearest is the slice whose map they were drawn from"
    )
    if high < 1:
        return (
            f"“{name}” lies nearer to its training slices than real slices of other scans do, "
            f"a sign of memorisation: {against}."
        )
    if low > 1:
        return (
            f"“{name}” lies farther from its training slices than real slices of other scans do, as all does "
            f"that looks otherwise than real, so that distance alone does not rule out memorisation: "
            f"{against}."
        )
    return f"“{name}” shows no sign of memorisation: {against}."


def _distances(values: np.ndarray) -> dict[str, Any]:
    quantiles = np.quantile(values, list(_QUANTILES.values())).tolist()
    named = {key: rounded(value) for key, value in zip(_QUANTILES, quantiles, strict=True)}
    return {"images": len(values), **named}


def _histogram(found: Memorisation) -> dict[str, Any]:
    """Shares of both sets in equal parts of one axis, from 0 to the largest distance."""
    longest = max(found.synthetic.max(), found.held_out.max())
    edges = np.linspace(0.0, longest, _BINS + 1)

    def shares(values: np.ndarray) -> list[float]:
        return [rounded(share) for share in (np.histogram(values, edges)[0] / len(values)).tolist()]

    return {
        "longest": rounded(float(longest)),
        "synthetic": shares(found.synthetic),
        "held_out": shares(found.held_out),
    }
