import numpy as np
import pytest

from lungforge.metrics.memorisation import measure_memorisation, tail_rank


def scans(count, each):
    return [f"scan {number // each}" for number in range(count)]


def measure(training, synthetic, held_out, *, each=5, seed=7):
    return measure_memorisation(
        training,
        synthetic,
        scans(len(synthetic), each),
        held_out,
        scans(len(held_out), each),
        np.random.default_rng(seed),
    )


@pytest.fixture(scope="module")
def world():
    generator = np.random.default_rng(0)
    return {name: generator.normal(size=(400, 6)) for name in ("training", "held_out", "synthetic", "noise")}


def test_golden_ratio_of_medians():
    training = np.array([[0.0, 0], [10, 0]])
    synthetic = np.array([[0.0, 1], [10, 2], [7, 0]])  # 1, 2, 3 away
    held_out = np.array([[0.0, 4], [10, 8], [0, 6], [4, 0]])  # 4, 8, 6, 4 away
    distances = measure(training, synthetic, held_out, each=1)
    assert distances.synthetic.tolist() == [1, 2, 3]
    assert distances.held_out.tolist() == [4, 8, 6, 4]
    assert distances.nearest.tolist() == [0, 1, 1]
    assert distances.ratio == pytest.approx(2 / 5)
    assert distances.closer_than_5_percent == 1.0
    # Real images come no nearer than 4; one of five new ones would by chance.
    assert distances.tail_distance == 4
    assert distances.tail_share == 1.0
    assert distances.tail_expected == pytest.approx(1 / 5)


def test_the_tail_begins_below_all_but_1_percent():
    assert [tail_rank(count) for count in (1, 99, 199, 200, 1000)] == [1, 1, 1, 2, 10]


def test_one_memorised_image_in_twenty_is_seen_in_the_tail_and_not_in_the_median(world):
    synthetic = world["synthetic"].copy()
    synthetic[::20] = world["training"][::20] + 0.02 * world["noise"][::20]
    distances = measure(world["training"], synthetic, world["held_out"])
    assert distances.interval[0] < 1 < distances.interval[1]
    assert distances.tail_share == pytest.approx(0.05, abs=0.02)
    assert distances.tail_interval[0] > distances.tail_expected


def test_without_memorisation_the_tail_holds_what_is_expected():
    shares, expected = [], 0.0
    for seed in range(60):
        generator = np.random.default_rng(seed)
        training, synthetic, held_out = (generator.normal(size=(150, 3)) for _ in range(3))
        measured = measure(training, synthetic, held_out, each=1000)
        shares.append(measured.tail_share)
        expected = measured.tail_expected
    assert np.mean(shares) == pytest.approx(expected, abs=0.005)


def test_the_interval_of_the_tail_is_a_percentile_bootstrap_over_patients(world):
    found = measure(world["training"], world["synthetic"], world["held_out"], seed=3)
    generator, shares = np.random.default_rng(3), []
    ours, theirs = (values.reshape(80, 5) for values in (found.synthetic, found.held_out))
    for _ in range(1000):
        some, others = (side[generator.integers(80, size=80)].ravel() for side in (ours, theirs))
        shares.append(np.mean(some < np.sort(others)[tail_rank(400) - 1]))
    low, high = np.sort(shares)[[24, 974]]
    assert found.tail_interval == pytest.approx((low, high), abs=0.0026)


def test_images_of_the_real_distribution_have_a_ratio_of_1(world):
    distances = measure(world["training"], world["synthetic"], world["held_out"])
    assert distances.ratio == pytest.approx(1, abs=0.1)
    assert distances.interval[0] < 1 < distances.interval[1]
    assert distances.closer_than_5_percent == pytest.approx(0.05, abs=0.03)


def test_training_images_with_a_little_noise_are_seen(world):
    memorised = world["training"] + 0.05 * world["noise"]
    distances = measure(world["training"], memorised, world["held_out"])
    np.testing.assert_array_equal(distances.nearest, np.arange(400))
    assert distances.interval[1] < 0.3
    assert distances.closer_than_5_percent > 0.95


def test_images_far_from_everything_have_a_ratio_above_1(world):
    distances = measure(world["training"], world["synthetic"] + 20, world["held_out"])
    assert distances.interval[0] > 5


def test_the_interval_is_that_of_scans_not_of_slices(world):
    """Twenty equal slices of a scan say no more than one of them."""

    def width(each):
        repeated = np.repeat(world["synthetic"][: 400 // each], each, axis=0)
        low, high = measure(world["training"], repeated, world["held_out"], each=each).interval
        return high - low

    assert width(20) > 2 * width(1)


def test_depends_on_the_seed_only(world):
    first, again = (measure(world["training"], world["synthetic"], world["held_out"]) for _ in range(2))
    assert first.interval == again.interval


def test_without_something_to_compare_with_there_is_no_ratio(world):
    nothing = np.empty((0, 6))
    assert measure(nothing, world["synthetic"], world["held_out"]) is None
    assert measure(world["training"], world["synthetic"], nothing) is None
    # Held-out images that were trained on after all: their distances are 0.
    assert measure(world["training"], world["synthetic"], world["training"]) is None
    of_one = measure(world["training"], world["synthetic"], world["held_out"], each=1000)
    assert of_one.interval is None
    assert of_one.tail_interval is None
