import dataclasses
import hashlib
import json

import pytest

from lungforge.config import digest
from lungforge.datasets import SCHEMA_VERSION, Kind, Manifest, Parent, Part
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
