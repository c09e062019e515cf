import dataclasses
import hashlib
import json
import os

import pytest

from lungforge.config import digest
from lungforge.datasets import SCHEMA_VERSION, Kind, Manifest, Parent, Part
from lungforge.datasets.manifest import read_manifest
from lungforge.errors import ContentError

PART = Part(path="parts-0/part-a.parquet", rows=3, bytes=1000, sha256="a" * 64)
MANIFEST = Manifest(
    kind=Kind.SAMPLES,
    config={"guidance": 1.5, "model": {"channels": [1, 2]}},
    parts=(PART,),
    parents=(Parent("s3://lab/model", "b" * 64, Kind.MODEL),),
    code_version="0.1.0",
    seed=3,
    details={"rejected": {"1.2.3": "größer als erlaubt"}},
)


def test_a_manifest_survives_a_round_trip():
    assert Manifest.from_bytes(MANIFEST.to_bytes(), "place") == MANIFEST


def test_the_bytes_of_a_manifest_stay_the_same():
    """They are what the lineage of every later dataset refers to."""
    expected = """{
 "code_version": "0.1.0",
 "config": {
  "guidance": 1.5,
  "model": {
   "channels": [
    1,
    2
   ]
  }
 },
 "config_sha256": "CONFIG",
 "details": {
  "rejected": {
   "1.2.3": "größer als erlaubt"
  }
 },
 "kind": "samples",
 "parents": [],
 "parts": [
  {
   "bytes": 1000,
   "path": "parts-0/part-a.parquet",
   "rows": 3,
   "sha256": "PART"
  }
 ],
 "schema_version": 1,
 "seed": 3
}
"""
    config_sha256 = hashlib.sha256(b'{"guidance":1.5,"model":{"channels":[1,2]}}').hexdigest()
    expected = expected.replace("CONFIG", config_sha256).replace("PART", PART.sha256)
    assert dataclasses.replace(MANIFEST, parents=()).to_bytes().decode() == expected


def altered(**changes) -> bytes:
    return json.dumps({**json.loads(MANIFEST.to_bytes()), **changes}).encode()


def altered_parent(**changes) -> bytes:
    return altered(parents=[{**json.loads(MANIFEST.to_bytes())["parents"][0], **changes}])


def with_config(config) -> bytes:
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return altered(config=config, config_sha256=digest)


def nested(levels: int):
    return {"a": nested(levels - 1)} if levels else 1


def altered_part(**changes) -> bytes:
    return altered(parts=[{**json.loads(MANIFEST.to_bytes())["parts"][0], **changes}])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not a LungForge manifest"),
        (b"\xff\xfe", "not a LungForge manifest"),
        (b"[]", "not a LungForge manifest"),
        (b"{}", r"not a LungForge manifest \(KeyError: 'schema_version'\)"),
        (MANIFEST.to_bytes()[:-20], "not a LungForge manifest"),
        (altered(kind="volumes"), "'volumes' is not a valid Kind"),
        (altered(config={"guidance": 3.0}), "config_sha256 does not fit config"),
        (altered(parts=None), "not a LungForge manifest"),
        (altered_part(path="../../secret"), r"part '../../secret'"),
        (altered_part(path="/etc/passwd"), r"part '/etc/passwd'"),
        (altered_part(path="a/.hidden"), r"part 'a/.hidden'"),
        (altered_part(rows=-1), "negative size"),
        (altered_part(sha256="A" * 64), "not a LungForge manifest"),
        (altered_part(extra=1), "not a LungForge manifest"),
        (
            altered(schema_version=SCHEMA_VERSION + 1),
            rf"schema {SCHEMA_VERSION + 1}, .* reads up to {SCHEMA_VERSION}",
        ),
        (json.dumps({"schema_version": SCHEMA_VERSION + 1}).encode(), "install a newer release"),
        (altered(schema_version="1"), "not a LungForge manifest"),
    ],
)
def test_a_file_that_is_no_manifest_is_refused_in_one_line(data, message):
    with pytest.raises(ContentError, match=message) as error:
        Manifest.from_bytes(data, "s3://lab/data")
    assert str(error.value).startswith("s3://lab/data: ")
    assert "\n" not in str(error.value)


def test_a_manifest_from_elsewhere_loses_its_secrets():
    secret = "5ecretW0rd"
    config = {"source": f"https://me:{secret}@host/luna16", "size": 64, "also": [f"s3://k:{secret}/+@lab"]}
    document = json.loads(MANIFEST.to_bytes()) | {
        "config": config,
        "config_sha256": digest(config),
        "details": {"rejected": {"1.2.3": f"403 for https://host/a?X-Amz-Signature={secret}"}},
        "parents": [{"uri": f"https://host/model?sig={secret}", "sha256": "b" * 64, "kind": "model"}],
    }
    manifest = Manifest.from_bytes(json.dumps(document).encode(), "place")
    assert manifest.config == {"source": "https://host/luna16", "size": 64, "also": ["s3://lab"]}
    assert manifest.details == {"rejected": {"1.2.3": "403 for https://host/a"}}
    assert manifest.parents == (Parent("https://host/model", "b" * 64, Kind.MODEL),)
    assert secret not in repr(manifest) + manifest.to_bytes().decode()
    # What it was altered in since shows all the same.
    altered = document | {"config": config | {"size": 65}}
    with pytest.raises(ContentError, match="config_sha256 does not fit"):
        Manifest.from_bytes(json.dumps(altered).encode(), "place")


PARTS = json.loads(MANIFEST.to_bytes())["parts"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        # Types that Python takes for others.
        (altered(schema_version=True), "schema_version True"),
        (altered(schema_version=1.0), "schema_version 1.0"),
        (altered(seed="3"), "seed is '3'"),
        (altered(seed=True), "seed is True"),
        (altered(seed=10**30), "seed is 1000"),
        (altered(config=[["guidance", 1.5]]), "config is a list"),
        (altered(details=[["a", 1]]), "details is a list"),
        (altered(parts={"0": PARTS[0]}), "parts is a dict"),
        (altered(parts=["part"]), "a part is a str"),
        (altered(parents={}), "parents is a dict"),
        (altered(code_version=1), "code_version is a int"),
        (altered(code_version="1\x1b[2J"), "code_version is empty, .* or not plain text"),
        (altered(kind=["samples"]), "not a LungForge manifest"),
        (altered_part(rows=True), "no whole number"),
        (altered_part(rows=3.0), "no whole number"),
        (altered_part(bytes=2**63), "no whole number"),
        (altered_part(path=["a"]), "not a LungForge manifest"),
        (altered_part(sha256=None), "not a LungForge manifest"),
        # Places that are not below the dataset, or not where they seem to be.
        (altered_part(path="parts/../../secret"), r"part 'parts/../../secret'"),
        (altered_part(path="parts//a"), "part 'parts//a'"),
        (altered_part(path="a\\..\\b"), "part "),
        (altered_part(path="a.parquet\n"), "part "),
        (altered_part(path="s3://other/a"), "part 's3://other/a'"),
        (altered_part(path="a" * 5000), "part 'aaa"),
        (altered_part(path="manifest.json"), "manifest.json is no part"),
        (altered(parts=[PARTS[0], PARTS[0]]), "two parts have the same name"),
        (altered(parts=[PARTS[0], {**PARTS[0], "path": "b/part-a.parquet"}]), "two parts have the same name"),
        # Parents.
        (altered_parent(uri=""), "the URI of a parent is empty"),
        (altered_parent(uri=7), "the URI of a parent is a int"),
        (altered_parent(uri="/data\n/etc"), "not plain text"),
        (altered_parent(uri="/" + "a" * 5000), "longer than 4096"),
        (altered_parent(sha256="b"), "no sha256"),
        (altered_parent(kind="volumes"), "not a valid Kind"),
        (altered_parent(more=1), "not a LungForge manifest"),
        (altered(parents=json.loads(MANIFEST.to_bytes())["parents"] * 1001), "1001 parents"),
        # JSON that means two things, or costs more than its size.
        (with_config(nested(40)), "nested deeper than 32"),
        (altered(details=nested(32)), "nested deeper than 32"),
        (b'{"schema_version": 1, "config": ' + b"[" * 200_000, "nested deeper than 32"),
        (b"[" * 10_000_000, "nested deeper than 32"),
        (MANIFEST.to_bytes().replace(b'"seed": 3', b'"seed": 3, "seed": 4'), "a name stands twice"),
        (MANIFEST.to_bytes().replace(b"1.5", b"NaN"), "NaN is no number"),
        (MANIFEST.to_bytes().replace(b"1.5", b"1e999"), "too large"),
        (MANIFEST.to_bytes().replace(b"1.5", b"9" * 5000), "not a LungForge manifest"),
        (MANIFEST.to_bytes().replace(b"1.2.3", rb"\ud800"), "surrogates not allowed"),
        (MANIFEST.to_bytes().decode().encode("utf-16"), "not a LungForge manifest"),
        (b"\xef\xbb\xbf" + MANIFEST.to_bytes(), "BOM"),
        (b" " * (64 * 2**20 + 1), "67108865 bytes, and at most 67108864"),
    ],
)
def test_a_hostile_manifest_is_refused_in_one_line(data, message):
    with pytest.raises(ContentError, match=message) as error:
        Manifest.from_bytes(data, "s3://lab/data")
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)
    assert len(str(error.value)) < 400


def test_what_lungforge_writes_is_far_from_the_limits():
    nine = dataclasses.replace(MANIFEST, details=nested(9), seed=-5)
    assert Manifest.from_bytes(nine.to_bytes(), "place") == nine


def test_a_manifest_that_is_no_plain_file_of_a_plain_size_is_not_read(tmp_path):
    place = tmp_path / "manifest.json"
    assert read_manifest(str(tmp_path)) is None
    os.mkfifo(place)
    assert read_manifest(str(tmp_path)) is None  # and does not wait for a writer
    place.unlink()
    place.mkdir()
    assert read_manifest(str(tmp_path)) is None
    place.rmdir()
    with place.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(ContentError, match="1099511627776 bytes, and at most 67108864 are read"):
        read_manifest(str(tmp_path))
