import dataclasses
import hashlib
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lungforge.datasets import Dataset, DatasetWriter, Kind, table_from_rows, tensor_values
from lungforge.errors import ContentError, InputError
from lungforge.storage import join_uri, open_uri, read_bytes, write_bytes_atomic
from tests.factories import slice_row


def slices(count: int, first: int = 0):
    generator = np.random.default_rng(first)
    return table_from_rows(
        Kind.SLICES,
        [
            slice_row(
                slice_index=first + index,
                z_mm=1.25 * index,
                spacing_mm=[0.7, 0.7],
                image=generator.integers(-1000, 400, (8, 12)).astype(np.int16),
                label=generator.integers(0, 6, (8, 12)).astype(np.uint8),
            )
            for index in range(count)
        ],
    )


@pytest.fixture
def dataset(store_uri) -> Dataset:
    writer = DatasetWriter(store_uri, Kind.SLICES, {"size": 8})
    parts = [writer.write_part("a", slices(300)), writer.write_part("b", slices(2, first=300))]
    writer.commit([*parts, writer.write_file("notes.txt", b"abc")])
    return Dataset.open(store_uri, Kind.SLICES)


def rows_parts(dataset: Dataset):
    return [part for part in dataset.parts if part.rows]


def replace(dataset: Dataset, part, data: bytes) -> None:
    write_bytes_atomic(join_uri(dataset.uri, part.path), data)


def test_reading(dataset):
    first, second = rows_parts(dataset)
    assert dataset.rows == 302
    assert dataset.read_part(first).equals(slices(300))
    assert dataset.read_part(second, ["label", "slice_index"]).column_names == ["label", "slice_index"]
    batches = list(dataset.iter_batches(first, ["slice_index", "image"], batch_rows=100))
    assert max(batch.num_rows for batch in batches) == 100
    np.testing.assert_array_equal(
        tensor_values(pa.concat_tables(batches)["image"]), tensor_values(slices(300)["image"])
    )
    assert pa.concat_tables(batches)["slice_index"].to_pylist() == list(range(300))
    assert dataset.read_file("notes.txt") == b"abc"
    dataset.verify()
    assert pickle.loads(pickle.dumps(dataset)) == dataset


def test_the_lineage_names_the_manifest_by_its_bytes(dataset):
    parent = dataset.parent()
    assert parent.sha256 == hashlib.sha256(read_bytes(join_uri(dataset.uri, "manifest.json"))).hexdigest()
    assert (parent.uri, parent.kind) == (dataset.uri, Kind.SLICES)


def test_no_dataset(store_uri):
    with pytest.raises(
        InputError, match=r"no manifest.json: no dataset, or not finished; run `lungforge train`"
    ):
        Dataset.open(store_uri, Kind.MODEL)
    with pytest.raises(InputError, match=r"no manifest.json: .*; run its job"):
        Dataset.open(store_uri)


def test_another_kind(dataset):
    with pytest.raises(
        InputError, match=r"a slices dataset, .* a model dataset is needed, made by `lungforge train`"
    ):
        Dataset.open(dataset.uri, Kind.MODEL)


def test_a_newer_schema(dataset):
    manifest = read_bytes(join_uri(dataset.uri, "manifest.json"))
    newer = manifest.replace(b'"schema_version": 1', b'"schema_version": 2')
    write_bytes_atomic(join_uri(dataset.uri, "manifest.json"), newer)
    with pytest.raises(ContentError, match="written with schema 2, and this LungForge reads up to 1"):
        Dataset.open(dataset.uri)


def test_a_missing_part(dataset):
    first, second = rows_parts(dataset)
    fs, path = open_uri(join_uri(dataset.uri, first.path))
    fs.rm_file(path)
    message = r"part-a.parquet: missing; make the dataset again with `lungforge preprocess`$"
    for call in (lambda: dataset.read_part(first), lambda: list(dataset.iter_batches(first)), dataset.verify):
        with pytest.raises(ContentError, match=message) as error:
            call()
        assert "\n" not in str(error.value)
    assert dataset.read_part(second).num_rows == 2


@pytest.mark.parametrize("where", [0.1, 0.5])
def test_an_altered_page(dataset, where):
    first, _ = rows_parts(dataset)
    data = bytearray(read_bytes(join_uri(dataset.uri, first.path)))
    data[int(len(data) * where)] ^= 0x10
    replace(dataset, first, bytes(data))
    for call in (lambda: dataset.read_part(first), lambda: list(dataset.iter_batches(first)), dataset.verify):
        with pytest.raises(
            ContentError, match=r"part-a.parquet: altered since it was written.*make the dataset again"
        ):
            call()


def test_a_cut_part(dataset):
    first, _ = rows_parts(dataset)
    replace(dataset, first, read_bytes(join_uri(dataset.uri, first.path))[:-1])
    with pytest.raises(
        ContentError, match=rf"altered since it was written: {first.bytes - 1} bytes instead of {first.bytes}"
    ):
        dataset.read_part(first)


def test_no_parquet_at_all(dataset):
    first, _ = rows_parts(dataset)
    replace(dataset, first, bytes(first.bytes))
    listed = dataclasses.replace(first, sha256=hashlib.sha256(bytes(first.bytes)).hexdigest())
    for call in (lambda: dataset.read_part(listed), lambda: dataset.read_group(listed, 0)):
        with pytest.raises(ContentError, match=r"altered since it was written: .*magic bytes"):
            call()


def test_wrong_rows_are_not_read(dataset, monkeypatch):
    """A part that some other program wrote, of the right size."""
    monkeypatch.setattr(pq.ParquetFile, "schema_arrow", pa.schema([("image", pa.int8())]))
    with pytest.raises(ContentError, match="altered since it was written: image: expected a tensor column"):
        dataset.read_part(rows_parts(dataset)[0])


def test_an_altered_file(dataset):
    [notes] = [part for part in dataset.parts if part.name == "notes.txt"]
    replace(dataset, notes, b"abd")
    with pytest.raises(ContentError, match=r"notes.txt: altered since it was written"):
        dataset.read_file("notes.txt")
    with pytest.raises(InputError, match=r"a slices dataset without other.txt"):
        dataset.read_file("other.txt")


def test_verify_names_the_first_bad_parts_and_counts_the_others(store_uri):
    writer = DatasetWriter(store_uri, Kind.REPORT, {})
    parts = [writer.write_file(f"{index}.txt", b"%d" % index) for index in range(6)]
    writer.commit(parts)
    dataset = Dataset.open(store_uri)
    for part in parts[1:]:
        replace(dataset, part, b"?")
    with pytest.raises(ContentError) as error:
        dataset.verify()
    assert str(error.value).count("altered") == 3
    assert str(error.value).endswith("; 2 more")
    assert "0.txt" not in str(error.value)
