"""Slices as a PyTorch dataset: the rows of the dataset, in any order, in any number of processes."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import ConcatDataset, DataLoader

import lungforge
from lungforge.api import slices as module
from lungforge.api.slices import SliceItem
from lungforge.datasets import Dataset
from lungforge.datasets.patches import Cut
from lungforge.datasets.slices import SliceRow
from lungforge.errors import ContentError, InputError
from tests.lungforge.api.conftest import equal


def test_rows_are_those_of_the_dataset(slices: str, expected: list[SliceRow]) -> None:
    opened = lungforge.open_slices(slices)
    assert len(opened) == len(expected) == 12
    for position in (11, 0, 5, -1):
        assert equal(opened.row(position), expected[position])
    assert all(equal(one, other) for one, other in zip(opened.rows(), expected, strict=True))
    assert opened.diameters_mm.tolist() == [1.5] * 6


def test_an_item_holds_all_of_its_row(slices: str, expected: list[SliceRow]) -> None:
    opened, row = lungforge.open_slices(slices), expected[3]
    item = opened[3]
    assert item["image"].dtype == torch.float32
    assert np.array_equal(item["image"].numpy(), row.image[None])
    assert item["label"].dtype == torch.uint8
    assert np.array_equal(item["label"].numpy(), row.label[None])
    assert item["nodule_count"] == 1
    assert item["nodules"].shape == (16, 4)
    assert item["nodules"][0].tolist() == [6.5, 7.5, 2.0, 1.5]
    assert item["nodules"][1:].isnan().all()
    assert item["spacing_mm"].tolist() == [0.8, 0.7]
    assert (item["series_uid"], item["slice_index"], item["subset"]) == ("scan-0", 3, 0)
    assert (item["corner"].tolist(), item["slice_px"].tolist()) == ([0, 0], [16, 16])
    assert set(item) == set(SliceItem.__annotations__)
    item["label"].zero_()
    assert opened[3]["label"].any(), "what is done to an item stays in it"


def test_the_default_loader_makes_batches(slices: str) -> None:
    batches = list(DataLoader(lungforge.open_slices(slices), batch_size=8))
    assert [batch["image"].shape for batch in batches] == [(8, 1, 16, 16), (4, 1, 16, 16)]
    assert batches[0]["nodules"].shape == (8, 16, 4)
    assert batches[0]["nodule_count"].tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
    assert batches[1]["series_uid"] == ["scan-2"] * 4


@pytest.mark.parametrize("context", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_processes_of_a_loader_give_the_same(slices: str, context: str) -> None:
    opened = lungforge.open_slices(slices, patches=8)
    alone = list(DataLoader(opened, batch_size=5))
    two = list(DataLoader(opened, batch_size=5, num_workers=2, multiprocessing_context=context))
    for one, other in zip(alone, two, strict=True):
        for name in ("image", "label", "corner", "spacing_mm"):
            assert torch.equal(one[name], other[name])
        assert torch.equal(one["nodules"].nan_to_num(-1), other["nodules"].nan_to_num(-1))
        assert one["series_uid"] == other["series_uid"]


def test_pickled_slices_carry_no_images(slices: str) -> None:
    opened = lungforge.open_slices(slices)
    before = len(pickle.dumps(opened))
    opened.rows()
    assert len(pickle.dumps(opened)) == before
    assert equal(pickle.loads(pickle.dumps(opened)).row(4), opened.row(4))


def test_real_and_synthetic_slices_go_into_one_batch(slices: str, samples: str) -> None:
    both = ConcatDataset([lungforge.open_slices(slices), lungforge.open_slices(samples)])
    (batch,) = DataLoader(both, batch_size=20)
    assert batch["image"].shape == (14, 1, 16, 16)


def test_samples_are_named_by_their_maps(samples: str) -> None:
    opened = lungforge.open_slices(samples, subsets=4)
    assert [(row.series_uid, row.slice_index, len(row.nodules)) for row in opened.rows()] == [
        ("scan-9", 7, 0),
        ("scan-9", 8, 1),
    ]
    assert (opened.row(1).image == 8).all()


def test_subsets_are_one_or_several(slices: str, expected: list[SliceRow]) -> None:
    assert [row.subset for row in lungforge.open_slices(slices, 1).rows()] == [1] * 4
    two = lungforge.open_slices(slices, subsets=[0, 2])
    assert [row.subset for row in two.rows()] == [0] * 4 + [2] * 4
    assert equal(two.row(5), expected[9])


def test_patches_are_cut_as_evaluation_cuts_them(slices: str, expected: list[SliceRow]) -> None:
    dataset = Dataset.open(slices)
    corners = np.concatenate([Cut(8, seed=3).corners(dataset.read_part(part)) for part in dataset.parts])
    opened = lungforge.open_slices(slices, patches=8, seed=3)
    for position, ((top, left), whole) in enumerate(zip(corners.tolist(), expected, strict=True)):
        item, row = opened[position], opened.row(position)
        assert item["corner"].tolist() == [top, left]
        assert item["slice_px"].tolist() == [16, 16]
        assert np.array_equal(row.image, whole.image[top : top + 8, left : left + 8])
        if whole.nodules:
            assert row.nodules[0]["x"] == whole.nodules[0]["x"] - left
    other = lungforge.open_slices(slices, patches=8, seed=4)
    assert any(
        one["corner"].tolist() != two["corner"].tolist() for one, two in zip(opened, other, strict=True)
    )


def test_slices_are_resized_before_they_are_cut(slices: str) -> None:
    opened = lungforge.open_slices(slices, size=32, patches=24)
    item = opened[1]
    assert item["image"].shape == (1, 24, 24)
    assert item["slice_px"].tolist() == [32, 32]
    assert item["spacing_mm"].tolist() == pytest.approx([0.4, 0.35])


def test_transforms_come_last(slices: str) -> None:
    opened = lungforge.open_slices(slices, transforms=lambda item: item["image"].mean().item())
    plain = lungforge.open_slices(slices)
    assert opened[2] == plain[2]["image"].mean().item()
    assert equal(opened.row(2), plain.row(2))


def test_memory_holds_as_much_as_it_may(
    slices: str, expected: list[SliceRow], monkeypatch: pytest.MonkeyPatch
) -> None:
    one_slice = 16 * 16 * 3
    monkeypatch.setattr(module, "_KEPT_BYTES", 5 * one_slice)
    opened = lungforge.open_slices(slices)
    for position in (0, 11, 5, 1, 0, 7):
        assert equal(opened.row(position), expected[position])
        assert len(opened._kept) <= 5
        assert opened._kept_bytes == len(opened._kept) * one_slice
    reads: list[int] = []
    monkeypatch.setattr(Dataset, "read_groups", lambda *_: reads.append(1))
    assert equal(opened.row(7), expected[7])
    assert not reads, "a slice that was just read is in memory"


def test_altered_slices_are_refused(tmp_path: Path, slices: str) -> None:
    source = Path(slices)
    for path in source.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(source)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(path.read_bytes())
    opened = lungforge.open_slices(str(tmp_path))
    part = tmp_path / opened.index.parts[0].path
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(ContentError, match="altered since it was written"):
        opened.row(0)


def test_there_is_no_slice_beyond_the_last(slices: str) -> None:
    with pytest.raises(IndexError, match="there is no slice 12; there are 12"):
        lungforge.open_slices(slices)[12]


def test_wrong_arguments_are_named(slices: str, model: str) -> None:
    with pytest.raises(InputError, match="patches is 17 px and the slices have 16; give a smaller one"):
        lungforge.open_slices(slices, patches=17)
    with pytest.raises(InputError, match="size is 0; give at least 1 pixel"):
        lungforge.open_slices(slices, size=0)
    with pytest.raises(InputError, match="subsets is empty"):
        lungforge.open_slices(slices, subsets=[])
    with pytest.raises(InputError, match=r"no rows of the subsets \[7\]; it has the subsets \[0, 1, 2\]"):
        lungforge.open_slices(slices, subsets=7)
    with pytest.raises(InputError, match="a model dataset; give one that `lungforge preprocess`"):
        lungforge.open_slices(model)
