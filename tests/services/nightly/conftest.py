"""A store with models and slices; a sampler and an evaluation that return given metrics."""

import contextlib
import dataclasses
import json
import os
from datetime import date, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from lungforge.config import identity
from lungforge.datasets import Dataset, DatasetWriter, Kind
from lungforge.metrics.real_baseline import BaselineComparison
from lungforge.models.document import to_document
from lungforge.models.sdm.spec import SPEC
from lungforge.storage import join_uri, open_uri
from services.eval.set_results import FrechetResult, KidResult
from services.nightly import job
from services.nightly.config import NightlyConfig
from services.nightly.history import Night
from tests.services.reports import report, set_results

FIRST = date(2026, 3, 1)
#: What a failed night has not.
METRICS = ("images", "frechet", "frechet_spread", "frechet_real", "kid", "kid_spread", "near_duplicates")


def write_dataset(uri: str, kind: Kind, **config: Any) -> str:
    """A dataset without what the nights here do not read; of a model, that is its weights."""
    writer = DatasetWriter(uri=uri, kind=kind, config=config, seed=0)
    network = to_document(SPEC, SPEC.preset_config("tiny"))
    writer.commit([writer.write_file("config.json", json.dumps(network).encode())])
    return uri


@dataclasses.dataclass
class FakeServices:
    """In place of the two services: the metrics of the next night, and the configurations that were run."""

    store: str
    frechet: float = 10.0
    frechet_spread: float = 0.1
    kid: float = 0.05
    kid_spread: float = 0.001
    near_duplicates: int = 0
    halves: bool = True
    failure: BaseException | None = None
    during: Any = None
    samples: list[Any] = dataclasses.field(default_factory=list)
    evaluations: list[Any] = dataclasses.field(default_factory=list)

    def config(self, day: int, **changes: Any) -> NightlyConfig:
        """The configuration of a night, numbered from 1."""
        return NightlyConfig(
            store=self.store, date=(FIRST + timedelta(day - 1)).isoformat(), **{"count": 8, **changes}
        )

    def run(self, day: int, **changes: Any) -> job.NightlyResult:
        return job.run(self.config(day, **changes))

    def sample(self, config: Any) -> None:
        self.samples.append(config)
        parents = tuple(Dataset.open(uri).parent() for uri in (config.model, config.data))
        DatasetWriter(config.out, Kind.SAMPLES, identity(config), config.seed, parents).commit([])
        if self.during:
            self.during()

    def evaluate(self, config: Any) -> Any:
        self.evaluations.append(config)
        if self.failure:
            raise self.failure
        baseline = BaselineComparison(
            images=4,
            repeats=10,
            real_mean=3.0,
            real_spread=0.2,
            synthetic_mean=self.frechet,
            synthetic_spread=self.frechet_spread,
        )
        results = set_results(
            images=8,
            frechet=FrechetResult("Fréchet distance", 20.0, 8, 8, baseline if self.halves else None, None),
            kid=KidResult("KID", self.kid, self.kid_spread, 100, 4, None, None, 0),
            near_duplicates=self.near_duplicates,
        )
        parents = tuple(Dataset.open(uri).parent() for uri in (config.real, *config.synthetic))
        writer = DatasetWriter(config.out, Kind.REPORT, identity(config), config.seed, parents)
        part = writer.write_file("metrics.json", report(results).to_json())
        writer.commit([part])
        return SimpleNamespace(metrics=join_uri(config.out, part.path))


@pytest.fixture
def bench(store_uri: str, monkeypatch: pytest.MonkeyPatch) -> FakeServices:
    """A store with one model, and both services replaced."""
    write_dataset(f"{store_uri}/models/first", Kind.MODEL, name="first")
    write_dataset(f"{store_uri}/slices", Kind.SLICES, name="slices")
    bench = FakeServices(store_uri)
    monkeypatch.setattr(job.sampling, "run", bench.sample)
    monkeypatch.setattr(job.evaluation, "run", bench.evaluate)
    monkeypatch.setattr(job, "ray_session", lambda workers: contextlib.nullcontext())
    return bench


@pytest.fixture
def write() -> Any:
    """``write(uri, **config)``: one more model, newer than those that are there."""

    def write(uri: str, **config: Any) -> None:
        write_dataset(uri, Kind.MODEL, **config)
        fs, path = open_uri(f"{uri}/manifest.json")
        if isinstance(fs, LocalFileSystem):
            later = Path(path).stat().st_mtime + 10
            os.utime(path, (later, later))

    return write


@pytest.fixture
def make_night() -> Any:
    """``make_night(day, frechet, **changes)``: a row of the history, days from 1; a failed one is bare."""

    def make(day: int, frechet: float | None = 10.0, **changes: Any) -> Night:
        plain = Night(
            date=FIRST + timedelta(day - 1),
            status="done",
            settings="s",
            model="models/first",
            model_sha256="a" * 64,
            data="slices",
            data_sha256="b" * 64,
            code_version="0.1.0",
            seconds=1.0,
            images=8,
            frechet=frechet,
            frechet_spread=0.1,
            frechet_real=3.0,
            kid=0.05,
            kid_spread=0.001,
            near_duplicates=0,
        )
        night = dataclasses.replace(plain, **changes)
        return night if night.status != "failed" else dataclasses.replace(night, **dict.fromkeys(METRICS))

    return make
