"""A night from the command line to the page: a small model, a real S3 server, and a kill in the middle."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage

from lungforge.datasets import Dataset, DatasetWriter, Kind, table_from_rows
from lungforge.models.model_dataset import ModelDetails, write_model
from lungforge.models.sdm.config import UNetConfig
from lungforge.models.sdm.spec import SPEC
from lungforge.models.sdm.unet import SemanticUNet
from lungforge.storage import open_uri, read_bytes, write_bytes_atomic
from services.eval.results import EvaluationReport
from services.nightly.history import read_history
from tests.factories import nodule_at, slice_row

#: Gives the environment for a process that starts its Ray cluster.
OwnRay = Callable[[], dict[str, str]]

SIDE = 32


def write_slices(uri: str) -> Dataset:
    """Four scans of two slices; scan N is in subset N."""
    writer = DatasetWriter(uri=uri, kind=Kind.SLICES, config={})
    label = np.zeros((SIDE, SIDE), np.uint8)
    label[3:-3, 3:-3], label[8:-8, 6:14], label[8:-8, 18:26], label[14:17, 8:11] = 1, 3, 2, 5
    levels = np.array([-1000, 30, -830, -830, -1000, 20])
    parts = []
    for scan in range(4):
        rows = []
        for index in range(2):
            noise = np.random.default_rng([scan, index]).normal(size=label.shape)
            image = levels[label] + 120 * ndimage.gaussian_filter(noise, 1.0) * (label > 0)
            rows.append(
                slice_row(
                    series_uid=f"scan-{scan}",
                    subset=scan,
                    slice_index=index,
                    spacing_mm=[0.8, 0.8],
                    image=np.clip(image, -1000, 400).astype(np.int16),
                    label=label,
                    nodules=[nodule_at(9.0, 15.0, 3.0, 2.4)],
                )
            )
        parts.append(writer.write_part(f"{scan}", table_from_rows(Kind.SLICES, rows)))
    writer.commit(parts)
    return Dataset.open(uri)


def make_model(uri: str, slices: Dataset) -> None:
    """A model of random weights that says it was trained on subsets 0 and 1."""
    shape = UNetConfig(
        image_size=SIDE,
        classes=6,
        base_channels=32,
        channel_multipliers=(1,),
        residual_blocks=1,
        attention_sizes=(),
        head_channels=32,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = SemanticUNet(shape).state_dict()
    writer = DatasetWriter(
        uri=uri, kind=Kind.MODEL, config={"subsets": [0, 1]}, seed=0, parents=(slices.parent(),)
    )
    write_model(writer, SPEC, shape, weights, ModelDetails())


def start(store: str, own_ray: OwnRay) -> subprocess.Popen:
    """The command as a user would type it, on a new Ray cluster."""
    options = ["--date", "2026-03-01", "--count", "4", "--steps", "2", "--json"]
    subsets = ["--subsets-of-maps", "0", "1", "--test-subsets", "2", "3"]
    return subprocess.Popen(
        [sys.executable, "-m", "services", "nightly", "--store", store, *options, *subsets],
        env=own_ray(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        start_new_session=True,
    )


@pytest.mark.ray
@pytest.mark.s3
@pytest.mark.slow
def test_a_killed_night_resumes_and_is_recorded_once(s3_uri: str, own_ray: OwnRay) -> None:
    make_model(f"{s3_uri}/models/small", write_slices(f"{s3_uri}/slices"))
    fs, path = open_uri(s3_uri)
    samples = f"{path}/nights/2026-03-01/samples/manifest.json"

    job = start(s3_uri, own_ray)
    waiting = threading.Event()
    while not fs.exists(samples) and job.poll() is None:
        waiting.wait(0.05)
    os.killpg(job.pid, signal.SIGKILL)
    _, errors = job.communicate(timeout=60)
    assert job.returncode == -signal.SIGKILL, errors
    sampled = fs.modified(samples)
    assert read_history(f"{s3_uri}/history.parquet") == []

    # The dead one's lease keeps others out until it expires.
    _, errors = (held := start(s3_uri, own_ray)).communicate(timeout=120)
    assert held.returncode == 1
    assert "held by another run" in errors
    (file,) = fs.ls(f"{path}/lease", detail=False)
    document = json.loads(read_bytes(f"s3://{file}")) | {"expires": "2026-03-01T00:00:00+00:00"}
    write_bytes_atomic(f"s3://{file}", json.dumps(document).encode())

    printed, errors = (done := start(s3_uri, own_ray)).communicate(timeout=300)
    assert done.returncode == 0, errors
    assert fs.modified(samples) == sampled
    result = json.loads(printed)
    (night,) = read_history(f"{s3_uri}/history.parquet")
    assert (night.status, night.images, night.model) == ("done", 4, f"{s3_uri}/models/small")
    assert result["frechet"] == night.frechet
    assert night.frechet is not None
    assert night.frechet > 0
    report = Dataset.open(f"{s3_uri}/nights/2026-03-01/report", Kind.REPORT)
    (results,) = EvaluationReport.from_json(report.read_file("metrics.json")).sets
    assert results.frechet.baseline is not None
    assert results.frechet.baseline.synthetic_mean == night.frechet
    assert results.kid.mean == night.kid
    assert read_bytes(result["report"]).startswith(b"<!doctype html>")
    assert b"nights/2026-03-01/report/report.html" in read_bytes(result["index"])

    # The features of the real slices are there for the next night.
    assert fs.ls(f"{path}/features")

    printed, errors = (again := start(s3_uri, own_ray)).communicate(timeout=120)
    assert again.returncode == 0, errors
    assert json.loads(printed) == result | {"written": False}
