"""Sampling as a Ray job: long-lived workers that draw units of work, replaced when they die."""

from collections import deque
from dataclasses import dataclass
from typing import Any

import ray
import torch
from ray.exceptions import RayActorError

from lungforge.config import identity
from lungforge.rows import index_rows
from lungforge.store import Dataset, DatasetWriter, Kind, Manifest, Part
from services.progress import progress, say
from services.runtime import ray_session
from services.sample.config import SampleConfig
from services.sample.plan import Plan, Unit, make_plan
from services.sample.work import Drawer, Work, check_model

#: How often a unit may take its worker down before it is taken for the cause.
_TRIES = 4


@dataclass(frozen=True)
class SampleResult:
    """The samples that were drawn.

    Attributes:
        samples: Their URI.
        images: How many.
        parts: In how many parts.
        maps: From how many maps.
    """

    samples: str
    images: int
    parts: int
    maps: int


def run(config: SampleConfig) -> SampleResult:
    """Draw the samples, or go on drawing; a finished dataset is left as it is.

    Raises:
        InputError: Model and maps do not fit each other, or one of them is missing.
    """
    model = Dataset.open(config.model, Kind.MODEL)
    data = Dataset.open(config.data, Kind.SLICES)
    writer = DatasetWriter(
        uri=config.out,
        kind=Kind.SAMPLES,
        config=identity(config),
        seed=config.seed,
        parents=(model.parent(), data.parent()),
    )
    finished = writer.find_manifest()
    if finished is not None:
        say(f"{writer.uri} is there already")
        return _result(writer.uri, finished)
    index = index_rows(data, config.subsets)
    work = Work(config, model.parent(), check_model(model, index), index, writer)
    plan = make_plan(config, index)
    maps = min(plan.images, len(index))
    say(f"drawing {plan.images} images of {maps} maps in {len(plan)} parts")
    workers = min(config.workers, len(plan))
    with ray_session(workers * config.cpus_per_worker):
        parts = _draw(work, plan, workers)
    return _result(writer.uri, writer.commit(parts, {"images": plan.images, "maps": maps}))


class _Worker:
    """A process that draws."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._drawer: Drawer | None = None

    def draw(self, unit: Unit) -> Part:
        # The model is loaded here, not on construction: Ray tells what a method raises, and of a
        # constructor only that the worker died.
        if self._drawer is None:
            # Each worker keeps to its own cores: without this, all of them would use all.
            torch.set_num_threads(self._work.config.cpus_per_worker)
            self._drawer = Drawer(
                self._work, torch.device("cuda" if self._work.config.gpus_per_worker else "cpu")
            )
        return self._drawer.draw(unit)


def _draw(work: Work, plan: Plan, workers: int) -> list[Part]:
    """Give every unit to some worker; the parts that come back."""
    config = work.config
    shared = ray.put(work)
    remote: Any = ray.remote(_Worker).options(
        num_cpus=config.cpus_per_worker, num_gpus=config.gpus_per_worker, max_restarts=0
    )
    waiting = deque(range(len(plan)))
    drawing: dict[Any, tuple[int, Any]] = {}
    failures: dict[int, int] = {}
    parts: list[Part] = []

    def give(actor: Any) -> None:
        number = waiting.popleft()
        drawing[actor.draw.remote(plan.unit(number))] = (number, actor)

    for _ in range(workers):
        give(remote.remote(shared))
    with progress("sample", plan.images, unit="images") as advance:
        while drawing:
            (ready,), _ = ray.wait(list(drawing), num_returns=1)
            number, actor = drawing.pop(ready)
            try:
                parts.append(ray.get(ready))
                advance(parts[-1].rows)
            except RayActorError as error:
                failures[number] = failures.get(number, 0) + 1
                if failures[number] == _TRIES:
                    raise RuntimeError(
                        f"part {plan.unit(number).name} took down {_TRIES} workers; "
                        "if memory ran out, give a smaller --batch or fewer --workers"
                    ) from error
                say(f"a worker died while it drew part {plan.unit(number).name}; another draws it again")
                waiting.appendleft(number)
                actor = remote.remote(shared)
            if waiting:
                give(actor)
    return parts


def _result(uri: str, manifest: Manifest) -> SampleResult:
    return SampleResult(
        samples=uri,
        images=manifest.details["images"],
        parts=len(manifest.parts),
        maps=manifest.details["maps"],
    )
