"""A store is believed to keep conditional writes once it has shown it, and refused otherwise."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from lungforge.datasets import DatasetWriter, Kind
from lungforge.errors import AccessError, AccessRefusedError
from lungforge.storage import read_bytes, write_bytes_atomic
from lungforge.storage.files import replace_bytes, require_writable
from lungforge.storage.lease import take_lease
from lungforge.storage.reading import list_folder
from tests.small_store import Answer, SmallStore, refusal

URI = "s3://lab/out"


def probes(store: SmallStore) -> list[str]:
    return [f"{request.method} {request.key}" for request in store.requests if ".lungforge" in request.key]


def test_it_is_tried_once_beside_what_is_written_and_nothing_stays(small_store):
    list_folder("s3://lab")  # the client is made here, once, and not by each thread
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda name: write_bytes_atomic(f"{URI}/{name}", b"1", exclusive=True), "abcdefgh"))
    write_bytes_atomic("s3://lab/elsewhere/i", b"1", exclusive=True)
    tried = probes(small_store)
    assert [line.split()[0] for line in tried] == ["PUT", "PUT", "DELETE"]
    assert all(line.split()[1].startswith("out/.lungforge-probe-") for line in tried)
    assert sorted(small_store.objects) == ["elsewhere/i", *(f"out/{name}" for name in "abcdefgh")]


def test_what_is_only_read_or_replaced_without_a_condition_is_not_tried(small_store):
    write_bytes_atomic(f"{URI}/a", b"1")
    assert read_bytes(f"{URI}/a") == b"1"
    assert not probes(small_store)


@pytest.mark.parametrize("kept_old", [False, True])
def test_a_store_that_reads_over_a_condition_is_refused(small_store, kept_old):
    small_store.conditions = set()
    if kept_old:  # what was there stays, and the answer is as if it had been written over
        conditional = {"if-none-match", "if-match"}
        small_store.manner = lambda request: Answer(200) if conditional & request.headers.keys() else None
    small_store.objects["out/a"] = b"old"
    for call, header in (
        (lambda: write_bytes_atomic(f"{URI}/new", b"1", exclusive=True), "If-None-Match"),
        (lambda: take_lease(f"{URI}/lease"), "If-None-Match"),
        (lambda: DatasetWriter(URI, Kind.SLICES, {}).find_manifest(), "If-None-Match"),
        (lambda: replace_bytes(f"{URI}/a", b"1", expected=b"old"), "If-Match"),
    ):
        with pytest.raises(AccessRefusedError, match=rf"s3://lab: .* \({header}\), .*; use a store"):
            call()
    assert small_store.objects == {"out/a": b"old"}


def test_one_condition_says_nothing_about_the_other(small_store):
    small_store.conditions = {"if-none-match"}
    write_bytes_atomic(f"{URI}/a", b"1", exclusive=True)
    with pytest.raises(AccessRefusedError, match="If-Match"):
        replace_bytes(f"{URI}/a", b"2", expected=b"1")


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (400, "InvalidArgument")])
def test_a_store_that_refuses_conditions_is_named_and_not_taken_for_one_without_checksums(
    small_store, status, code
):
    conditional = {"if-none-match", "if-match"}
    small_store.manner = lambda request: (
        refusal(status, code, "A header") if conditional & request.headers.keys() else None
    )
    with pytest.raises(AccessRefusedError, match=r"refuses conditional writes \(If-None-Match\)") as error:
        write_bytes_atomic(f"{URI}/a", b"1", exclusive=True)
    assert "checksum" not in str(error.value)
    assert not small_store.objects


def test_a_policy_may_allow_one_prefix_and_no_deleting(small_store):
    small_store.manner = lambda request: (
        refusal(403, "AccessDenied")
        if request.method in ("DELETE", "POST") or not request.key.startswith("out/")
        else None
    )
    write_bytes_atomic(f"{URI}/a", b"1", exclusive=True)
    assert small_store.objects["out/a"] == b"1"


def test_a_store_that_is_away_for_a_moment_is_not_taken_for_one_without_conditions(small_store):
    small_store.manner = lambda request: (
        refusal(503, "SlowDown") if "if-none-match" in request.headers else None
    )
    with pytest.raises(AccessError, match="out of order") as error:
        write_bytes_atomic(f"{URI}/a", b"1", exclusive=True)
    assert not isinstance(error.value, AccessRefusedError)
    small_store.manner = lambda request: None
    write_bytes_atomic(f"{URI}/a", b"1", exclusive=True)


def test_work_does_not_begin_where_it_could_not_be_committed(small_store, tmp_path):
    small_store.manner = lambda request: refusal(403, "AccessDenied") if request.method == "PUT" else None
    with pytest.raises(AccessRefusedError, match=rf"^{URI}: access denied"):
        DatasetWriter(URI, Kind.SLICES, {}).find_manifest()
    require_writable(str(tmp_path))  # a local disk needs no proof
    assert not list(tmp_path.iterdir())


@pytest.mark.s3
def test_a_real_store_keeps_both(s3_uri):
    write_bytes_atomic(f"{s3_uri}/a", b"1", exclusive=True)
    replace_bytes(f"{s3_uri}/a", json.dumps("2").encode(), expected=b"1")
    assert read_bytes(f"{s3_uri}/a") == b'"2"'
