import dataclasses
import hashlib
import io
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lungforge.datasets import Dataset, DatasetWriter, Kind, table_from_rows, tensor_values
from lungforge.datasets import writer as writer_module
from lungforge.datasets.manifest import part_of
from lungforge.datasets.slices import index_rows
from lungforge.errors import ContentError, InputError
from lungforge.storage import join_uri, open_uri, read_bytes, verified, write_bytes_atomic
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


def without_files(dataset: Dataset) -> Dataset:
    manifest = dataclasses.replace(dataset.manifest, parts=tuple(rows_parts(dataset)))
    return dataclasses.replace(dataset, manifest=manifest)


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


def poisoned(dataset: Dataset) -> Dataset:
    """The dataset, whose first part is replaced by sound Parquet of the same size and other rows."""
    part = rows_parts(dataset)[0]
    uri = join_uri(dataset.uri, part.path)
    with pq.ParquetFile(pa.BufferReader(read_bytes(uri))) as file:
        table = file.read()
    sink = io.BytesIO()
    # Not as the writer does it, so that there is room to fill up to the same size.
    pq.write_table(table.slice(0, 40), sink, row_group_size=40, compression="zstd", write_page_checksum=True)
    data = sink.getvalue()
    assert len(data) <= part.bytes
    footer = int.from_bytes(data[-8:-4], "little") + 8
    data = data[:-footer] + bytes(part.bytes - len(data)) + data[-footer:]
    replace(dataset, part, data)
    with pq.ParquetFile(pa.BufferReader(data)) as file:
        assert file.read().num_rows == 40
    parts = tuple(
        dataclasses.replace(each, rows=40) if each.path == part.path else each for each in dataset.parts
    )
    return dataclasses.replace(dataset, manifest=dataclasses.replace(dataset.manifest, parts=parts))


@pytest.mark.parametrize(
    "read",
    [
        lambda dataset, part: dataset.read_part(part),
        lambda dataset, part: dataset.read_part(part, ["subset"]),
        lambda dataset, part: next(dataset.iter_batches(part, ["slice_index"], batch_rows=1)),
        lambda dataset, part: dataset.read_group(part, 0),
        lambda dataset, part: index_rows(without_files(dataset)),
    ],
    ids=["part", "column", "first row", "group", "index"],
)
def test_sound_rows_that_the_manifest_does_not_mean_are_never_read(dataset, read):
    altered = poisoned(dataset)
    with pytest.raises(ContentError, match=r"part-a.parquet: altered since .*sha256 is .*make the dataset"):
        read(altered, rows_parts(altered)[0])
    assert dataset.read_part(rows_parts(dataset)[1]).num_rows == 2


def test_a_part_that_is_altered_after_it_was_read_is_noticed(dataset):
    first, _ = rows_parts(dataset)
    assert dataset.read_group(first, 1).num_rows == 128
    poisoned(dataset)
    for read in (lambda: dataset.read_group(first, 1), lambda: dataset.read_part(first)):
        with pytest.raises(ContentError, match=r"part-a.parquet: altered since it was written"):
            read()


def test_a_part_is_hashed_once_for_all_its_row_groups(dataset, monkeypatch):
    hashed = []
    digest = verified._digest
    monkeypatch.setattr(
        verified, "_digest", lambda file, uri, size: hashed.append(uri) or digest(file, uri, size)
    )
    index = index_rows(without_files(dataset))
    for start in range(0, 300, 50):
        index.read(range(start, start + 50))
    assert sorted(hashed) == [join_uri(dataset.uri, part.path) for part in rows_parts(dataset)]


def test_a_row_group_that_would_not_fit_into_memory_is_refused(tmp_path):
    writer = DatasetWriter(str(tmp_path), Kind.SLICES, {})
    sink = io.BytesIO()
    pq.write_table(slices(300), sink)
    data = sink.getvalue()
    write_bytes_atomic(str(tmp_path / "parts" / "a.parquet"), data)
    writer.commit([dataclasses.replace(part_of("parts/a.parquet", data), rows=300)])
    dataset = Dataset.open(str(tmp_path))
    for read in (dataset.read_part, lambda part: dataset.read_group(part, 0)):
        with pytest.raises(ContentError, match="row group 0 has 300 rows, and at most 128 are read"):
            read(dataset.parts[0])


def test_a_dataset_of_too_many_parts_is_not_committed(tmp_path, monkeypatch):
    monkeypatch.setattr(writer_module, "MAX_BYTES", 500)
    writer = DatasetWriter(str(tmp_path), Kind.REPORT, {})
    with pytest.raises(InputError, match="and at most 500 are read; make several smaller datasets"):
        writer.commit([writer.write_file(f"{index}.txt", b"a") for index in range(3)])
