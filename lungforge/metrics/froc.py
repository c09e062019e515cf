"""Detection as LUNA16 scores it: the FROC curve, sensitivity at seven rates of false positives, and CPM.

Setio et al., "Validation, comparison, and combination of algorithms for automatic detection of pulmonary
nodules in computed tomography images: the LUNA16 challenge", 2017 (arXiv 1612.08012), and the challenge's
page on evaluation:

- A nodule is detected by a candidate within its radius (half the diameter, the edge included) of its centre.
  Of several such candidates the highest probability counts; the others are neither hits nor false positives.
- A candidate that detects no nodule, but lies within the radius of an excluded finding, is ignored.
- Every other candidate is a false positive. A nodule that no candidate detects is missed at any threshold.
- A threshold takes all candidates of its probability and above, so those of one probability come together.
  Its point on the curve is the false positives a scan, of all scans listed, also those without a nodule or a
  candidate, and the share of all nodules that are detected.
- The points of all thresholds are connected by straight lines, the first with (0, 0); beyond the last point
  the curve stays at its height. Where it rises straight up, its value is the upper end.
- CPM, the competition performance metric (Niemeijer et al. 2011), is the mean sensitivity at ``RATES``.
- Intervals are percentiles over draws of as many scans, with replacement, as there are; a scan that is drawn
  twice counts twice, with its nodules and its candidates.

Two cases are not in the published rules: a candidate within the radii of two nodules detects both, and draws
that hold no nodule are left out.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from lungforge.ct.io.detection_tables import ScoredCandidate
from lungforge.ct.io.luna16_tables import Annotation
from lungforge.errors import InputError
from lungforge.randomness import numpy_generator

#: False positives a scan at which sensitivity is read.
RATES: Final = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
#: Draws of the bootstrap.
DRAWS: Final = 1000
#: Series that an error names.
_NAMED: Final = 3

_Finding = TypeVar("_Finding", ScoredCandidate, Annotation)


@dataclass(frozen=True)
class Judgement:
    """What the candidates of a detector are by the rules.

    Attributes:
        scans: Number of scans.
        nodule_scan: The scan of each nodule, int64 ``[T]``, from 0.
        nodule_probability: Of the candidate that detects it, ``[T]``; minus infinity where none does.
        false_scan: The scan of each false positive, int64 ``[F]``.
        false_probability: Its probability, ``[F]``.
        repeated: Candidates on a nodule that a candidate of higher probability detects.
        ignored: Candidates on an excluded finding.
    """

    scans: int
    nodule_scan: NDArray[np.int64]
    nodule_probability: NDArray[np.float64]
    false_scan: NDArray[np.int64]
    false_probability: NDArray[np.float64]
    repeated: int
    ignored: int

    @property
    def missed(self) -> int:
        """Nodules that no candidate detects, whatever the threshold."""
        return int(np.isneginf(self.nodule_probability).sum())


@dataclass(frozen=True)
class OperatingPoint:
    """Sensitivity at a rate of false positives, with its 95 % interval over scans.

    Attributes:
        false_positives_per_scan: The rate.
        sensitivity: 0 to 1.
        low: Lower end of the interval.
        high: Upper end.
    """

    false_positives_per_scan: float
    sensitivity: float
    low: float
    high: float


@dataclass(frozen=True)
class FrocScore:
    """The score of a detector.

    Attributes:
        points: Sensitivity at each of ``RATES``.
        cpm: Their mean, 0 to 1.
        cpm_low: Lower end of its 95 % interval over scans.
        cpm_high: Upper end.
        draws: Draws of the bootstrap that count: those with a nodule.
    """

    points: tuple[OperatingPoint, ...]
    cpm: float
    cpm_low: float
    cpm_high: float
    draws: int


def judge(
    candidates: Iterable[ScoredCandidate],
    nodules: Iterable[Annotation],
    excluded: Iterable[Annotation],
    scans: Iterable[str],
) -> Judgement:
    """Say of each candidate what it is, and of each nodule which candidate detects it.

    Args:
        candidates: Of the scans.
        nodules: Those of other scans are left out.
        excluded: Findings that are neither nodules nor false positives; those of other scans are left out.
        scans: Series uids; a uid that is there twice is one scan. Their order does not matter.

    Raises:
        InputError: A candidate is of no scan listed, or no nodule is.
    """
    uids = sorted(set(scans))
    points, truths, others = _by_scan(candidates), _by_scan(nodules), _by_scan(excluded)
    _require_known(points.keys() - set(uids))
    if not any(uid in truths for uid in uids):
        raise InputError(
            f"there is no nodule in the {len(uids)} scans listed, so there is no sensitivity; "
            "check that annotations and scans have the same series uids"
        )
    nodule_scan: list[int] = []
    false_scan: list[int] = []
    best, false = [], []
    repeated = ignored = 0
    for index, uid in enumerate(uids):
        of_scan = points.get(uid, [])
        probability = np.asarray([candidate.probability for candidate in of_scan], dtype=np.float64)
        hits = _within(of_scan, truths.get(uid, []))
        detected = np.where(hits, probability[:, None], -np.inf).max(axis=0, initial=-np.inf)
        on_nodule = hits.any(axis=1)
        on_excluded = ~on_nodule & _within(of_scan, others.get(uid, [])).any(axis=1)
        nodule_scan += [index] * len(detected)
        best.append(detected)
        wrong = probability[~on_nodule & ~on_excluded]
        false_scan += [index] * len(wrong)
        false.append(wrong)
        # One candidate counts for a nodule: of equal ones, the first.
        counting = {int(np.argmax(np.where(hit, probability, -np.inf))) for hit in hits.T if hit.any()}
        repeated += int(on_nodule.sum()) - len(counting)
        ignored += int(on_excluded.sum())
    return Judgement(
        scans=len(uids),
        nodule_scan=np.asarray(nodule_scan, dtype=np.int64),
        nodule_probability=np.concatenate(best),
        false_scan=np.asarray(false_scan, dtype=np.int64),
        false_probability=np.concatenate(false),
        repeated=repeated,
        ignored=ignored,
    )


def sensitivities(judged: Judgement, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sensitivity at each of ``RATES``.

    Args:
        judged: The candidates.
        weights: How often each scan counts, ``[B, scans]``.

    Returns:
        ``[B, 7]``; NaN where no nodule counts.
    """
    detected = np.isfinite(judged.nodule_probability)
    probability = np.concatenate([judged.nodule_probability[detected], judged.false_probability])
    order = np.argsort(-probability, kind="stable")
    scan = np.concatenate([judged.nodule_scan[detected], judged.false_scan])[order]
    is_hit = order < detected.sum()
    # Of equal probabilities, which come together, only the last makes a point.
    last = np.append(np.diff(probability[order]) != 0, True)[: len(order)]
    end = _end(scan, is_hit, last, weights)
    scan, is_hit, last = scan[:end], is_hit[:end], last[:end]
    rows = []
    for row in weights:
        total = row[judged.nodule_scan].sum()
        if not total:
            rows.append(np.full(len(RATES), np.nan))
            continue
        weight = row[scan]
        rate = np.cumsum(weight * ~is_hit)[last] / row.sum()
        share = np.cumsum(weight * is_hit)[last] / total
        rows.append(_read(np.append(0.0, rate), np.append(0.0, share)))
    return np.stack(rows)


def _end(
    scan: NDArray[np.int64], is_hit: NDArray[np.bool_], last: NDArray[np.bool_], weights: NDArray[np.float64]
) -> int:
    """How many of the candidates, the surest first, take every row of weights beyond the last of ``RATES``.

    The others change nothing: a detector may have a thousand times as many candidates as are read.
    """
    enough = RATES[-1] * weights.sum(axis=1)
    count = 2 * int(enough.max())
    while count < len(scan):
        false = np.bincount(scan[:count][~is_hit[:count]], minlength=weights.shape[1])
        if (weights @ false > enough).all():
            return count + int(np.argmax(last[count - 1 :]))
        count *= 2
    return len(scan)


def scan_draws(scans: int, seed: int = 0) -> NDArray[np.float64]:
    """How often each scan counts ``[DRAWS + 1, scans]``: once in the first row, then drawn with replacement.

    Args:
        scans: How many there are, in the order of their sorted uids.
        seed: Of the draws.
    """
    generator = numpy_generator(seed, "froc", scans)
    counts = generator.multinomial(scans, np.full(scans, 1.0 / scans), size=DRAWS)
    return np.concatenate([np.ones((1, scans)), counts.astype(np.float64)])


def froc_score(values: NDArray[np.float64]) -> FrocScore:
    """The score from sensitivities ``[DRAWS + 1, 7]`` over the draws of :func:`scan_draws`."""
    drawn = values[1:][np.isfinite(values[1:]).all(axis=1)]
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    cpm_low, cpm_high = np.percentile(drawn.mean(axis=1), [2.5, 97.5]).tolist()
    return FrocScore(
        points=tuple(
            OperatingPoint(*point)
            for point in zip(RATES, values[0].tolist(), low.tolist(), high.tolist(), strict=True)
        ),
        cpm=float(values[0].mean()),
        cpm_low=cpm_low,
        cpm_high=cpm_high,
        draws=len(drawn),
    )


def rate_words(rate: float) -> str:
    """A rate of false positives in words: ``1/8 false positive``, ``4 false positives``."""
    number = f"{rate:g}" if rate >= 1 else f"1/{1 / rate:g}"
    return f"{number} false positive{'s' if rate > 1 else ''}"


def _read(rate: NDArray[np.float64], sensitivity: NDArray[np.float64]) -> NDArray[np.float64]:
    """The height at ``RATES`` of the line through points ``[K]``, neither of whose coordinates falls."""
    wanted = np.asarray(RATES)
    # The last point that is not right of the rate, and the first that is, if there is one.
    before = np.searchsorted(rate, wanted, side="right") - 1
    after = np.minimum(before + 1, len(rate) - 1)
    step = rate[after] - rate[before]
    part = np.divide(wanted - rate[before], step, out=np.zeros(len(wanted)), where=step > 0)
    return sensitivity[before] + part * (sensitivity[after] - sensitivity[before])


def _within(candidates: Sequence[ScoredCandidate], findings: Sequence[Annotation]) -> NDArray[np.bool_]:
    """Which candidates lie within the radius of which findings, ``[C, T]``."""
    places = np.asarray([candidate.point_mm for candidate in candidates], dtype=np.float64).reshape(-1, 3)
    centres = np.asarray([finding.point_mm for finding in findings], dtype=np.float64).reshape(-1, 3)
    radii = np.asarray([finding.diameter_mm / 2 for finding in findings], dtype=np.float64)
    return np.linalg.norm(places[:, None] - centres[None], axis=2) <= radii


def _by_scan(findings: Iterable[_Finding]) -> dict[str, list[_Finding]]:
    groups: defaultdict[str, list[_Finding]] = defaultdict(list)
    for finding in findings:
        groups[finding.series_uid].append(finding)
    return groups


def _require_known(unknown: Iterable[str]) -> None:
    names = sorted(unknown)
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        raise InputError(
            f"there are candidates of {len(names)} series that are not in the list of scans: "
            f"{', '.join(names[:_NAMED])}{more}; list them, or leave their candidates out"
        )
