"""Models in this process: the images of the command line, whatever is sampled beside them."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import lungforge
from lungforge.ct.edits import surroundings
from lungforge.datasets import Dataset, DatasetWriter, Kind, rows_from_table
from lungforge.datasets.slices import SliceRow, index_rows
from lungforge.errors import ContentError, InputError
from lungforge.models.base import SamplingOptions
from lungforge.models.model_dataset import ModelDataset
from services.sample.config import SampleConfig
from services.sample.plan import make_plan
from services.sample.worker import SamplingRun, UnitSampler, check_model
from tests.services.sample.conftest import make_model


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """As a worker of one CPU computes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def _by_command_line(model: str, slices: str, out: Path, **options: Any) -> list[dict[str, Any]]:
    """The rows that `lungforge sample` writes, without Ray around it."""
    config = SampleConfig(model=model, data=slices, out=str(out), **options)
    opened, data = ModelDataset.open(model), Dataset.open(slices)
    writer = DatasetWriter(
        config.out, Kind.SAMPLES, {}, seed=0, parents=(opened.dataset.parent(), data.parent())
    )
    index = index_rows(data, config.subsets)
    patch = check_model(opened, index, inpaint=config.inpaint)
    run = SamplingRun(config, opened.dataset.parent(), patch, index, writer)
    plan, sampler = make_plan(config, index), UnitSampler(run, torch.device("cpu"))
    parts = [sampler.sample(plan.unit(number)) for number in range(len(plan))]
    return [row for part in parts for row in rows_from_table(_table(writer, part.name))]


def _table(writer: DatasetWriter, name: str) -> Any:
    found = writer.find_rows(name.removeprefix("part-").removesuffix(".parquet"))
    assert found is not None
    return found[1]


def test_images_are_those_of_the_command_line(model: str, slices: str, tmp_path: Path) -> None:
    rows = _by_command_line(model, slices, tmp_path, per_map=2, seed=3, steps=3, guidance=2.0)
    images = lungforge.load_model(model, device="cpu").sample(
        lungforge.open_slices(slices), n=2, seed=3, steps=3, guidance=2.0
    )
    assert images.dtype == np.int16
    # To the last bit: the batches are the same.
    assert np.array_equal(images, np.stack([row["image"] for row in rows]))


def test_edited_slices_are_sampled_as_by_the_command_line(model: str, slices: str, tmp_path: Path) -> None:
    rows = _by_command_line(model, slices, tmp_path, edits=(("remove", 1.0),), steps=2, sampler="ddim")
    edited = [
        lungforge.edit_map(row, "remove") for row in lungforge.open_slices(slices).rows() if row.nodules
    ]
    images = lungforge.load_model(model, device="cpu").sample(edited, steps=2, sampler="ddim")
    assert np.array_equal(images, np.stack([row["image"] for row in rows]))


def test_an_image_does_not_depend_on_the_others(model: str, slices: str) -> None:
    loaded, opened = lungforge.load_model(model, device="cpu"), lungforge.open_slices(slices)
    every = loaded.sample(opened, n=2, steps=2).reshape(12, 2, 16, 16)
    some = loaded.sample([opened.row(7), opened.row(2)], n=3, steps=2).reshape(2, 3, 16, 16)
    for ours, theirs in zip(some[:, :2], every[[7, 2]], strict=True):
        assert np.abs(ours.astype(int) - theirs).max() <= 1
    assert len({image.tobytes() for image in every.reshape(24, -1)}) == 24
    again = loaded.sample(opened.row(7), seed=1, steps=2)
    assert np.abs(again[0].astype(int) - every[7, 0]).mean() > 20


def test_rows_items_and_slices_give_the_same(model: str, slices: str) -> None:
    loaded, opened = lungforge.load_model(model, device="cpu"), lungforge.open_slices(slices, 1)
    images = loaded.sample(opened, steps=2)
    assert images.shape == (4, 16, 16)
    for given in (opened.rows(), list(opened), [opened[0], opened.row(1), opened[2], opened.row(3)]):
        assert np.array_equal(loaded.sample(given, steps=2), images)
    assert np.abs(loaded.sample(opened[2], steps=2).astype(int) - images[2]).max() <= 1


def test_maps_are_named_by_their_content(model: str, slices: str) -> None:
    loaded, opened = lungforge.load_model(model, device="cpu"), lungforge.open_slices(slices)
    maps = np.stack([row.label for row in opened.rows([1, 4, 1])])
    images = loaded.sample(maps, n=2, steps=2).reshape(3, 2, 16, 16)
    assert np.array_equal(images[0], images[2])
    assert not np.array_equal(images[0, 0], images[0, 1])
    assert np.abs(loaded.sample(maps[1:2], steps=2)[0].astype(int) - images[1, 0]).max() <= 1
    (batch,) = DataLoader(opened, batch_size=12)
    of_batch = loaded.sample(batch["label"], n=2, steps=2).reshape(12, 2, 16, 16)
    assert np.abs(of_batch[[1, 4]].astype(int) - images[:2]).max() <= 1


def test_a_place_reaches_the_network(model: str, slices: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded, given = lungforge.load_model(model, device="cpu"), []
    sampler = loaded._sampler(SamplingOptions())
    monkeypatch.setattr(type(sampler), "sample", lambda _, labels, __, places: given.append(places) or labels)
    loaded.sample(lungforge.open_slices(slices, patches=16)[0])
    loaded.sample(lungforge.open_slices(slices).row(0).label[None])
    loaded.sample(lungforge.open_slices(slices).row(0).label[None], spacing_mm=(0.8, 0.7))
    assert given[0][0].tolist() == pytest.approx([np.log(0.8 * 0.7) / 2, 0, 0, 1])
    assert given[1] is None
    assert given[2].tolist() == given[0].tolist()


def test_inpainting_changes_the_surroundings_of_the_edit_only(
    model: str, slices: str, tmp_path: Path
) -> None:
    loaded, opened = lungforge.load_model(model, device="cpu"), lungforge.open_slices(slices)
    rows = [row for row in opened.rows() if row.nodules]
    edited = [lungforge.edit_map(row, "remove") for row in rows]
    images = loaded.inpaint(edited, steps=3, seed=2)
    for row, each, image in zip(rows, edited, images, strict=True):
        inside = surroundings(each.changed, row.spacing_mm)
        assert np.array_equal(image[~inside], row.image[~inside])
        assert np.abs(image[inside].astype(int) - row.image[inside]).mean() > 20
    # Removing a nodule leaves nothing to chance, so that the command line edits the same.
    written = _by_command_line(
        model, slices, tmp_path, edits=(("remove", 1.0),), inpaint=True, steps=3, seed=2
    )
    assert np.array_equal(images, np.stack([row["image"] for row in written]))
    assert loaded.inpaint(edited[0], n=2, steps=3, seed=2).shape == (2, 16, 16)


def test_a_gaugan_samples_and_cannot_inpaint(gaugan: str, slices: str, tmp_path: Path) -> None:
    loaded, opened = lungforge.load_model(gaugan, device="cpu"), lungforge.open_slices(slices)
    rows = _by_command_line(gaugan, slices, tmp_path)
    assert np.array_equal(loaded.sample(opened), np.stack([row["image"] for row in rows]))
    with pytest.raises(InputError, match="which cannot inpaint; use sample"):
        loaded.inpaint(lungforge.edit_map(opened.row(1), "remove"))


def test_a_model_knows_what_it_is(model: str) -> None:
    shipped = lungforge.load_model("slices-64", device="cpu")
    assert shipped.size == 64
    assert len(shipped.series_uids) > 100
    assert repr(shipped) == "<the semantic diffusion model, 64 px, lungforge://slices-64, on cpu>"
    other = lungforge.load_model(model, device="cpu")
    assert (other.size, other.series_uids) == (16, ())


def test_what_cannot_be_sampled_is_named(model: str, slices: str, tmp_path: Path) -> None:
    loaded, opened = lungforge.load_model(model, device="cpu"), lungforge.open_slices(slices)
    with pytest.raises(InputError, match=r"16 x 16 px and the map has 32 x 32; open the slices with size=16"):
        loaded.sample(lungforge.open_slices(slices, size=32))
    patches = lungforge.load_model(make_model(str(tmp_path / "patches"), patch=16), device="cpu")
    with pytest.raises(InputError, match="open the slices with patches=16, as it was trained on patches"):
        patches.sample(lungforge.open_slices(slices, size=32))
    with pytest.raises(InputError, match=r"0 maps and n = 1; give at least one map"):
        loaded.sample([])
    with pytest.raises(InputError, match=r"12 maps and n = 0"):
        loaded.sample(opened, n=0)
    with pytest.raises(InputError, match=r"the shape \(16, 16\); give \[maps, height, width\]"):
        loaded.sample(opened.row(0).label)
    with pytest.raises(InputError, match="--steps is 0"):
        loaded.sample(opened, steps=0)
    with pytest.raises(InputError, match="spacing_mm is for maps; slices have their own"):
        loaded.sample(opened, spacing_mm=(1.0, 1.0))
    with pytest.raises(InputError, match="inpaint takes slices with an edited map"):
        loaded.inpaint([opened.row(0)])  # type: ignore[list-item]
    with pytest.raises(InputError, match="another edit than none"):
        loaded.inpaint(lungforge.edit_map(opened.row(0), "none"))
    with pytest.raises(InputError, match="device is 'nowhere', which does not work here"):
        lungforge.load_model(model, device="nowhere")
    with pytest.raises(InputError, match=r"slices-65: no manifest.json"):
        lungforge.load_model("slices-65")
    five = make_model(str(tmp_path / "five"), classes=5)
    with pytest.raises(InputError, match="has 5 classes and the maps of LungForge have 6"):
        lungforge.load_model(five)


def test_values_that_are_not_finite_are_refused(
    model: str, slices: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, opened = lungforge.load_model(model, device="cpu"), lungforge.open_slices(slices)
    with torch.no_grad():
        for parameter in loaded._network.parameters():
            parameter.fill_(torch.nan)
    with pytest.raises(ContentError, match="image 0 is not finite; the model is broken"):
        loaded.sample(opened, steps=2)


def test_a_slice_is_not_changed(model: str, expected: list[SliceRow]) -> None:
    row = expected[3]
    before = dataclasses.replace(row, image=row.image.copy(), label=row.label.copy())
    lungforge.load_model(model, device="cpu").sample([row], steps=2)
    assert np.array_equal(row.image, before.image)
    assert np.array_equal(row.label, before.label)
