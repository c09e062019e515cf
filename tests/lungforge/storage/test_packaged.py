"""``lungforge://NAME``: read wherever a dataset is read, written nowhere, and nothing beside it reached."""

from pathlib import Path

import pytest

from lungforge.datasets import Dataset, DatasetWriter, Kind, table_from_rows
from lungforge.datasets.lineage import Finding, find_parent
from lungforge.errors import ContentError, InputError
from lungforge.storage import join_uri, read_bytes, write_bytes_atomic
from lungforge.storage.files import absolute_uri, replace_bytes
from lungforge.storage.packaged import packaged_names
from lungforge.storage.reading import file_size, list_folder, local_files, read_range
from tests.factories import slice_row


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The packaged datasets: ``maps``, with one row."""
    folder = tmp_path / "pretrained"
    monkeypatch.setattr("lungforge.storage.packaged.FOLDER", folder)
    writer = DatasetWriter(uri=str(folder / "maps"), kind=Kind.SLICES, config={})
    writer.commit([writer.write_part("a", table_from_rows(Kind.SLICES, [slice_row()]))])
    (folder / "maps" / "card.md").write_text("# maps\n", encoding="utf-8")
    return folder


def test_a_dataset_is_read_and_keeps_its_uri(folder: Path) -> None:
    dataset = Dataset.open("lungforge://maps/")
    assert dataset.uri == "lungforge://maps"
    dataset.verify()
    assert dataset.read_part(dataset.parts[0]).num_rows == 1
    assert dataset.read_group(dataset.parts[0], 0).num_rows == 1  # through an open file
    assert dataset.manifest_sha256 == Dataset.open(str(folder / "maps")).manifest_sha256
    assert dataset.parent().uri == "lungforge://maps"
    assert find_parent(dataset.parent(), "s3://elsewhere/samples") == (Finding.SAME, dataset)


def test_files_and_folders_are_read_as_on_any_store(folder: Path) -> None:
    assert packaged_names() == ("maps",)
    assert [entry.name for entry in list_folder("lungforge://maps")][:2] == ["card.md", "manifest.json"]
    card = list_folder("lungforge://maps")[0]
    assert (card.uri, card.size, card.is_folder) == ("lungforge://maps/card.md", 7, False)
    assert (file_size(card.uri), read_range(card.uri, 2, 6)) == (7, b"maps")
    with local_files([card.uri]) as (copy,):
        assert copy.read_bytes() == b"# maps\n"
    with pytest.raises(InputError, match="lungforge://maps/other: no such file"):
        read_bytes("lungforge://maps/other")


def test_a_changed_part_is_refused_as_anywhere(folder: Path) -> None:
    dataset = Dataset.open("lungforge://maps")
    part = folder / "maps" / dataset.parts[0].path
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    with pytest.raises(ContentError, match="altered since it was written"):
        dataset.verify()


@pytest.mark.parametrize("uri", ["lungforge://", "lungforge://other", "lungforge://..", "lungforge:///etc"])
def test_an_unknown_name_is_told_those_that_there_are(folder: Path, uri: str) -> None:
    with pytest.raises(InputError, match=r"no dataset of this name .* which brings lungforge://maps$"):
        Dataset.open(uri)
    with pytest.raises(InputError, match="no dataset of this name"):
        absolute_uri(uri)


def test_where_nothing_is_packaged_that_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lungforge.storage.packaged.FOLDER", folder / "missing")
    with pytest.raises(InputError, match="which brings nothing"):
        Dataset.open("lungforge://maps")


def test_nothing_beside_the_folder_is_reached(folder: Path) -> None:
    (folder.parent / "secret").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="no such file"):
        read_bytes("lungforge://maps/../../secret")


def test_nothing_is_written(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    card = "lungforge://maps/card.md"
    for exclusive in (False, True):
        with pytest.raises(
            InputError, match=r"lungforge://maps/card\.md: .* read-only; choose another place"
        ):
            write_bytes_atomic(card, b"new", exclusive=exclusive)
    with pytest.raises(InputError, match="read-only"):
        replace_bytes(card, b"new", expected=b"# maps\n")
    # Before the work, not after hours of it.
    writer = DatasetWriter(uri=join_uri("lungforge://maps", "inside"), kind=Kind.SLICES, config={})
    with pytest.raises(InputError, match="read-only"):
        writer.find_manifest()
    with pytest.raises(InputError, match="no dataset of this name"):
        DatasetWriter(uri="lungforge://mine", kind=Kind.SLICES, config={})
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
