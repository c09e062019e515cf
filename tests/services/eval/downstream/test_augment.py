"""Augmentation: the boxes go where the nodules go."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.eval.downstream.augment import augment


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(0, 15), st.integers(0, 13), st.integers(2, 3), st.integers(2, 5)
)
def test_a_box_stays_around_its_nodule(seed: int, left: int, top: int, width: int, height: int) -> None:
    picture = np.full((20, 20), -1000, np.int16)
    picture[top : top + height, left : left + width] = 3000
    changed, boxes = augment(picture, [(left, top, width, height)], np.random.default_rng(seed))
    rows, columns = np.nonzero(changed > 1000)
    if not len(boxes):
        # Moved out of the picture by its centre: less than half of it is left.
        assert len(rows) <= width * height / 2
        return
    assert boxes == [
        (
            columns.min(),
            rows.min(),
            columns.max() + 1 - columns.min(),
            rows.max() + 1 - rows.min(),
        )
    ]


def test_every_turn_and_mirror_comes_up_and_the_same_seed_does_the_same() -> None:
    picture = np.full((21, 21), -800, np.int16)
    picture[2:5, 8:10] = 500
    box = [(8.0, 2.0, 2.0, 3.0)]
    tall = [augment(picture, box, np.random.default_rng(seed))[1][0] for seed in range(64)]
    assert {(width, height) for _, _, width, height in tall} == {(2.0, 3.0), (3.0, 2.0)}
    # Sides of the picture that the nodule is moved to: 4 turns, each mirrored or not.
    sides = {(left < 6, top < 6, left > 12, top > 12) for left, top, _, _ in tall}
    assert len([side for side in sides if sum(side) == 1]) == 4
    first, second = (augment(picture, box, np.random.default_rng(5)) for _ in range(2))
    assert (first[0] == second[0]).all()
    assert first[1] == second[1]


def test_hounsfield_units_stay_near_and_valid() -> None:
    picture = np.full((16, 16), -1000, np.int16)
    means = [augment(picture, [], np.random.default_rng(seed))[0].mean() for seed in range(200)]
    # Contrast turns around -300 HU: 10 % of 700 HU and 40 HU of brightness, as standard deviations.
    assert 55 < np.std(means) < 105
    assert min(means) >= -1024
