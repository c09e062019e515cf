"""Finding and reading rows of a slices dataset."""

from pathlib import Path

import numpy as np
import pytest

from lungforge.datasets import Dataset, DatasetWriter, Kind, table_from_rows
from lungforge.datasets.slices import index_rows
from lungforge.errors import ContentError, InputError
from tests.factories import slice_row

NODULE = {"x": 2.5, "y": 1.0, "diameter_px": 2.0, "diameter_mm": 1.4}


def _row(uid: str, subset: int, index: int, side: int = 4) -> dict:
    label = np.zeros((side, side), np.uint8)
    label[1, 2] = 5
    return slice_row(
        series_uid=uid,
        subset=subset,
        slice_index=index,
        z_mm=-1.5,
        spacing_mm=[0.7, 0.6],
        image=np.full((side, side), 100 * subset + index, np.int16),
        label=label,
        nodules=[NODULE],
    )


def _dataset(uri: str, parts: dict[str, list[dict]]) -> Dataset:
    writer = DatasetWriter(uri=uri, kind=Kind.SLICES, config={})
    writer.commit(
        [writer.write_part(name, table_from_rows(Kind.SLICES, rows)) for name, rows in parts.items()]
    )
    return Dataset.open(uri)


@pytest.fixture
def dataset(store_uri: str) -> Dataset:
    return _dataset(
        store_uri,
        {
            "a": [_row("scan-a", 1, index) for index in range(130)],
            "b": [_row("scan-b", 2, 5), _row("scan-c", 3, 6), _row("scan-b", 2, 7)],
            "d": [_row("scan-d", 3, 1)],
        },
    )


def test_the_index_says_where_every_row_is(dataset: Dataset) -> None:
    index = index_rows(dataset)
    assert len(index) == 134
    assert index.series_uids == ("scan-a", "scan-b", "scan-c", "scan-d")
    assert index.size == (4, 4)
    # 130 rows are two row groups.
    assert index.chunks.tolist() == [0] * 128 + [1] * 2 + [2] * 3 + [3]
    assert index.slice_index[-4:].tolist() == [5, 6, 7, 1]
    assert [index.series_uids[number] for number in index.series[-4:]] == [
        "scan-b",
        "scan-c",
        "scan-b",
        "scan-d",
    ]


def test_subsets_are_picked_out_of_parts(dataset: Dataset) -> None:
    index = index_rows(dataset, subsets=[3])
    assert index.series_uids == ("scan-c", "scan-d")
    assert [row.image[0, 0] for row in index.read([0, 1])] == [306, 301]
    assert index.chunks.tolist() == [0, 1]


def test_rows_come_whole_and_in_the_order_asked_for(dataset: Dataset) -> None:
    index = index_rows(dataset)
    read = index.read([133, 0, 129, 131, 0])
    assert [(row.series_uid, row.slice_index) for row in read] == [
        ("scan-d", 1),
        ("scan-a", 0),
        ("scan-a", 129),
        ("scan-c", 6),
        ("scan-a", 0),
    ]
    row = read[3]
    assert (row.subset, row.spacing_mm, row.nodules) == (3, (0.7, 0.6), (NODULE,))
    assert row.image.dtype == np.int16
    assert (row.image == 306).all()
    assert row.label.dtype == np.uint8
    assert row.label[1, 2] == 5


def test_an_absent_subset_names_those_that_are_there(dataset: Dataset) -> None:
    with pytest.raises(
        InputError, match=r"holds no rows of the subsets \[0, 9\]; it has the subsets \[1, 2, 3\]"
    ):
        index_rows(dataset, subsets=[9, 0])


def test_images_of_two_sizes_are_refused(tmp_path: Path) -> None:
    dataset = _dataset(str(tmp_path), {"a": [_row("scan-a", 0, 0)], "b": [_row("scan-b", 1, 0, side=6)]})
    with pytest.raises(InputError, match=r"sizes \[\(4, 4\), \(6, 6\)\].*preprocess --size"):
        index_rows(dataset)
    assert index_rows(dataset, subsets=[1]).size == (6, 6)


def test_a_part_that_has_gone_or_was_altered_is_named(tmp_path: Path) -> None:
    dataset = _dataset(str(tmp_path), {"a": [_row("scan-a", 0, index) for index in range(5)]})
    index = index_rows(dataset)
    path = tmp_path / dataset.manifest.parts[0].path
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(ContentError, match=rf"{path.name}: altered since it was written"):
        index.read([0])
    path.unlink()
    with pytest.raises(ContentError, match=rf"{path.name}: missing"):
        index.read([0])
