"""A fault at every single point of writing, locally and on S3: the next run makes it as if nothing was."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem

from lungforge.datasets import Dataset
from lungforge.errors import InputError
from lungforge.storage import join_uri, open_uri

PROGRAM = Path(__file__).with_name("faulty_writer.py")
faulty_writer = runpy.run_path(str(PROGRAM))
write_dataset = faulty_writer["write_dataset"]
reopen_dataset = faulty_writer["reopen_dataset"]


def files(uri: str) -> dict[str, bytes]:
    """Every file below a URI, the hidden ones too, but for that by which a killed process tried the store."""
    fs, root = open_uri(uri)
    if isinstance(fs, LocalFileSystem):
        return {
            str(path.relative_to(root)): path.read_bytes() for path in Path(root).rglob("*") if path.is_file()
        }
    return {
        path.removeprefix(f"{root}/"): fs.cat_file(path)
        for path in fs.find(root)
        if ".lungforge-probe-" not in path  # one that was killed while it tried the store leaves that
    }


@pytest.fixture
def small_chunks(monkeypatch):
    faulty_writer["use_small_chunks"](monkeypatch.setattr)


@pytest.mark.parametrize("how", ["killed", "error"])
def test_a_run_after_a_fault_equals_an_unbroken_one(store_uri, how, small_chunks):
    environment = {**os.environ, "AWS_MAX_ATTEMPTS": "1"}
    run = subprocess.run(
        [sys.executable, PROGRAM, store_uri, how, "write"],
        capture_output=True,
        env=environment,
        encoding="utf-8",
    )
    assert run.returncode == 0, run.stderr
    ends = json.loads(run.stdout)
    assert ends[-1] == ["", "done"]
    assert len(ends) > (12 if store_uri.startswith("s3") else 50)
    unbroken = files(join_uri(store_uri, str(len(ends) - 1)))
    assert sum(name.endswith(".parquet") for name in unbroken) == 2
    assert len(unbroken) == 4

    for index, (point, end) in enumerate(ends[:-1]):
        uri = join_uri(store_uri, str(index))
        if how == "killed":
            assert end == "killed"
        fs, path = open_uri(join_uri(uri, "manifest.json"))
        if fs.exists(path):  # what a reader sees is all of it, or nothing
            Dataset.open(uri).verify()
        else:
            assert end != "done", point
            with pytest.raises(InputError, match=r"no manifest.json"):
                Dataset.open(uri)
        write_dataset(uri)
        assert files(uri) == unbroken, point


@pytest.mark.parametrize("how", ["killed", "error"])
def test_a_fault_while_a_finished_dataset_is_reopened_leaves_the_old_or_the_new_one(store_uri, how):
    environment = {**os.environ, "AWS_MAX_ATTEMPTS": "1"}
    run = subprocess.run(
        [sys.executable, PROGRAM, store_uri, how, "reopen"],
        capture_output=True,
        env=environment,
        encoding="utf-8",
    )
    assert run.returncode == 0, run.stderr
    ends = json.loads(run.stdout)
    assert ends[-1] == ["", "done"]
    assert len(ends) > (4 if store_uri.startswith("s3") else 20)
    unbroken = files(join_uri(store_uri, str(len(ends) - 1)))
    assert sum(name.endswith(".parquet") for name in unbroken) == 2
    kept = set()
    for index, (point, end) in enumerate(ends[:-1]):
        uri = join_uri(store_uri, str(index))
        if how == "killed":
            assert end == "killed"
        dataset = Dataset.open(uri)
        dataset.verify()
        assert dataset.manifest.details == {"units": len(dataset.parts)}, point
        kept.add(len(dataset.parts))
        reopen_dataset(uri)
        assert files(uri) == unbroken, point
    assert kept == {1, 2}
