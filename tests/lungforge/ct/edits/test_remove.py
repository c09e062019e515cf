import numpy as np

from lungforge.ct.classes import LEFT_LUNG
from lungforge.ct.edits.remove import remove


def parse_map(rows: list[str]) -> np.ndarray:
    return np.array([[int(value) for value in row] for row in rows], np.uint8)


def test_each_nodule_becomes_the_lung_around_it_or_body() -> None:
    before = parse_map(
        [
            "0111111111111",
            "0122211333111",
            "0125211353151",
            "0122511553111",  # the left one's two pixels meet at a corner; the right one is at the wall
            "0122211333111",
            "5411111111111",
        ]
    )
    edited = remove(before)
    assert edited is not None
    expected = parse_map(
        [
            "0111111111111",
            "0122211333111",
            "0122211333111",
            "0122211333111",
            "0122211333111",
            "1411111111111",
        ]
    )
    np.testing.assert_array_equal(edited.label, expected)
    np.testing.assert_array_equal(edited.changed, before == 5)
    assert edited.nodules == ()


def test_nodules_that_touch_become_one_lung() -> None:
    edited = remove(parse_map(["222233", "255553", "222233"]))
    assert edited is not None
    assert edited.label.tolist() == parse_map(["222233", "222223", "222233"]).tolist()


def test_a_map_without_nodules_has_nothing_to_remove() -> None:
    assert remove(np.full((4, 4), LEFT_LUNG, np.uint8)) is None
