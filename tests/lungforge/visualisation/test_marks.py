"""The sides of the patient and the sizes of nodules, as they are written into pictures."""

import numpy as np
import pytest

from lungforge.ct.classes import LEFT_LUNG, RIGHT_LUNG
from lungforge.visualisation import marks
from lungforge.visualisation.marks import mark_orientation, write_sizes
from tests.factories import nodule_at


def lungs(*, stored_turned: bool = False) -> np.ndarray:
    label = np.zeros((64, 64), np.uint8)
    label[20:40, 8:24], label[20:40, 40:56] = RIGHT_LUNG, LEFT_LUNG
    return label[::-1, ::-1] if stored_turned else label


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, marks.Box]]:
    """Words and places of what is written."""
    calls: list[tuple[str, marks.Box]] = []
    write = marks._write

    def note(drawing, words: str, box: marks.Box) -> None:
        calls.append((words, box))
        write(drawing, words, box)

    monkeypatch.setattr(marks, "_write", note)
    return calls


@pytest.mark.parametrize("shape", [(256, 256), (256, 256, 3)])
def test_the_right_is_on_the_left_and_the_front_on_top(written, shape: tuple[int, ...]) -> None:
    picture = np.full(shape, 60, np.uint8)
    marked = mark_orientation(picture, lungs())
    assert marked.shape == shape
    places = {side: ((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for side, box in written}
    assert places["R"][0] < 20
    assert places["L"][0] > 236
    assert places["A"][1] < 20
    assert places["P"][1] > 236
    assert abs(places["R"][1] - 128) < 1
    assert abs(places["A"][0] - 128) < 1
    assert (marked[128 - 60 : 128 + 60, 40:216] == 60).all(), "nothing is written inside"
    assert (picture == 60).all(), "the argument is not written on"


def test_the_marks_of_a_slice_that_is_stored_turned_are_true_too(written) -> None:
    mark_orientation(np.zeros((256, 256), np.uint8), lungs(stored_turned=True))
    places = dict(written)
    assert places["L"][0] < 20 < 236 < places["R"][2]
    assert places["P"][1] < 20 < 236 < places["A"][3]


def test_nothing_is_marked_where_the_sides_are_not_known_or_there_is_no_room() -> None:
    one_lung = lungs() * (lungs() != LEFT_LUNG)
    large, small = np.zeros((256, 256), np.uint8), np.zeros((64, 64), np.uint8)
    assert mark_orientation(large, one_lung.astype(np.uint8)) is large
    assert mark_orientation(small, lungs()) is small


@pytest.mark.parametrize("x", [6.0, 32.0, 58.0])
def test_labels_of_nodules_side_by_side_lie_on_nothing(written, x: float) -> None:
    """Six nodules of 4 px, 5 px apart: to the right of most is another one."""
    nodules = [
        nodule_at(x + column * 5 - 2, 30 + row * 5, 4.0, 4.0 + row) for row in range(3) for column in (0, 1)
    ]
    write_sizes(np.zeros((256, 256, 3), np.uint8), nodules, factor=4)
    boxes = [box for _, box in written]
    assert [words for words, _ in written] == ["4.0 mm", "4.0 mm", "5.0 mm", "5.0 mm", "6.0 mm", "6.0 mm"]
    discs = [
        tuple(
            value
            for value in ((n["x"] - 1.5) * 4, (n["y"] - 1.5) * 4, (n["x"] + 2.5) * 4, (n["y"] + 2.5) * 4)
        )
        for n in nodules
    ]
    for index, box in enumerate(boxes):
        assert box[0] >= 0 <= box[1]
        assert box[2] <= 256 >= box[3]
        others = boxes[:index] + boxes[index + 1 :] + discs
        assert not any(
            box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3]
            for other in others
        )


def test_a_lone_label_stands_to_the_right_in_the_middle(written) -> None:
    write_sizes(np.zeros((256, 256, 3), np.uint8), [nodule_at(20.0, 30.0, 5.0)], factor=4)
    ((words, box),) = written
    # The centre is at (20.5, 30.5) times 4, the radius 2.5 times 4, the gap 4, a line 18 high.
    assert (words, box[:2]) == ("5.0 mm", (82 + 10 + 4, 122 - 9))
