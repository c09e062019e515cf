"""Which model is the newest: by when its manifest was written, not by its name."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lungforge.datasets import DatasetWriter, Kind
from lungforge.errors import InputError
from lungforge.storage import open_uri, write_bytes_atomic
from services.nightly.models import newest_model


@pytest.fixture
def write() -> Callable[..., None]:
    """``write(uri, at)``: a dataset whose manifest was written at a time, on the local disk."""

    def write(uri: str, at: float | None = None, kind: Kind = Kind.MODEL) -> None:
        DatasetWriter(uri=uri, kind=kind, config={"uri": uri}).commit([])
        if at is not None:
            os.utime(Path(uri, "manifest.json"), (at, at))

    return write


def test_the_newest_manifest_wins_and_the_last_name_of_equals(tmp_path: Path, write: Callable) -> None:
    models = tmp_path / "models"
    for name, at in (("b", 2000.0), ("z", 1000.0), ("a", 2000.0), ("k", 1999.999)):
        write(str(models / name), at)
    # Folders are younger than what is in them when weights or previews are added; that is no newer model.
    os.utime(models / "z", (3000.0, 3000.0))
    assert newest_model(str(tmp_path)).uri == str(models / "b")


def test_unfinished_models_and_stray_files_are_passed_over(store_uri: str, write: Callable) -> None:
    write(f"{store_uri}/models/finished")
    write_bytes_atomic(f"{store_uri}/models/training/checkpoints/7.safetensors", b"")
    write_bytes_atomic(f"{store_uri}/models/README.md", b"")
    assert newest_model(store_uri).uri == f"{store_uri}/models/finished"


def test_the_clock_of_the_store_decides(store_uri: str, write: Callable) -> None:
    """S3 stores whole seconds: of two in the same second, the last by name is taken."""
    for name in ("z", "a"):
        write(f"{store_uri}/models/{name}")
    fs, path = open_uri(f"{store_uri}/models")
    times = {name: fs.modified(f"{path}/{name}/manifest.json") for name in ("z", "a")}
    expected = "a" if times["a"] > times["z"] else "z"
    assert newest_model(store_uri).uri == f"{store_uri}/models/{expected}"


def test_no_model_is_one_line(store_uri: str, write: Callable) -> None:
    with pytest.raises(InputError, match=r"/models: no finished model; train one with .*/models/NAME`"):
        newest_model(store_uri)
    write(f"{store_uri}/models/wrong", kind=Kind.SLICES)
    with pytest.raises(InputError, match="a model dataset is needed"):
        newest_model(store_uri)
