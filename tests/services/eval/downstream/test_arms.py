"""The arms: which pictures each is trained on."""

import numpy as np

from services.eval.downstream.arms import Arm, all_arms, comparisons, compose, split_scans
from services.eval.downstream.examples import Examples


def _examples(first: int, count: int, scans: int, nodules: bool = True) -> Examples:
    """Pictures whose every pixel says which they are; each with a nodule, a nodule's crop and another."""
    numbers = np.arange(first, first + count, dtype=np.int16)
    crops = np.repeat(numbers, 2)
    return Examples(
        pictures=np.broadcast_to(numbers[:, None, None], (count, 4, 4)),
        boxes=tuple(((1.0, 1.0, float(number + 1), 1.0),) if nodules else () for number in numbers),
        diameters_mm=tuple((5.0,) if nodules else () for _ in numbers),
        pixel_mm=(1.0,) * count,
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
        "real + 2 x copies of real, classic augmentation",
        "real + 0.5 x gan, classic augmentation",
        "real + 2 x gan, classic augmentation",
        "gan only, classic augmentation",
        "real + 0.5 x sdm, classic augmentation",
        "real + 2 x sdm, classic augmentation",
        "sdm only, classic augmentation",
    ]
    keys = [arm.key for arm in all_arms(["gan", "sdm"], [0.5, 2])]
    assert len(set(keys)) == len(keys)


def test_every_arm_is_compared_with_the_references_before_it() -> None:
    arms = all_arms(["sdm"], [1])
    named = [(arms[one].key, arms[other].key) for one, other in comparisons(arms)]
    assert named == [
        ("classic", "real"),
        ("duplicates-1x", "real"),
        ("duplicates-1x", "classic"),
        *((key, other) for key in ("set0-1x", "set0-only") for other in ("real", "classic", "duplicates-1x")),
    ]


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


def test_what_validates_a_fold_is_on_neither_side_of_its_training() -> None:
    splits = [split_scans(REAL.scans, [True] * 20, 3, fold, 7) for fold in range(3)]
    assert sorted(scan for split in splits for scan in split.validation) == sorted(EVERY)
    assert sorted(len(split.validation) for split in splits) == [1, 2, 2]
    assert all(split.training | split.validation == EVERY for split in splits)
    assert all(not split.training & split.validation for split in splits)
    assert splits != [split_scans(REAL.scans, [True] * 20, 3, fold, 8) for fold in range(3)]
    training = compose(_arm("set0-2x"), REAL, SYNTHETIC, splits[0].training, 0)
    scans = [
        f"scan-{number % 5 if number < 100 else (number - 100) % 5}" for number in _numbers(training.pictures)
    ]
    assert set(scans) == splits[0].training
    with_real = sum(number < 100 for number in _numbers(training.pictures))
    assert with_real == 4 * len(splits[0].training)
    # Twice as many, or all there are of those scans.
    assert len(scans) - with_real == min(2 * with_real, 10 * len(splits[0].training))


def test_without_folds_a_fifth_of_the_scans_of_each_kind_validates() -> None:
    scans = [f"scan-{number // 2:02}" for number in range(60)]
    # Scans 0 to 9 show a nodule in one of their two slices, the others in none.
    shown = [number < 20 and number % 2 == 1 for number in range(60)]
    split = split_scans(scans, shown, 1, 0, 3)
    assert len(split.validation) == 6
    assert len({scan for scan in split.validation if scan < "scan-10"}) == 2
    assert split == split_scans(scans, shown, 1, 0, 3)
    # Two scans with a nodule are enough for both sides.
    few = split_scans(scans, [number < 4 for number in range(60)], 1, 0, 3)
    assert len(few.validation & {"scan-00", "scan-01"}) == 1


def test_examples_of_some_scans_keep_their_crops() -> None:
    chosen = REAL.of_scans(frozenset({"scan-1", "scan-3"}))
    assert _numbers(chosen.pictures) == [1, 3, 6, 8, 11, 13, 16, 18]
    assert set(chosen.scans) == {"scan-1", "scan-3"}
    assert _numbers(chosen.crops) == np.repeat(_numbers(chosen.pictures), 2).tolist()
    assert chosen.crop_pictures.tolist() == np.repeat(np.arange(8), 2).tolist()
    assert [boxes[0][2] - 1 for boxes in chosen.boxes] == _numbers(chosen.pictures)


def test_pictures_without_a_nodule_are_for_classification_only() -> None:
    removed = _examples(100, 50, 5, nodules=False)
    training = compose(_arm("set0-0.5x"), REAL, removed, EVERY, 0)
    assert len(training.pictures) == 20
    assert (len(training.crops), training.crop_is_nodule.sum()) == (60, 20)
