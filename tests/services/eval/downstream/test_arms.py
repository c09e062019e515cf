"""The arms: which pictures each is trained on."""

import numpy as np
import pytest

from lungforge.errors import InputError
from services.eval.downstream.arms import Arm, all_arms, compose, require_enough, training_scans
from services.eval.downstream.examples import Examples


def _examples(first: int, count: int, scans: int, nodules: bool = True) -> Examples:
    """Pictures whose every pixel says which they are; each with a nodule, a nodule's crop and another."""
    numbers = np.arange(first, first + count, dtype=np.int16)
    crops = np.repeat(numbers, 2)
    return Examples(
        pictures=np.broadcast_to(numbers[:, None, None], (count, 4, 4)),
        boxes=tuple(((1.0, 1.0, float(number + 1), 1.0),) if nodules else () for number in numbers),
        diameters_mm=tuple((5.0,) if nodules else () for _ in numbers),
        crops=np.broadcast_to(crops[:, None, None], (2 * count, 32, 32)),
        crop_is_nodule=np.tile([nodules, False], count),
        crop_pictures=np.repeat(np.arange(count), 2),
        scans=tuple(f"scan-{number % scans}" for number in range(count)),
    )


REAL, SYNTHETIC = _examples(0, 20, 5), _examples(100, 50, 5)
EVERY = frozenset(f"scan-{number}" for number in range(5))


def _arm(key: str) -> Arm:
    (arm,) = (arm for arm in all_arms(["gan", "sdm"], [0.5, 2]) if arm.key == key)
    return arm


def _numbers(pictures: np.ndarray) -> list[int]:
    return pictures[:, 0, 0].tolist()


def test_every_arm_of_the_protocol_is_there() -> None:
    assert [arm.name for arm in all_arms(["gan", "sdm"], [0.5, 2])] == [
        "real",
        "real, classic augmentation",
        "real + 2 x copies of real",
        "real + 0.5 x gan",
        "real + 2 x gan",
        "gan only",
        "real + 0.5 x sdm",
        "real + 2 x sdm",
        "sdm only",
    ]
    keys = [arm.key for arm in all_arms(["gan", "sdm"], [0.5, 2])]
    assert len(set(keys)) == len(keys)


def test_what_an_arm_adds_is_so_many_times_the_real_ones() -> None:
    half, twice = (compose(_arm(f"set1-{ratio}x"), REAL, SYNTHETIC, EVERY, 0) for ratio in ("0.5", "2"))
    assert _numbers(half.pictures)[:20] == list(range(20))
    added = [set(_numbers(training.pictures)[20:]) for training in (half, twice)]
    assert [len(each) for each in added] == [10, 40]
    # The larger arm holds the smaller, so that only the count differs.
    assert added[0] < added[1]
    assert min(added[1]) >= 100
    assert len(half.crops) == 2 * 30
    assert half.crop_is_nodule.sum() == 30
    # Boxes and crops are of the same pictures.
    assert [boxes[0][2] - 1 for boxes in half.boxes] == _numbers(half.pictures)
    assert _numbers(half.crops[half.crop_is_nodule]) == _numbers(half.pictures)
    other = compose(_arm("set1-0.5x"), REAL, SYNTHETIC, EVERY, 1)
    assert set(_numbers(other.pictures)[20:]) != added[0]


def test_controls_and_synthetic_alone() -> None:
    real = compose(_arm("real"), REAL, None, EVERY, 0)
    classic = compose(_arm("classic"), REAL, None, EVERY, 0)
    assert _numbers(real.pictures) == _numbers(classic.pictures) == list(range(20))
    assert (_arm("real").augment, _arm("classic").augment) == (False, True)
    only = compose(_arm("set0-only"), REAL, SYNTHETIC, EVERY, 0)
    assert len(only.pictures) == 40
    assert min(_numbers(only.pictures)) >= 100


def test_a_fold_leaves_its_scans_out_of_both_sides() -> None:
    folds = [training_scans(REAL.scans, 3, fold, 7) for fold in range(3)]
    left_out = [EVERY - fold for fold in folds]
    assert sorted(scan for scans in left_out for scan in scans) == sorted(EVERY)
    assert sorted(len(scans) for scans in left_out) == [1, 2, 2]
    assert training_scans(REAL.scans, 1, 0, 7) == EVERY
    assert folds != [training_scans(REAL.scans, 3, fold, 8) for fold in range(3)]
    training = compose(_arm("set0-2x"), REAL, SYNTHETIC, folds[0], 0)
    scans = [
        f"scan-{number % 5 if number < 100 else (number - 100) % 5}" for number in _numbers(training.pictures)
    ]
    assert set(scans) == folds[0]
    with_real = sum(number < 100 for number in _numbers(training.pictures))
    assert with_real == 4 * len(folds[0])
    # Twice as many, or all there are of those scans.
    assert len(scans) - with_real == min(2 * with_real, 10 * len(folds[0]))


def test_pictures_without_a_nodule_are_for_classification_only() -> None:
    removed = _examples(100, 50, 5, nodules=False)
    training = compose(_arm("set0-0.5x"), REAL, removed, EVERY, 0)
    assert len(training.pictures) == 20
    assert (len(training.crops), training.crop_is_nodule.sum()) == (60, 20)


def test_too_few_are_refused() -> None:
    require_enough("gan", SYNTHETIC, REAL, [0.5, 2.5], [EVERY])
    with pytest.raises(
        InputError, match=r"gan has 50 slices .* ratio 3 to 20 real ones asks for 60; generate more"
    ):
        require_enough("gan", SYNTHETIC, REAL, [0.5, 3], [EVERY])


def test_too_few_of_the_scans_of_one_fold_are_refused() -> None:
    # Plenty in all, but none of the scans 3 and 4.
    uneven = _examples(100, 60, 3)
    folds = [frozenset({"scan-0", "scan-1", "scan-2"}), frozenset({"scan-2", "scan-3", "scan-4"})]
    require_enough("gan", uneven, REAL, [1], [EVERY])
    require_enough("gan", uneven, REAL, [1], folds)
    with pytest.raises(InputError, match=r"20 slices .* a fold trains on.* 12 real .* for 24;"):
        require_enough("gan", uneven, REAL, [2], folds)
