"""Edits of a slice's map: what the command line makes of it, and of maps of one's own."""

import dataclasses

import numpy as np
import pytest
from torch.utils.data import DataLoader

import lungforge
from lungforge.api.edits import nodules_of
from lungforge.ct.classes import LEFT_LUNG, NODULE
from lungforge.ct.edits import edit_map
from lungforge.datasets import Dataset
from lungforge.datasets.slices import SliceRow, index_rows
from lungforge.errors import InputError
from lungforge.models.model_dataset import ModelDataset
from lungforge.randomness import numpy_generator
from services.sample.config import SampleConfig
from services.sample.worker import SamplingRun, request_image
from tests.lungforge.api.conftest import equal

REAL = "lungforge://maps-64"


@pytest.fixture(scope="module")
def real() -> lungforge.SlicesDataset:
    return lungforge.open_slices(REAL, subsets=3)


def test_remove_takes_the_nodules_and_nothing_else(real: lungforge.SlicesDataset) -> None:
    for row in real.rows(range(8)):
        edited = lungforge.edit_map(row, "remove")
        assert (row.label == NODULE).any()
        assert np.array_equal(edited.changed, row.label == NODULE)
        assert np.array_equal(edited.label[~edited.changed], row.label[~edited.changed])
        assert not (edited.label == NODULE).any()
        assert edited.nodules == ()
        assert edited.edit == "remove"
        # The image is still the real one, with its nodule.
        assert equal(dataclasses.replace(edited, label=row.label, nodules=row.nodules), row)


@pytest.mark.parametrize("edit", ["move", "resize", "remove"])
def test_a_slice_is_edited_as_by_the_command_line(
    edit: str, expected: list[SliceRow], slices: str, model: str
) -> None:
    config = SampleConfig(model=model, data=slices, out="", edits=((edit, 1.0),), seed=5)  # type: ignore[arg-type]
    index = index_rows(Dataset.open(slices))
    run = SamplingRun(config, ModelDataset.open(model).dataset.parent(), None, index, writer=None)  # type: ignore[arg-type]
    row = expected[1]
    request = request_image(run, row, replicate=0)
    assert request is not None
    edited = lungforge.edit_map(row, edit, seed=5)  # type: ignore[call-overload]
    assert np.array_equal(edited.label, request.edited.label)
    assert edited.nodules == request.edited.nodules


def test_an_inserted_nodule_has_the_diameter_that_was_asked_for(expected: list[SliceRow]) -> None:
    edited = lungforge.edit_map(expected[0], "insert", diameters_mm=2.5, seed=1)
    (nodule,) = edited.nodules
    assert nodule["diameter_mm"] == 2.5
    # The area of the disc, in pixels of 0.8 mm x 0.7 mm.
    assert (edited.label == NODULE).sum() == round(np.pi * 1.25**2 / (0.8 * 0.7))


def test_the_seed_decides_the_edit(real: lungforge.SlicesDataset) -> None:
    row = real.row(0)
    places = {lungforge.edit_map(row, "move", seed=seed).nodules[0]["x"] for seed in (0, 1, 2, 0)}
    assert len(places) > 1
    one, other = (lungforge.edit_map(row, "move", seed=1) for _ in range(2))
    assert equal(one, other)


def test_items_are_edited_like_rows(real: lungforge.SlicesDataset) -> None:
    one, other = lungforge.edit_map(real[3], "move"), lungforge.edit_map(real.row(3), "move")
    assert equal(one, other)
    assert np.array_equal(one.changed, other.changed)


def test_maps_of_ones_own_need_their_spacing_only() -> None:
    label = np.full((64, 64), LEFT_LUNG, np.uint8)
    label[20:24, 40:44] = NODULE
    listed = nodules_of(label, (2.0, 0.5))
    (nodule,) = listed
    assert (nodule["x"], nodule["y"]) == (41.5, 21.5)
    assert nodule["diameter_px"] == pytest.approx(2 * np.sqrt(16 / np.pi))
    assert nodule["diameter_mm"] == pytest.approx(2 * np.sqrt(16 / np.pi))  # mm squared: 16 pixels of 1 mm2
    moved = lungforge.edit_map(label, "move", spacing_mm=(2.0, 0.5), seed=3)
    assert (moved.label == NODULE).sum() == 16
    assert not (moved.label[20:24, 40:44] == NODULE).any()
    told = lungforge.edit_map(label, "move", spacing_mm=(2.0, 0.5), seed=3, nodules=listed)
    assert np.array_equal(told.label, moved.label)
    assert moved.nodules[0]["x"] - nodule["x"] == np.argwhere(moved.label == NODULE)[0, 1] - 40


def test_wrong_edits_are_named(expected: list[SliceRow]) -> None:
    with pytest.raises(InputError, match="edit is 'grow'; choose one of none, move, resize, insert, remove"):
        lungforge.edit_map(expected[0], "grow")  # type: ignore[call-overload]
    with pytest.raises(InputError, match="move does not fit a map with no nodule; choose one of none, ins"):
        lungforge.edit_map(expected[0], "move")
    with pytest.raises(InputError, match="insert does not fit a map with 1 nodules"):
        lungforge.edit_map(expected[1], "insert")
    with pytest.raises(InputError, match="insert has no room in this map"):
        lungforge.edit_map(np.zeros((16, 16), np.uint8), "insert", spacing_mm=(1, 1))
    with pytest.raises(InputError, match="a map needs spacing_mm"):
        lungforge.edit_map(expected[0].label, "insert")  # type: ignore[call-overload]
    with pytest.raises(InputError, match=r"values from 0 to 6 \(uint8\); give whole numbers from 0 to 5"):
        lungforge.edit_map(np.eye(8, dtype=np.uint8) * 6, "insert", spacing_mm=(1, 1))
    with pytest.raises(InputError, match=r"the shape \(1, 8, 8\); give one \[height, width\]"):
        lungforge.edit_map(np.zeros((1, 8, 8), np.uint8), "insert", spacing_mm=(1, 1))
    with pytest.raises(InputError, match="a str is no slice; give a row or an item of"):
        lungforge.edit_map(REAL, "move")  # type: ignore[call-overload]
    with pytest.raises(InputError, match="spacing_mm and nodules are for maps"):
        lungforge.edit_map(expected[1], "move", spacing_mm=(1, 1))  # type: ignore[call-overload]


def test_items_that_are_no_slices_any_more_are_refused(slices: str) -> None:
    (batch,) = DataLoader(lungforge.open_slices(slices), batch_size=12)
    with pytest.raises(InputError, match=r"a batch of a DataLoader; give single items, or its maps: batch"):
        lungforge.edit_map(batch, "remove")
    scaled = lungforge.open_slices(slices, transforms=lambda item: item | {"image": item["image"] / 1400})
    with pytest.raises(InputError, match="not in HU any more, as transforms changed it; give a row"):
        lungforge.edit_map(scaled[1], "remove")
    images = lungforge.open_slices(slices, transforms=lambda item: {"image": item["image"]})
    with pytest.raises(InputError, match="a dict is no slice"):
        lungforge.edit_map(images[1], "remove")


def test_what_is_inserted_is_what_edits_of_the_library_make(expected: list[SliceRow]) -> None:
    """Only the identity of the random generator is added."""
    row = expected[2]
    generator = numpy_generator(4, row.series_uid, row.slice_index, 0, "insert", "edit")
    plain = edit_map(
        "insert",
        row.label,
        (),
        spacing_mm=row.spacing_mm,
        generator=generator,
        diameters_mm=np.array([1.5, 2.5]),
    )
    assert plain is not None
    ours = lungforge.edit_map(row, "insert", seed=4, diameters_mm=[1.5, 2.5])
    assert np.array_equal(ours.label, plain.label)
