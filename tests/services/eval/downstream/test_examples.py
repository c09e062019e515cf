"""What is cut from slices and samples, and that both go the same way."""

import dataclasses

import numpy as np
import pytest

from lungforge.ct.classes import NODULE
from lungforge.datasets import Dataset
from lungforge.datasets.slices import SliceRow
from lungforge.errors import InputError
from services.eval.downstream.examples import CROP_PX, as_patches, examples_of, read_rows
from tests.factories import nodule_at, slice_of


@pytest.fixture(scope="module")
def slices(world) -> Dataset:
    return Dataset.open(str(world / "slices"))


def test_rows_of_slices_and_of_samples_are_alike(world, slices: Dataset) -> None:
    real = list(read_rows(slices, [0, 1, 2]))
    drawn = list(read_rows(Dataset.open(str(world / "drawn")), None))
    assert [row.series_uid for row in real] == [row.series_uid for row in drawn]
    assert {row.subset for row in real} == {0, 1, 2}
    assert len(real) == 18
    for one, other in zip(real, drawn, strict=True):
        assert (one.label == other.label).all()
        assert (one.slice_index, one.spacing_mm, one.nodules) == (
            other.slice_index,
            other.spacing_mm,
            other.nodules,
        )
        assert (one.image != other.image).any()


def test_a_nodule_gives_a_positive_crop_and_every_picture_a_negative_one(slices: Dataset) -> None:
    row = next(read_rows(slices, None))
    healthy = dataclasses.replace(row, nodules=(), label=np.where(row.label == NODULE, 2, row.label))
    examples = examples_of([row, healthy])
    assert examples.crop_is_nodule.tolist() == [True, False, False]
    assert examples.crop_pictures.tolist() == [0, 0, 1]
    # The map has its nodule in rows 30 to 33 and columns 42 to 45, the row says (45.5, 31.5): its middle.
    assert examples.boxes == (((42.0, 30.0, 4.0, 4.0),), ())
    assert examples.diameters_mm == ((3.0,), ())
    assert examples.with_nodules().tolist() == [0]
    top, left = 31 - CROP_PX // 2 + 1, 64 - CROP_PX  # as central as the right edge allows
    assert (examples.crops[0] == row.image[top : top + CROP_PX, left - 2 : left - 2 + CROP_PX]).all() or (
        examples.crops[0] == row.image[top : top + CROP_PX, left : left + CROP_PX]
    ).all()
    with pytest.raises(InputError, match="no slice to cut examples from"):
        examples_of([])


def _large() -> SliceRow:
    """A slice of 160 px whose pixels say where they are."""
    label = np.full((160, 160), 2, np.uint8)
    label[50:58, 100:108] = NODULE
    return slice_of(
        series_uid="scan-1",
        slice_index=7,
        spacing_mm=(0.7, 0.7),
        image=np.arange(160 * 160, dtype=np.int32).reshape(160, 160).astype(np.int16),
        label=label,
        nodules=[nodule_at(103.5, 53.5, 8.0, 5.6)],
    )


def test_patches_are_cut_elsewhere_for_each_copy_and_the_same_for_the_same() -> None:
    cuts = [next(as_patches([_large()], 64, 3, copy=copy)) for copy in (0, 1, 2, 0)]
    corners = [int(cut.image.astype(np.uint16)[0, 0]) for cut in cuts]
    assert corners[0] == corners[3]
    assert len(set(corners)) == 3
    for cut in cuts:
        assert cut.image.shape == (64, 64)
        (nodule,) = cut.nodules
        assert cut.label[round(nodule["y"]), round(nodule["x"])] == NODULE
    assert next(as_patches([_large()], None, 3, copy=1)) is not None
    assert next(as_patches([_large()], None, 3, copy=1)).image.shape == (160, 160)


def test_pictures_without_nodules_show_no_pixel_of_one() -> None:
    for seed in range(30):
        for cut in as_patches([_large()], 64, seed, copy=0, without_nodules=True):
            assert not (cut.label == NODULE).any()
            assert cut.nodules == ()
    assert list(as_patches([_large()], None, 0, copy=0, without_nodules=True)) == []
    everywhere = dataclasses.replace(_large(), label=np.full((160, 160), NODULE, np.uint8))
    assert list(as_patches([everywhere], 64, 0, copy=0, without_nodules=True)) == []
