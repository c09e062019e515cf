"""The score of a detector equals the published rules, written out slowly, and numbers derived by hand."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from lungforge.ct.io.detection_tables import ScoredCandidate
from lungforge.ct.io.luna16_tables import Annotation
from lungforge.errors import InputError
from lungforge.metrics.froc import DRAWS, RATES, froc_score, judge, scan_draws, sensitivities


def _at(x: float, probability: float, scan: str = "a", y: float = 0.0) -> ScoredCandidate:
    return ScoredCandidate(scan, x, y, 0.0, probability)


def _nodule(x: float, diameter_mm: float = 10.0, scan: str = "a") -> Annotation:
    return Annotation(scan, x, 0.0, 0.0, diameter_mm)


def _sensitivities(
    candidates: Sequence[ScoredCandidate],
    nodules: Sequence[Annotation],
    scans: Sequence[str],
    excluded: Sequence[Annotation] = (),
) -> list[float]:
    judged = judge(candidates, nodules, excluded, scans)
    return sensitivities(judged, np.ones((1, judged.scans)))[0].tolist()


# The published rules, word by word -----------------------------------------------------------------------


def _detects(candidate: ScoredCandidate, finding: Annotation) -> bool:
    return (
        candidate.series_uid == finding.series_uid
        and math.dist(candidate.point_mm, finding.point_mm) <= finding.diameter_mm / 2
    )


def _slow_curve(
    candidates: Sequence[ScoredCandidate],
    nodules: Sequence[Annotation],
    excluded: Sequence[Annotation],
    scans: Sequence[str],
) -> list[tuple[float, float]]:
    """A point for each threshold, each counted from nothing; scans may be there several times."""
    points = [(0.0, 0.0)]
    for threshold in sorted({candidate.probability for candidate in candidates}, reverse=True):
        taken = [candidate for candidate in candidates if candidate.probability >= threshold]
        detected = wrong = nodules_there = 0
        for scan in scans:
            of_scan = [nodule for nodule in nodules if nodule.series_uid == scan]
            nodules_there += len(of_scan)
            for nodule in of_scan:
                detected += any(_detects(candidate, nodule) for candidate in taken)
            for candidate in taken:
                if candidate.series_uid != scan or any(_detects(candidate, each) for each in of_scan):
                    continue
                wrong += not any(_detects(candidate, finding) for finding in excluded)
        points.append((wrong / len(scans), detected / nodules_there))
    return points


def _slow_height(points: Sequence[tuple[float, float]], rate: float) -> float:
    for (x, y), (next_x, next_y) in itertools.pairwise(points):
        if x <= rate < next_x:
            return y + (next_y - y) * (rate - x) / (next_x - x)
    return max(y for x, y in points if x <= rate)


@pytest.mark.parametrize("case", range(40))
def test_it_equals_the_published_rules_written_out(case: int) -> None:
    generator = np.random.default_rng(case)
    scans = [f"scan {index}" for index in range(int(generator.integers(1, 7)))]

    def place() -> tuple[str, float, float, float]:
        # A small grid, so that candidates hit, hit several times, lie on an edge, and hit two nodules.
        return (str(generator.choice(scans)), *map(float, generator.integers(0, 9, size=3)))

    nodules = [Annotation(*place(), float(generator.integers(1, 8))) for _ in range(generator.integers(1, 9))]
    excluded = [
        Annotation(*place(), float(generator.integers(1, 8))) for _ in range(generator.integers(0, 9))
    ]
    # Few probabilities, so that many are equal.
    candidates = [
        ScoredCandidate(*place(), float(generator.integers(0, 12)) / 12)
        for _ in range(generator.integers(0, 60))
    ]
    candidates += [ScoredCandidate(nodule.series_uid, *nodule.point_mm, 0.5) for nodule in nodules[::2]]
    candidates += candidates[:3]

    judged = judge(candidates, nodules, excluded, scans[::-1])
    weights = scan_draws(len(scans), seed=case)[:6]
    got = sensitivities(judged, weights)

    for row, counts in zip(got, weights.astype(int).tolist(), strict=True):
        drawn = [scan for scan, count in zip(sorted(scans), counts, strict=True) for _ in range(count)]
        if not any(nodule.series_uid in drawn for nodule in nodules):
            assert np.isnan(row).all()
            continue
        points = _slow_curve(candidates, nodules, excluded, drawn)
        np.testing.assert_allclose(row, [_slow_height(points, rate) for rate in RATES], rtol=1e-12)
    on_nodule = [any(_detects(each, nodule) for nodule in nodules) for each in candidates]
    on_excluded = [any(_detects(each, finding) for finding in excluded) for each in candidates]
    false = sum(not nodule and not other for nodule, other in zip(on_nodule, on_excluded, strict=True))
    assert len(judged.false_probability) == false
    assert judged.ignored == sum(o and not n for n, o in zip(on_nodule, on_excluded, strict=True))
    assert judged.missed == sum(not any(_detects(each, nodule) for each in candidates) for nodule in nodules)


def test_what_lies_beyond_the_last_rate_changes_nothing() -> None:
    """Of 600 candidates in 3 scans, many of one probability, fewer than 100 are read."""
    generator = np.random.default_rng(1)
    scans = ["a", "b", "c"]
    nodules = [_nodule(10.0 * index, scan=scan) for index in range(4) for scan in scans]
    candidates = [
        _at(
            float(generator.uniform(0, 60)),
            float(generator.integers(0, 30)) / 30,
            str(generator.choice(scans)),
            y,
        )
        for y in generator.choice([0.0, 100.0], p=[0.05, 0.95], size=600).tolist()
    ]
    judged = judge(candidates, nodules, [], scans)
    assert len(judged.false_probability) > 500
    weights = scan_draws(3)[:3]
    for row, counts in zip(sensitivities(judged, weights), weights.astype(int).tolist(), strict=True):
        drawn = [scan for scan, count in zip(scans, counts, strict=True) for _ in range(count)]
        points = _slow_curve(candidates, nodules, [], drawn)
        np.testing.assert_allclose(row, [_slow_height(points, rate) for rate in RATES], rtol=1e-12)


# By hand -------------------------------------------------------------------------------------------------


def test_the_curve_is_straight_between_its_points_and_level_behind_the_last() -> None:
    """Two scans, four nodules; at .9 a hit and two false ones, at .5 two hits and two false ones."""
    nodules = [_nodule(0), _nodule(100), _nodule(200), _nodule(0, scan="b")]
    candidates = [
        _at(0, 0.9), _at(50, 0.9), _at(150, 0.9, "b"),
        _at(100, 0.5), _at(200, 0.5), _at(60, 0.5), _at(70, 0.5),
    ]  # fmt: skip
    # Points (0, 0), (1, 1/4), (2, 3/4), level from there on.
    expected = [1 / 32, 1 / 16, 1 / 8, 1 / 4, 3 / 4, 3 / 4, 3 / 4]
    assert _sensitivities(candidates, nodules, ["a", "b"]) == expected


def test_where_the_curve_rises_straight_up_its_upper_end_counts() -> None:
    """One scan, two nodules: a false positive at .9 is in front of both, one of them at .8, one at .7."""
    candidates = [_at(50, 0.9), _at(0, 0.8), _at(100, 0.7)]
    assert _sensitivities(candidates, [_nodule(0), _nodule(100)], ["a"]) == [0, 0, 0, 1, 1, 1, 1]


def test_hits_alone_reach_their_sensitivity_at_every_rate() -> None:
    assert _sensitivities([_at(0, 0.1)], [_nodule(0), _nodule(100)], ["a"]) == [0.5] * 7


def test_no_candidate_is_no_sensitivity() -> None:
    assert _sensitivities([], [_nodule(0)], ["a"]) == [0.0] * 7


@pytest.mark.parametrize(("x", "hit"), [(5.0, True), (5.001, False), (-5.0, True)])
def test_a_hit_lies_within_the_radius_edge_included(x: float, hit: bool) -> None:
    judged = judge([_at(x, 0.5)], [_nodule(0)], [], ["a"])
    assert (judged.missed, len(judged.false_probability)) == ((0, 0) if hit else (1, 1))


def test_the_highest_of_several_candidates_counts_and_the_others_are_nothing() -> None:
    judged = judge([_at(1, 0.2), _at(-1, 0.7), _at(0, 0.7)], [_nodule(0)], [], ["a"])
    assert judged.nodule_probability.tolist() == [0.7]
    assert (judged.repeated, len(judged.false_probability)) == (2, 0)


def test_a_candidate_between_two_nodules_detects_both() -> None:
    judged = judge([_at(4, 0.6)], [_nodule(0), _nodule(8)], [], ["a"])
    assert judged.nodule_probability.tolist() == [0.6, 0.6]
    assert judged.repeated == 0


def test_excluded_findings_swallow_false_positives_but_no_hits() -> None:
    excluded = [_nodule(0), _nodule(50), Annotation("elsewhere", 0.0, 0.0, 0.0, 5.0)]
    judged = judge([_at(0, 0.9), _at(52, 0.8), _at(90, 0.7)], [_nodule(3)], excluded, ["a"])
    assert judged.nodule_probability.tolist() == [0.9]
    assert judged.false_probability.tolist() == [0.7]
    assert judged.ignored == 1


def test_scans_without_a_nodule_count_as_scans() -> None:
    """Four false positives are 4 a scan in one, 1 a scan in four."""
    candidates = [_at(50, 0.9), _at(60, 0.9), _at(70, 0.9), _at(80, 0.9), _at(0, 0.5)]
    assert _sensitivities(candidates, [_nodule(0)], ["a"]) == [0, 0, 0, 0, 0, 1, 1]
    assert _sensitivities(candidates, [_nodule(0)], ["a", "b", "c", "d"]) == [0, 0, 0, 1, 1, 1, 1]


def test_candidates_of_other_scans_are_named_and_nodules_of_others_left_out() -> None:
    nodules = [_nodule(0), _nodule(0, scan="other")]
    assert len(judge([], nodules, [], ["a"]).nodule_scan) == 1
    with pytest.raises(InputError, match=r"candidates of 4 series .* list of scans: p, q, r and 1 more"):
        judge([_at(0, 0.5, scan) for scan in "spqar"], nodules, [], ["a"])
    with pytest.raises(InputError, match="there is no nodule in the 1 scans listed"):
        judge([], nodules, [], ["b"])


# The interval --------------------------------------------------------------------------------------------


def test_the_interval_is_of_the_binomial_where_every_scan_has_one_nodule() -> None:
    """Of 40 scans with a nodule each, 30 are detected, without a false positive: a draw counts 40 of them."""
    scans = [f"{index:02}" for index in range(40)]
    judged = judge(
        [_at(0, 0.5, scan) for scan in scans[:30]], [_nodule(0, scan=scan) for scan in scans], [], scans
    )
    score = froc_score(sensitivities(judged, scan_draws(40)))
    low, high = stats.binom(40, 0.75).ppf([0.025, 0.975]) / 40
    assert score.cpm == 0.75
    assert (score.cpm_low, score.cpm_high) == pytest.approx((low, high), abs=0.026)
    assert [point.low for point in score.points] == [score.cpm_low] * 7
    assert [point.false_positives_per_scan for point in score.points] == list(RATES)
    assert score.draws == DRAWS


def test_draws_without_a_nodule_are_left_out() -> None:
    """A draw of two scans misses the one with the nodule in a quarter of cases."""
    judged = judge([_at(0, 0.5)], [_nodule(0)], [], ["a", "b"])
    score = froc_score(sensitivities(judged, scan_draws(2)))
    assert score.draws == pytest.approx(0.75 * DRAWS, abs=4 * math.sqrt(DRAWS * 0.75 * 0.25))
    assert (score.cpm_low, score.cpm_high) == (1.0, 1.0)


def test_the_order_of_scans_and_candidates_changes_nothing() -> None:
    generator = np.random.default_rng(0)
    scans = [f"{index}" for index in range(9)]
    nodules = [_nodule(0, scan=scan) for scan in scans]
    candidates = [
        _at(float(generator.integers(0, 9)), float(generator.random()), str(generator.choice(scans)))
        for _ in range(80)
    ]
    scores = [
        froc_score(sensitivities(judge(given, nodules, [], listed), scan_draws(9)))
        for given, listed in ((candidates, scans), (candidates[::-1], scans[::-1]))
    ]
    assert scores[0] == scores[1]
