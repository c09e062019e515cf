"""``lungforge sample``: long-lived workers, of Ray where it is installed, that sample units."""

import dataclasses
import shlex
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch

from lungforge.config import identity
from lungforge.datasets import Dataset, DatasetWriter, Kind, Manifest, Part
from lungforge.datasets.slices import index_rows
from lungforge.metrics.hu_gate import GateCounts
from lungforge.models.device_choices import units_in_flight
from lungforge.models.model_dataset import ModelDataset
from services.common import telemetry
from services.common.config_file import keep_config
from services.common.devices import worker_device
from services.common.needs import Needs
from services.common.progress import progress, say
from services.common.workers import work_on_items, work_session
from services.sample.config import SampleConfig
from services.sample.hu_gate import as_details, counts_in_words, gate_of
from services.sample.plan import SamplingPlan, make_plan
from services.sample.worker import SamplingRun, UnitSampler, check_model

Result = TypeVar("Result")


@dataclass(frozen=True)
class SampleResult:
    """The samples that were made, or would be.

    Attributes:
        samples: Their URI.
        images: How many.
        parts: In how many parts.
        maps: From how many maps.
        left_out: Images that were planned and have no place in the dataset, as their edit had no room.
        hu_gate: What the gate on Hounsfield units did; None without one.
        dry_run: Whether nothing was written.
        estimated_seconds: How long sampling would take, from one batch that was timed; only of a dry run.
    """

    samples: str
    images: int
    parts: int
    maps: int
    left_out: int = 0
    hu_gate: GateCounts | None = None
    dry_run: bool = False
    estimated_seconds: float | None = None

    @property
    def next_steps(self) -> tuple[str, ...]:
        """What a person does with it."""
        if self.dry_run:
            return ()
        return (f"lungforge show {shlex.quote(self.samples)} --sheet samples.png",)


def run(config: SampleConfig) -> SampleResult:
    """Sample, or resume sampling; a finished dataset is left as it is.

    Raises:
        InputError: Model and maps do not fit each other, or one of them is missing.
    """
    model = ModelDataset.open(config.model)
    config = chosen(config, model)
    data = Dataset.open(config.data, Kind.SLICES)
    writer = DatasetWriter(
        uri=config.out,
        kind=Kind.SAMPLES,
        config=identity(config),
        seed=config.seed,
        parents=(model.dataset.parent(), data.parent()),
    )
    finished = writer.find_manifest()
    if finished is not None:
        say(f"{writer.uri} is finished already")
        return _result(writer.uri, finished)
    index = index_rows(data, config.subsets)
    patch = check_model(model, index, inpaint=config.inpaint)
    sampling = SamplingRun(config, model.dataset.parent(), patch, index, writer, gate_of(config, model))
    plan = make_plan(config, index)
    workers = min(config.workers, len(plan))
    needs = _needs(config)
    with work_session(workers * config.cpus_per_worker, needs):
        if config.dry_run:
            return _timed(sampling, plan, workers)
        keep_config("sample", config, writer.uri)
        say(f"sampling {plan.images} images of {plan.maps} maps in {len(plan)} parts")
        parts, counts = _sample(sampling, plan, workers)
    left_out = plan.images - sum(part.rows for part in parts)
    if left_out:
        say(f"{left_out} of {plan.images} images were left out: their edit had no room in their map")
    images = plan.images - left_out
    if counts is not None:
        say(counts_in_words(counts, images))
    details = {"images": images, "maps": plan.maps, "left_out": left_out, **as_details(counts)}
    return _result(writer.uri, writer.commit(parts, details))


def chosen(config: SampleConfig, model: ModelDataset) -> SampleConfig:
    """The job with what suits the model where the user left it open: what decides the images is recorded."""
    return dataclasses.replace(config, **vars(model.spec.sampling(model.config, config.sampling)))


class SamplingActor:
    """A process that samples; its methods may be called from several threads at a time."""

    def __init__(self, run: SamplingRun, plan: SamplingPlan) -> None:
        self._run, self._plan = run, plan
        self._sampler: UnitSampler | None = None
        self._loading = threading.Lock()

    def sample(self, number: int) -> tuple[Part, GateCounts | None]:
        """Generate and write a unit of the plan; its part, and what the gate did to it."""
        unit = self._plan.unit(number)
        return self._loaded().sample(unit), self._loaded().gate_counts(unit)

    def time_batch(self, number: int) -> float:
        """Time a batch of a unit: seconds an image."""
        return self._loaded().time_batch(self._plan.unit(number))

    def _loaded(self) -> UnitSampler:
        # The model is loaded here, as a constructor's errors would be lost (see ``work_on_items``).
        with self._loading:
            if self._sampler is None:
                config = self._run.config
                # Each worker keeps to its own cores: without this, all of them would use all.
                torch.set_num_threads(config.cpus_per_worker)
                self._sampler = UnitSampler(self._run, worker_device(config.gpus_per_worker))
        return self._sampler


def _needs(config: SampleConfig) -> Needs:
    return Needs(config.cpus_per_worker, config.gpus_per_worker)


def _work(
    method: Callable[[SamplingActor, int], Result],
    numbers: Iterable[int],
    run: SamplingRun,
    plan: SamplingPlan,
    workers: int,
) -> Iterator[Result]:
    """Give some units of the plan to the workers."""
    return work_on_items(
        method,
        numbers,
        SamplingActor,
        (run, plan),
        workers,
        need=_needs(run.config),
        service="sample",
        name_of=lambda number: f"part {plan.name(number)}",
        in_flight=units_in_flight(uses_gpu=bool(run.config.gpus_per_worker)),
    )


def _sample(run: SamplingRun, plan: SamplingPlan, workers: int) -> tuple[list[Part], GateCounts | None]:
    """Give every unit to some worker; the parts that come back, and what the gate did to all of them."""
    telemetry.PARTS_PLANNED.set(len(plan))
    parts: list[Part] = []
    counts = None if run.gate is None else GateCounts()
    start = "loading the model and sampling the first part"
    with progress("sample", plan.images, unit="images", start=start) as advance:
        for part, of_part in _work(SamplingActor.sample, range(len(plan)), run, plan, workers):
            parts.append(part)
            if counts is not None and of_part is not None:
                counts += of_part
            telemetry.PARTS_LEFT.set(len(plan) - len(parts))
            if part.rows:  # none where no edit had room, and Ray refuses to count nothing
                telemetry.IMAGES.inc(part.rows)
            advance(part.rows)
    return parts, counts


def _timed(run: SamplingRun, plan: SamplingPlan, workers: int) -> SampleResult:
    """What a dry run says: the plan, and how long it would take."""
    (seconds,) = _work(SamplingActor.time_batch, [0], run, plan, 1)
    return SampleResult(
        samples=run.writer.uri,
        images=plan.images,
        parts=len(plan),
        maps=plan.maps,
        dry_run=True,
        estimated_seconds=round(seconds * plan.images / workers, 1),
    )


def _result(uri: str, manifest: Manifest) -> SampleResult:
    return SampleResult(
        samples=uri,
        images=manifest.details["images"],
        parts=len(manifest.parts),
        maps=manifest.details["maps"],
        left_out=manifest.details["left_out"],
        hu_gate=GateCounts.of_details(manifest.details),
    )
