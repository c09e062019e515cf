import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lungforge.ct import classes
from lungforge.metrics.map_agreement import dice, segment_and_compare

SIDE = 96
SPACING = (3.5, 3.5)


def ellipse(row, column, height, width):
    rows, columns = np.mgrid[:SIDE, :SIDE]
    return ((rows - row) / height) ** 2 + ((columns - column) / width) ** 2 < 1


@pytest.fixture
def label():
    label = np.where(ellipse(48, 48, 34, 44), np.uint8(classes.BODY), np.uint8(0))
    label[ellipse(48, 28, 24, 14)] = classes.RIGHT_LUNG
    label[ellipse(48, 68, 24, 14)] = classes.LEFT_LUNG
    return label


def rendered(label):
    """A slice that follows its map, with the noise that separates lungs from gas."""
    levels = np.array([-1000, 30, -830, -830, -980, 20])
    noise = np.random.default_rng(0).normal(scale=40, size=label.shape) * (label != classes.BACKGROUND)
    return np.clip(levels[label] + noise, -1000, 400).astype(np.int16)


def test_a_slice_that_is_what_its_map_says_is_segmented_as_its_map(label):
    agreement = segment_and_compare(rendered(label), label, SPACING)
    assert agreement.dice["body"] > 0.98
    assert agreement.dice["lungs"] > 0.98
    # Left and right are the patient's.
    assert (agreement.anatomy[ellipse(48, 68, 10, 8)] == classes.LEFT_LUNG).all()
    assert (agreement.anatomy[ellipse(48, 28, 10, 8)] == classes.RIGHT_LUNG).all()


def test_a_missing_lung_lowers_the_overlap_in_proportion(label):
    without = np.where(label == classes.LEFT_LUNG, classes.BODY, label)
    agreement = segment_and_compare(rendered(without), label, SPACING)
    # One of two equal lungs: 2 * 1 / (2 + 1).
    assert agreement.dice["lungs"] == pytest.approx(2 / 3, abs=0.02)
    assert agreement.dice["body"] > 0.98


def test_a_shifted_slice_has_the_overlap_of_shifted_masks(label):
    shifted = np.roll(label, 9, axis=0)
    agreement = segment_and_compare(rendered(shifted), label, SPACING)
    for name, inside in (("body", label > 0), ("lungs", label >= classes.LEFT_LUNG)):
        assert agreement.dice[name] == pytest.approx(dice(np.roll(inside, 9, axis=0), inside), abs=0.02)


def test_nodules_count_neither_for_nor_against_the_lungs(label):
    large = ellipse(48, 28, 12, 10)
    mapped = np.where(large, np.uint8(classes.NODULE), label)
    agreement = segment_and_compare(rendered(mapped), mapped, SPACING)
    assert agreement.dice["lungs"] > 0.97
    # A nodule that is missing from the image shows in the contrast, not here.
    ignored = segment_and_compare(rendered(label), mapped, SPACING)
    assert ignored.dice["lungs"] > 0.97


def test_a_structure_that_neither_map_nor_image_holds_has_no_overlap(label):
    belly = np.where(label > 0, np.uint8(classes.BODY), np.uint8(0))
    assert set(segment_and_compare(rendered(belly), belly, SPACING).dice) == {"body"}
    assert segment_and_compare(rendered(label), belly, SPACING).dice["lungs"] == 0.0
    empty = np.zeros((SIDE, SIDE), np.uint8)
    assert segment_and_compare(rendered(empty), empty, SPACING).dice == {}


@settings(deadline=None)
@given(bits=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_dice_is_that_of_sets(bits):
    masks = np.array(bits).T
    first, second = (set(np.flatnonzero(mask).tolist()) for mask in masks)
    if not first | second:
        assert dice(*masks) is None
    else:
        assert dice(*masks) == pytest.approx(2 * len(first & second) / (len(first) + len(second)))
        assert dice(*masks) == dice(*masks[::-1])
