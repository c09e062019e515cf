import numpy as np
import pytest
from pytorch_fid.fid_score import calculate_frechet_distance

from lungforge.metrics.frechet import frechet_distance_of_features
from lungforge.metrics.permutation import permute_scans
from lungforge.metrics.radiomic_distance import (
    comparable,
    feature_shifts,
    radiomic_distances,
    radiomic_p_value,
    regions_in_both,
)
from lungforge.metrics.radiomics import FEATURES, REGIONS, columns_of

UNITS = np.array([feature.unit for feature in FEATURES])
SCALES = {"HU": (-500, 50), "times": (10, 2), "share": (0.3, 0.1), "plain": (1, 0.5)}


def features_of(seed, count, *, nodules=None):
    """Plausible values; only the first ``nodules`` slices show one."""
    generator = np.random.default_rng(seed)
    middle, width = (np.array([SCALES[unit][place] for unit in UNITS]) for place in (0, 1))
    features = middle + width * np.clip(generator.normal(size=(count, len(FEATURES))), -3, 3)
    if nodules is not None:
        features[nodules:, columns_of("nodules")] = np.nan
    return features.astype(np.float32)


def scans_of(count, per_scan=2):
    return [f"scan {index // per_scan}" for index in range(count)]


def column(region, name):
    (index,) = [
        place for place, feature in enumerate(FEATURES) if (feature.region, feature.name) == (region, name)
    ]
    return index


def written_out(real, synthetic, region, standard=None):
    """Logarithms, standardised on real, and pytorch-fid's distance, over the slices that show the region."""
    standard = real if standard is None else standard
    sides = []
    for features in (real, synthetic, standard):
        values = features[:, columns_of(region)].astype(float)
        values = values[~np.isnan(values).any(axis=1)]
        ratio = UNITS[columns_of(region)] == "times"
        values[:, ratio] = np.log(values[:, ratio])
        sides.append(values)
    mean, deviation = sides[2].mean(axis=0), sides[2].std(axis=0, ddof=1)
    first, second = (np.minimum(np.maximum((side - mean) / deviation, -5), 5) for side in sides[:2])
    return calculate_frechet_distance(
        first.mean(axis=0), np.cov(first, rowvar=False), second.mean(axis=0), np.cov(second, rowvar=False)
    )


def test_distances_of_the_regions_equal_those_of_pytorch_fid():
    real, synthetic = features_of(0, 90, nodules=60), features_of(1, 70, nodules=40)
    synthetic[:, column("lungs", "median")] += 80
    distances = radiomic_distances(real, synthetic, REGIONS)
    for region in REGIONS:
        assert distances[region] == pytest.approx(written_out(real, synthetic, region), rel=1e-5)
    assert distances["lungs"] > 2


def test_a_slice_far_from_all_others_counts_as_five_standard_deviations():
    """And halves are standardised on all real slices: one without emphysema makes no other scale."""
    real, synthetic = features_of(0, 90), features_of(1, 70)
    emphysema = column("lungs", "share of low attenuation")
    real[:, emphysema] = synthetic[:, emphysema] = 0.0
    real[:4, emphysema] = synthetic[0, emphysema] = 0.4
    half = real[4:50]
    distance = radiomic_distances(half, synthetic, ("lungs",), standard=real)["lungs"]
    assert distance == pytest.approx(written_out(half, synthetic, "lungs", real), rel=1e-5)
    alone = radiomic_distances(half, synthetic, ("lungs",))["lungs"]
    assert alone < distance + 5**2
    # One of 70 slices, 200 of the smallest deviations away: without the limit 70 ** -1 * 200 ** 2 at least.
    synthetic[0, emphysema] = 1.0
    assert radiomic_distances(half, synthetic, ("lungs",))["lungs"] == pytest.approx(alone, rel=1e-6)


def test_a_region_that_few_slices_show_is_left_out():
    real = features_of(0, 30, nodules=3)
    assert regions_in_both(real, features_of(1, 30)) == ("lungs", "body")
    assert regions_in_both(features_of(0, 30, nodules=4), features_of(1, 30)) == REGIONS
    # A half without the region adds nothing.
    assert radiomic_distances(features_of(0, 9, nodules=1), real, REGIONS)["nodules"] == 0.0


def test_p_value_equals_that_of_the_distances_of_every_permutation():
    real, synthetic = features_of(2, 40, nodules=20), features_of(3, 30, nodules=18)
    synthetic[:, column("body", "median")] += 15
    permutations = permute_scans(scans_of(40), scans_of(30, 3), np.random.default_rng(0), 99)
    pooled = comparable(np.concatenate([real, synthetic]))
    values = []
    for sides in permutations.first:
        first, total = sides[permutations.units], 0.0
        for region in REGIONS:
            features = pooled[:, columns_of(region)]
            there = permutations.taking_part & ~np.isnan(features).any(axis=1)
            features = features / features[there].std(axis=0, ddof=1)
            total += frechet_distance_of_features(features[first & there], features[~first & there])
        values.append(total)
    expected = (1 + sum(value >= values[0] for value in values[1:])) / 100
    assert radiomic_p_value(real, synthetic, REGIONS, permutations) == expected
    assert 0.01 < expected < 0.99


def test_slices_of_which_each_is_far_away_have_the_smallest_p_value():
    real, synthetic = features_of(2, 40, nodules=20), features_of(3, 30, nodules=18)
    synthetic[:, column("lungs", "median")] += 200
    permutations = permute_scans(scans_of(40), scans_of(30), np.random.default_rng(0), 199)
    assert radiomic_p_value(real, synthetic, REGIONS, permutations) == 0.005


def test_what_moved_is_named_with_its_medians_and_in_standard_deviations():
    real, synthetic = features_of(4, 60), features_of(5, 60)
    brightness = column("lungs", "median")
    noise = column("body", "noise (20th percentile of the local standard deviation)")
    synthetic[:, brightness] = real[:, brightness] + 190
    synthetic[:, noise] = real[:, noise] * 3
    permutations = permute_scans(scans_of(60), scans_of(60), np.random.default_rng(0), 199)
    noisier, brighter, third, *_ = feature_shifts(real, synthetic, REGIONS, permutations)
    assert (brighter.region, brighter.name, brighter.unit) == ("lungs", "median", "HU")
    assert brighter.synthetic_median - brighter.real_median == pytest.approx(190, abs=0.01)
    assert brighter.shift == pytest.approx(190 / real[:, brightness].std(ddof=1), rel=1e-5)
    assert (noisier.region, noisier.unit) == ("body", "times")
    assert noisier.synthetic_median == pytest.approx(3 * noisier.real_median)
    assert noisier.shift == pytest.approx(np.log(3) / np.log(real[:, noise]).std(ddof=1), rel=1e-4)
    assert brighter.p_value == noisier.p_value == 0.005
    assert third.p_value > 0.05


def test_without_a_test_the_shifts_have_no_p_value():
    shifts = feature_shifts(features_of(4, 9), features_of(5, 9, nodules=0), ("lungs", "body"), None)
    assert {shift.region for shift in shifts} == {"lungs", "body"}
    assert {shift.p_value for shift in shifts} == {None}


def test_a_feature_that_real_slices_all_share_gives_a_finite_distance():
    real, synthetic = features_of(0, 30), features_of(1, 30)
    real[:, column("body", "share of bone")] = 0.0
    synthetic[:, column("body", "area")] = 0.0
    assert np.isfinite(radiomic_distances(real, synthetic, REGIONS)["body"])
