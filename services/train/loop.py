"""The training loop: rows to batches to steps, with checkpoints on the way and a model at the end."""

import json
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from lungforge.datasets import DatasetWriter
from lungforge.datasets.shuffling import RowStream
from lungforge.datasets.slices import RowIndex
from lungforge.errors import AccessError, InputError
from lungforge.models.gaugan.config import GauGANConfig
from lungforge.models.model_dataset import to_safetensors
from lungforge.models.sdm.config import UNetConfig
from lungforge.storage import join_uri, write_bytes_atomic
from services.common.telemetry import stall
from services.train.batches import Batch, make_batch
from services.train.checkpoints import Checkpoint, CheckpointStore, history_tensor
from services.train.collectives import exchange, from_first_worker
from services.train.config import TrainConfig
from services.train.gaugan import AdversarialLearner
from services.train.learner import Distribute, DivergedError, Learner
from services.train.monitoring import Telemetry
from services.train.preview import preview_picture
from services.train.rates import Rates
from services.train.sdm import DiffusionLearner

#: Told after steps: how many are done, and what there is to say of the last one, by name.
Report = Callable[[int, dict[str, float]], None]
#: Asked before every step of the first worker: whether to save and leave.
Stop = Callable[[], bool]

#: Steps that the watched loss is looked at over; its median is not swayed by single steps.
WATCH_STEPS = 100
#: How much of its lowest median the loss may rise to.
LARGEST_RISE = 3.0


@dataclass(frozen=True)
class Work:
    """All that the workers of a run need to know. Plain data: it goes to other processes as it is."""

    config: TrainConfig
    shape: UNetConfig | GauGANConfig
    index: RowIndex
    writer: DatasetWriter


def make_learner(work: Work, *, distribute: Distribute, averages: bool) -> Learner:
    """The learner of a run's kind of model, at its start."""
    if isinstance(work.shape, GauGANConfig):
        return AdversarialLearner(work.config, work.shape, distribute=distribute, averages=averages)
    return DiffusionLearner(work.config, work.shape, distribute=distribute, averages=averages)


def train(
    work: Work,
    report: Report,
    *,
    stop: Stop = lambda: False,
    rank: int = 0,
    workers: int = 1,
    distribute: Distribute = lambda module: module,
) -> int:
    """Train to the end, from the newest checkpoint if there is one; the first worker commits the model.

    Args:
        work: What to do.
        report: Called by the first worker after every step.
        stop: Asked by the first worker before every step; where it says yes, all workers leave, and the
            last step is saved.
        rank: Which worker this is.
        workers: How many there are.
        distribute: As for ``Learner``.

    Returns:
        Steps that are done; fewer than asked for when it was stopped.

    Raises:
        InputError: A row is wrong, or training diverged; on every worker alike.
        AccessError: A checkpoint could not be written.
    """
    config = work.config
    learner = make_learner(work, distribute=distribute, averages=rank == 0)
    share = config.batch // workers
    stream = RowStream(
        work.index, batch=config.batch, positions=range(rank * share, (rank + 1) * share), seed=config.seed
    )
    with CheckpointStore(
        work.writer.uri, work.writer.work, config.keep, settled=2 * WATCH_STEPS
    ) as checkpoints:
        history = _resume(learner, checkpoints, rank)
        first = len(history)
        with Telemetry(work.writer.uri, first, enabled=rank == 0) as telemetry:
            if rank == 0:
                report(first, {})
            after = _AfterStep(work, learner, checkpoints, report, telemetry)
            rates = Rates(config.batch)
            source = _Source(stream, learner, stop, after.require_sound, rates)
            for step, batch in source.batches(range(first, config.steps)):
                try:
                    history.append(learner.step(batch.cut(config.pieces), step))
                    require_no_rise(learner, history)
                except DivergedError as error:
                    raise DivergedError(_advice(error, checkpoints), error.sound) from None
                rates.step_done()
                if rank == 0:
                    after(history, rates.values())
        if rank == 0 and first < len(history) < config.steps:
            checkpoints.save(_checkpoint(learner, history))
    if rank == 0 and len(history) == config.steps:
        _commit(work, learner, history)
    return len(history)


@dataclass
class _AfterStep:
    """What the first worker does when a step is done.

    A fault of the store is kept until ``require_sound`` is called, where it reaches every worker.
    """

    work: Work
    learner: Learner
    checkpoints: CheckpointStore
    report: Report
    telemetry: Telemetry
    fault: InputError | AccessError | None = None

    def require_sound(self) -> None:
        """Raise what went wrong with the store, if anything did."""
        if self.fault is not None:
            raise self.fault
        self.checkpoints.require_written()

    def __call__(self, history: list[list[float]], rates: dict[str, float]) -> None:
        config, done = self.work.config, len(history)
        metrics = dict(zip(self.learner.METRICS, history[-1], strict=True)) | rates
        self.report(done, metrics)
        self.telemetry.step(done, metrics)
        if done % config.checkpoint_every == 0 and done < config.steps:
            self.checkpoints.save(_checkpoint(self.learner, history))
        if config.preview_every and done % config.preview_every == 0:
            picture, data = preview_picture(self.learner, self.work.index)
            self.telemetry.picture(done, picture)
            try:
                write_bytes_atomic(join_uri(self.work.writer.uri, "previews", f"step-{done:08d}.png"), data)
            except (InputError, AccessError) as error:
                self.fault = error


def _checkpoint(learner: Learner, history: list[list[float]]) -> Checkpoint:
    return Checkpoint(len(history), learner.state(), history_tensor(history, len(learner.METRICS)))


def _resume(learner: Learner, checkpoints: CheckpointStore, rank: int) -> list[list[float]]:
    """Take up the newest checkpoint, the same on every worker; the metrics of the steps that are done."""
    found = checkpoints.newest() if rank == 0 else None
    steps = from_first_worker(found.steps if found is not None else None)
    if steps is None:
        return []
    if found is None:
        found = checkpoints.load(steps, without=("average",))
    learner.load_state(found.state, found.steps)
    return found.history.tolist()


@dataclass(frozen=True)
class _Source:
    """Where the batches come from, and what is asked before each of them."""

    stream: RowStream
    learner: Learner
    stop: Stop
    require_sound: Callable[[], None]
    rates: Rates

    def batches(self, steps: range) -> Iterator[tuple[int, Batch]]:
        """The batches of some steps, until it is time to stop; the next is read while one is trained on."""
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as reader:
            coming = reader.submit(self._prepare, steps.start) if steps else None
            for step in steps:
                assert coming is not None
                batch, fault = None, None
                started = time.perf_counter()
                try:
                    with stall("train"):
                        batch = coming.result()
                    self.rates.waited(time.perf_counter() - started)
                    self.require_sound()
                except (InputError, AccessError) as error:
                    fault = str(error)
                # Workers that go on without one of them would wait for its gradients until a time-out.
                told = exchange(fault, stop=self.stop())
                if told.fault is not None:
                    raise InputError(told.fault)
                if told.stop:
                    return
                assert batch is not None
                if step + 1 in steps:
                    coming = reader.submit(self._prepare, step + 1)
                yield step, batch

    def _prepare(self, step: int) -> Batch:
        return make_batch(
            self.stream.rows(step),
            self.stream.samples(step),
            self.learner.config,
            noise_shape=self.learner.noise_shape,
            timesteps=self.learner.timesteps,
        )


def require_no_rise(learner: Learner, history: list[list[float]]) -> None:
    """Raise ``DivergedError`` where the watched loss has risen far above where it was."""
    done = len(history)
    if learner.WATCHED is None or done % WATCH_STEPS or done < 2 * WATCH_STEPS:
        return
    column = learner.METRICS.index(learner.WATCHED)
    values = [row[column] for row in history]
    medians = [
        statistics.median(values[start : start + WATCH_STEPS]) for start in range(0, done, WATCH_STEPS)
    ]
    lowest = min(medians[:-1])
    if medians[-1] > LARGEST_RISE * lowest:
        raise DivergedError(
            f"training diverged: the {learner.WATCHED} rose to {medians[-1]:.3g} "
            f"(median of the {WATCH_STEPS} steps to step {done}) and was {lowest:.3g}",
            # It may have begun to rise in the stretch before, in less than half of its steps.
            sound=done - 2 * WATCH_STEPS,
        )


def _commit(work: Work, learner: Learner, history: list[list[float]]) -> None:
    assert learner.average is not None
    columns: dict[str, Any] = {
        name: [row[column] for row in history] for column, name in enumerate(learner.METRICS)
    }
    documents = {"config.json": learner.document(), "history.json": columns}
    parts = [
        work.writer.write_file("model.safetensors", to_safetensors(learner.average.weights)),
        *(
            work.writer.write_file(name, (json.dumps(document, sort_keys=True) + "\n").encode())
            for name, document in documents.items()
        ),
    ]
    work.writer.commit(parts, model_details(work))


def model_details(work: Work) -> dict[str, Any]:
    """What the manifest of a model says of it; the scans, so that evaluation can keep them apart."""
    return {
        "model": work.config.model,
        "size": work.shape.image_size,
        "classes": work.shape.classes,
        "patch": work.config.patch,
        "subsets": None if work.config.subsets is None else sorted(work.config.subsets),
        "series_uids": list(work.index.series_uids),
        "rows": len(work.index),
        "steps": work.config.steps,
    }


def _advice(error: DivergedError, checkpoints: CheckpointStore) -> str:
    kept = checkpoints.last_before(error.sound)
    last = f"the checkpoint of step {kept} is kept" if kept else "there was no checkpoint yet"
    return f"{error}; {last}; train again to another --out with a lower --learning-rate or a longer --warm-up"
