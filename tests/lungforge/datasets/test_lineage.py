"""A walk through manifests that anyone may have written: what is asked for, and where it ends."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from lungforge.datasets import Dataset, DatasetWriter, Kind, Parent
from lungforge.datasets.lineage import (
    MAX_ANCESTORS,
    MAX_GENERATIONS,
    Finding,
    ancestors,
    find_parent,
    may_follow,
)


def make(folder: Path, *parents: Parent, **config: Any) -> Dataset:
    DatasetWriter(str(folder), Kind.MODEL, config, parents=parents).commit([])
    return Dataset.open(str(folder))


def findings(dataset: Dataset) -> list[tuple[int, Finding]]:
    return [(ancestor.generation, ancestor.finding) for ancestor in ancestors(dataset)]


@pytest.mark.parametrize(
    ("uri", "root", "followed"),
    [
        ("/data/slices", "/data/samples", True),
        ("file:///data/slices", "/data/samples", True),
        ("s3://lab/slices", "/data/samples", True),
        ("/data/slices", "s3://lab/samples", True),
        ("gs://lab/slices", "gs://other/samples", True),
        ("gs://lab/slices", "/data/samples", False),
        ("http://169.254.169.254/latest", "/data/samples", False),
        ("https://host/slices", "s3://lab/samples", False),
        ("HTTP://host/slices", "/data/samples", False),
        ("ftp://host/slices", "/data/samples", False),
        ("ssh://host/slices", "/data/samples", False),
        ("simplecache::http://host/slices", "/data/samples", False),
        ("zip://a::http://host/a.zip", "zip://b::/data/b.zip", False),
        ("zip::/data/a.zip", "/data/samples", False),
        ("memory://a", "/data/samples", False),
        ("reference://::s3://lab/a", "s3://lab/samples", False),
        ("data:application/json,{}", "/data/samples", False),
        ("slices", "/data/samples", False),
        ("/data/a::b", "/data/samples", False),
    ],
)
def test_which_parents_are_followed(uri: str, root: str, followed: bool) -> None:
    assert may_follow(uri, root) is followed


def test_nothing_is_fetched_from_the_web(tmp_path: Path) -> None:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def handle(self) -> None:
            asked.append("something")

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/slices"
        dataset = make(tmp_path / "model", Parent(address, "a" * 64, Kind.SLICES))
        assert findings(dataset) == [(0, Finding.NOT_FOLLOWED)]
    finally:
        server.shutdown()
        server.server_close()
    assert asked == []


def test_what_is_at_the_place_of_a_parent(tmp_path: Path) -> None:
    sound = make(tmp_path / "sound", a=1)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "manifest.json").write_bytes(b"[" * 100_000)
    changed = Parent(sound.uri, "a" * 64, Kind.MODEL)
    other_kind = Parent(sound.uri, sound.manifest_sha256, Kind.SLICES)
    gone = Parent(str(tmp_path / "gone"), "a" * 64, Kind.MODEL)
    damaged = Parent(str(tmp_path / "damaged"), "a" * 64, Kind.MODEL)
    child = make(tmp_path / "child", sound.parent(), changed, other_kind, gone, damaged)
    assert [finding for _, finding in findings(child)] == [
        Finding.SAME,
        Finding.CHANGED,
        Finding.CHANGED,
        Finding.GONE,
        Finding.GONE,
    ]
    assert find_parent(sound.parent(), child.uri, Kind.SLICES) == (Finding.GONE, None)


def test_ancestors_come_before_their_own_parents(tmp_path: Path) -> None:
    slices = make(tmp_path / "slices", of="slices")
    model = make(tmp_path / "model", slices.parent(), of="model")
    samples = make(tmp_path / "samples", model.parent(), slices.parent(), of="samples")
    walked = [(step.generation, step.parent.uri, step.finding) for step in ancestors(samples)]
    same = Finding.SAME
    assert walked == [(0, model.uri, same), (1, slices.uri, same), (0, slices.uri, same)]


def test_a_lineage_with_2_to_the_14_ways_is_walked_once(tmp_path: Path) -> None:
    """Each generation names the one before it twice, at two places."""
    above = [make(tmp_path / "0a"), make(tmp_path / "0b")]
    for generation in range(1, 15):
        parents = [dataset.parent() for dataset in above]
        above = [make(tmp_path / f"{generation}{copy}", *parents) for copy in "ab"]
    walked = findings(above[0])
    assert len(walked) == 2 * 14
    assert {finding for _, finding in walked} == {Finding.SAME}


def test_a_long_line_ends(tmp_path: Path) -> None:
    dataset = make(tmp_path / "0")
    for generation in range(1, MAX_GENERATIONS + 5):
        dataset = make(tmp_path / str(generation), dataset.parent())
    walked = findings(dataset)
    assert len(walked) == MAX_GENERATIONS
    assert walked[-1] == (MAX_GENERATIONS - 1, Finding.TOO_DEEP)


def test_a_broad_lineage_ends(tmp_path: Path) -> None:
    def parents(prefix: str) -> tuple[Parent, ...]:
        return tuple(Parent(f"gone://{prefix}/{index}", "a" * 64, Kind.MODEL) for index in range(999))

    first = make(tmp_path / "first", *parents("a"))
    dataset = make(tmp_path / "dataset", first.parent(), *parents("b"))
    walked = findings(dataset)
    assert len(walked) == MAX_ANCESTORS + 1
    assert walked[-1][1] is Finding.TOO_DEEP


def test_a_ring_ends(tmp_path: Path) -> None:
    """No ring has the right digests; this one's manifests name each other all the same."""
    first = make(tmp_path / "first", Parent(str(tmp_path / "second"), "a" * 64, Kind.MODEL))
    second = make(tmp_path / "second", first.parent())
    assert findings(second) == [(0, Finding.SAME), (1, Finding.CHANGED)]
    itself = json.loads((tmp_path / "second" / "manifest.json").read_bytes())
    itself["parents"] = [{"uri": second.uri, "sha256": second.manifest_sha256, "kind": "model"}]
    data = json.dumps(itself).encode()
    (tmp_path / "second" / "manifest.json").write_bytes(data)
    assert hashlib.sha256(data).hexdigest() != second.manifest_sha256
    assert findings(Dataset.open(second.uri)) == [(0, Finding.CHANGED)]
