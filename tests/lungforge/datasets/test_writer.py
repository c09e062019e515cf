import dataclasses
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lungforge.datasets import Dataset, DatasetWriter, Kind, Parent, table_from_rows
from lungforge.errors import AccessError, InputError
from lungforge.storage import join_uri, open_uri, read_bytes, write_bytes_atomic
from tests.factories import crop_row

CONFIG = {"size": 32, "model": {"channels": [1, 2], "heads": 4}}


def crops(seed: int = 0, count: int = 2):
    generator = np.random.default_rng(seed)
    images = generator.integers(-1000, 400, (count, 32, 32)).astype(np.int16)
    return table_from_rows(Kind.CROPS, [crop_row(image=image) for image in images], shape=(32, 32))


def writer_of(uri: str, **changes) -> DatasetWriter:
    return dataclasses.replace(DatasetWriter(uri, Kind.CROPS, CONFIG, seed=1), **changes)


def parent(uri: str = "s3://lab/data", sha256: str = "a" * 64) -> Parent:
    return Parent(uri, sha256, Kind.SLICES)


def test_a_dataset_is_there_once_it_is_committed(store_uri):
    writer = writer_of(store_uri, parents=(parent(),))
    assert writer.find_manifest() is None
    parts = [
        writer.write_part("b", crops(1, 3)),
        writer.write_part("a", crops(0)),
        writer.write_file("x", b"abc"),
    ]
    with pytest.raises(InputError, match=r"no manifest.json"):
        Dataset.open(store_uri)
    manifest = writer.commit(parts, {"rejected": []})
    assert writer.find_manifest() == manifest
    assert [(part.name, part.rows) for part in manifest.parts] == [
        ("x", 0),
        ("part-a.parquet", 2),
        ("part-b.parquet", 3),
    ]
    assert (manifest.config, manifest.seed, manifest.parents) == (CONFIG, 1, (parent(),))
    assert read_bytes(join_uri(store_uri, "manifest.json")) == manifest.to_bytes()
    assert writer.commit(parts[::-1], {"rejected": []}) == manifest


def test_a_finished_job_run_again_writes_nothing(tmp_path):
    writer = writer_of(str(tmp_path))
    part = writer.write_part("a", crops())
    writer.commit([part])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert writer.find_manifest() is not None
    assert writer.find_part("a") == part
    assert writer.write_part("a", crops()) == part
    writer.commit([part])
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == {
        path: time for path, time in before.items() if path.is_file()
    }


def test_the_same_dataset_has_the_same_bytes_anywhere(store_uri, tmp_path):
    manifests = []
    for uri in (store_uri, str(tmp_path / "elsewhere")):
        writer = writer_of(uri)
        manifests.append(writer.commit([writer.write_part("a", crops())], {"b": 1, "a": 2}).to_bytes())
    assert manifests[0] == manifests[1]


def test_find_part_knows_only_whole_parts_of_the_same_dataset(store_uri):
    writer = writer_of(store_uri)
    part = writer.write_part("a", crops())
    assert writer.find_part("a") == part
    assert writer.find_part("b") is None
    for other in (
        {"config": {**CONFIG, "size": 33}},
        {"seed": 2},
        {"kind": Kind.SLICES},
        {"parents": (parent(),)},
    ):
        assert writer_of(store_uri, **other).find_part("a") is None
    data = bytearray(read_bytes(join_uri(store_uri, part.path)))
    data[len(data) // 2] ^= 1
    write_bytes_atomic(join_uri(store_uri, part.path), bytes(data))
    assert writer.find_part("a") is None
    assert writer.write_part("a", crops()) == part  # repaired
    assert writer.find_part("a") == part


def test_the_content_of_the_input_matters_and_its_place_does_not(store_uri):
    first = writer_of(store_uri, parents=(parent("s3://lab/data"),))
    part = first.write_part("a", crops())
    manifest = first.commit([part])
    moved = writer_of(store_uri, parents=(parent("/copy/of/data"),))
    assert moved.find_part("a") == part
    assert moved.find_manifest() == manifest
    assert moved.commit([part]) == manifest
    changed = writer_of(store_uri, parents=(parent(sha256="b" * 64),))
    with pytest.raises(
        InputError, match=r"differs in the input \(\['aaaaaaaaaaaa'\] there, \['bbbbbbbbbbbb'\] here\)"
    ):
        changed.find_manifest()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"config": {**CONFIG, "size": 64}}, r"differs in size \(32 there, 64 here\); choose another --out"),
        (
            {"config": {"size": 32, "model": {"channels": [1, 4], "heads": 4}}},
            r"differs in model.channels \(\[1, 2\] there, \[1, 4\] here\)",
        ),
        ({"config": {**CONFIG, "seed": 9}}, r"differs in seed \(None there, 9 here\)"),
        ({"seed": 2}, r"differs in the seed \(1 there, 2 here\)"),
        ({"kind": Kind.MODEL}, r"differs in the kind \('crops' there, 'model' here\)"),
    ],
)
def test_another_dataset_at_the_place_is_refused_with_what_differs(tmp_path, changes, message):
    writer_of(str(tmp_path)).commit([])
    other = writer_of(str(tmp_path), **changes)
    for call in (other.find_manifest, lambda: other.commit([])):
        with pytest.raises(InputError, match=message) as error:
            call()
        assert "\n" not in str(error.value)


def test_of_sixteen_datasets_written_to_one_place_one_wins(store_uri):
    start = threading.Barrier(16)

    def work(number: int):
        writer = writer_of(store_uri, config={"size": number})
        start.wait()
        parts = [writer.write_part("a", crops(number)), writer.write_file("x", b"%d" % number)]
        try:
            return writer.commit(parts, {"number": number})
        except InputError as error:
            return str(error)

    with ThreadPoolExecutor(16) as pool:
        ends = list(pool.map(work, range(16)))
    [winner] = [number for number, end in enumerate(ends) if not isinstance(end, str)]
    dataset = Dataset.open(store_uri)
    dataset.verify()
    assert dataset.manifest == ends[winner]
    assert dataset.read_file("x") == b"%d" % winner
    assert dataset.read_part(dataset.parts[-1]).equals(crops(winner))
    for number, end in enumerate(ends):
        if number != winner:
            assert f"another dataset is there, which differs in size ({winner} there, {number} here)" in end
    assert_nothing_hidden(store_uri)


def test_concurrent_writers_of_one_dataset_agree_even_when_their_rows_differ(store_uri):
    """Two GPUs may round differently: the first part that is written counts for all writers."""
    start = threading.Barrier(8)

    def work(number: int):
        writer = writer_of(store_uri)
        start.wait()
        parts = [writer.write_part(unit, crops(number, count=1 + number)) for unit in "abc"]
        return writer.commit(parts)

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(work, range(8)))
    assert all(end == ends[0] for end in ends)
    Dataset.open(store_uri).verify()
    assert_nothing_hidden(store_uri)


def test_the_same_configuration_with_another_result_is_refused(store_uri):
    writer = writer_of(store_uri)
    writer.commit([writer.write_file("x", b"first")])
    with pytest.raises(InputError, match="another writer of the same configuration finished first"):
        writer.commit([writer.write_file("x", b"second")])
    Dataset.open(store_uri).verify()
    assert Dataset.open(store_uri).read_file("x") == b"first"


def test_a_finished_dataset_is_committed_again_with_more(store_uri):
    writer = writer_of(store_uri)
    parts = [writer.write_part("a", crops(0))]
    first = writer.commit(parts, {"rejected": ["b"]})
    before = read_bytes(join_uri(store_uri, "manifest.json"))
    assert writer.commit(parts, {"rejected": ["b"]}, replacing=first) == first
    assert read_bytes(join_uri(store_uri, "manifest.json")) == before
    parts.append(writer.write_part("b", crops(1)))
    second = writer.commit(parts, {"rejected": []}, replacing=first)
    assert Dataset.open(store_uri).manifest == second
    assert [part.name for part in second.parts] == ["part-a.parquet", "part-b.parquet"]
    Dataset.open(store_uri).verify()
    # A writer that still replaces the first manifest is too late; one with the same content is done already.
    assert writer.commit(parts, {"rejected": []}, replacing=first) == second
    with pytest.raises(InputError, match="another writer of the same configuration finished first"):
        writer.commit(parts[:1], {"rejected": ["b", "c"]}, replacing=first)
    assert Dataset.open(store_uri).manifest == second
    assert_nothing_hidden(store_uri)


def test_of_eight_that_reopen_a_dataset_one_wins(store_uri):
    writer = writer_of(store_uri)
    first = writer.commit([writer.write_part("a", crops(0))])
    start = threading.Barrier(8)

    def work(number: int):
        start.wait()
        parts = [writer.write_part("a", crops(0)), writer.write_part(f"b{number}", crops(number))]
        try:
            return writer.commit(parts, {"number": number}, replacing=first)
        except InputError as error:
            return str(error)

    with ThreadPoolExecutor(8) as pool:
        ends = list(pool.map(work, range(8)))
    [winner] = [end for end in ends if not isinstance(end, str)]
    assert Dataset.open(store_uri).manifest == winner
    Dataset.open(store_uri).verify()


def test_what_is_gone_is_not_committed(store_uri):
    writer = writer_of(store_uri)
    part = writer.write_part("a", crops())
    fs, path = open_uri(join_uri(store_uri, part.path))
    fs.rm_file(path)
    with pytest.raises(AccessError, match=rf"gone or altered before the end: {part.path}; run the job again"):
        writer.commit([part])
    assert writer.find_manifest() is None


def test_leftovers_of_killed_writers_are_cleaned(tmp_path):
    writer = writer_of(str(tmp_path))
    part = writer.write_part("a", crops())
    leftovers = [tmp_path / ".manifest.json.0.tmp", (tmp_path / part.path).with_name(".part-b.parquet.0.tmp")]
    for leftover in leftovers:
        leftover.touch()
    writer.commit([part])
    assert not any(leftover.exists() for leftover in leftovers)


def test_a_writer_is_plain_data_with_an_absolute_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writer = pickle.loads(pickle.dumps(writer_of("out", parents=(parent(),))))
    monkeypatch.chdir("/")
    writer.write_part("a", crops())
    assert writer.uri == str(tmp_path / "out")
    assert [path.name for path in Path(tmp_path / "out").rglob("*.parquet")] == ["part-a.parquet"]


def test_wrong_rows_are_not_written(tmp_path):
    writer = writer_of(str(tmp_path), kind=Kind.SLICES)
    with pytest.raises(InputError, match="has the columns"):
        writer.write_part("a", crops())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "../a", "ä", "a b"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path, name):
    writer = writer_of(str(tmp_path))
    with pytest.raises(ValueError, match="cannot name a part"):
        writer.write_part(name, crops())
    with pytest.raises(ValueError, match="cannot name a part"):
        writer.write_file(name, b"")


def assert_nothing_hidden(uri: str) -> None:
    fs, root = open_uri(uri)
    assert [path for path in fs.find(root) if "/." in path.removeprefix(root)] == []
