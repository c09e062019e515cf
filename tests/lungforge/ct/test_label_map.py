import numpy as np

from lungforge.ct.classes import BODY, LEFT_LUNG, NODULE, RIGHT_LUNG, TRACHEA
from lungforge.ct.label_map import flip_label, label_map


def test_the_nodule_wins_over_every_other_class() -> None:
    anatomy = np.array([[0, BODY, LEFT_LUNG], [RIGHT_LUNG, TRACHEA, BODY]], np.uint8)
    everywhere = np.ones((2, 3), bool)
    assert (label_map(anatomy, [everywhere]) == NODULE).all()
    assert NODULE not in anatomy, "the argument is not modified"


def test_overlapping_nodules_are_joined() -> None:
    one = np.array([[True, True, False, False]])
    other = np.array([[False, True, True, False]])
    assert label_map(np.full((1, 4), LEFT_LUNG, np.uint8), [one, other]).tolist() == [[5, 5, 5, 2]]


def test_a_mirrored_patient_has_the_lungs_on_the_other_side() -> None:
    label = np.array([[[0, 1, 2, 3], [4, 5, 2, 0]]], np.uint8)
    assert flip_label(label).tolist() == [[[2, 3, 1, 0], [0, 3, 5, 4]]]
    np.testing.assert_array_equal(flip_label(flip_label(label)), label)
