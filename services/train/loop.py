"""The training loop: rows to batches to steps, with checkpoints on the way and a model at the end."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import nn

from lungforge.epochs import RowStream
from lungforge.errors import InputError
from lungforge.rows import RowIndex
from lungforge.sdm.checkpoint import to_document, to_safetensors
from lungforge.sdm.config import UNetConfig
from lungforge.store import DatasetWriter, join_uri, write_bytes_atomic
from services.train.batches import Batch, make_batch
from services.train.checkpoints import Checkpoint, CheckpointStore, history_tensor
from services.train.config import TrainConfig
from services.train.learner import METRICS, DivergedError, Learner
from services.train.preview import preview_picture

#: Told after steps: how many are done, and their metrics by name.
Report = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class Work:
    """All that the workers of a run need to know. Plain data: it goes to other processes as it is."""

    config: TrainConfig
    shape: UNetConfig
    index: RowIndex
    writer: DatasetWriter


def train(
    work: Work,
    report: Report,
    *,
    rank: int = 0,
    workers: int = 1,
    distribute: Callable[[nn.Module], nn.Module] = lambda module: module,
) -> None:
    """Train to the end, from the newest checkpoint if there is one; the first worker commits the model.

    Args:
        work: What to do.
        report: Called by the first worker after every step.
        rank: Which worker this is.
        workers: How many there are.
        distribute: As for ``Learner``.

    Raises:
        InputError: A row is wrong, or training diverged; on every worker alike.
    """
    config = work.config
    learner = Learner(config, work.shape, distribute=distribute, averages=rank == 0)
    share = config.batch // workers
    stream = RowStream(
        work.index, batch=config.batch, positions=range(rank * share, (rank + 1) * share), seed=config.seed
    )
    with CheckpointStore(work.writer.uri, work.writer.work, config.keep) as checkpoints:
        history = _resume(learner, checkpoints, rank)
        if rank == 0:
            report(len(history), {})
        for step, batch in _batches(stream, config, len(learner.schedule), range(len(history), config.steps)):
            try:
                history.append(learner.step(batch, step))
            except DivergedError as error:
                raise DivergedError(_advice(str(error), step, config)) from None
            if rank == 0:
                _after_step(work, learner, checkpoints, history, report)
    if rank == 0:
        _commit(work, learner, history)


def _after_step(
    work: Work, learner: Learner, checkpoints: CheckpointStore, history: list[list[float]], report: Report
) -> None:
    config, done = work.config, len(history)
    report(done, dict(zip(METRICS, history[-1], strict=True)))
    if done % config.checkpoint_every == 0 and done < config.steps:
        checkpoints.save(Checkpoint(done, learner.state(), history_tensor(history, len(METRICS))))
    if config.preview_every and done % config.preview_every == 0:
        picture = preview_picture(learner, work.index)
        write_bytes_atomic(join_uri(work.writer.uri, "previews", f"step-{done:08d}.png"), picture)


def _resume(learner: Learner, checkpoints: CheckpointStore, rank: int) -> list[list[float]]:
    """Take up the newest checkpoint, the same on every worker; the metrics of the steps that are done."""
    found = checkpoints.newest() if rank == 0 else None
    steps = _from_first_worker(found.steps if found is not None else None)
    if steps is None:
        return []
    if found is None:
        found = checkpoints.load(steps, ("weights", "first_moments", "second_moments"))
    learner.load_state(found.state, found.steps)
    return found.history.tolist()


def _batches(
    stream: RowStream, config: TrainConfig, diffusion_steps: int, steps: range
) -> Iterator[tuple[int, Batch]]:
    """The batches of some steps; the next one is read while one is trained on."""

    def prepare(step: int) -> Batch:
        return make_batch(stream.rows(step), stream.samples(step), config, diffusion_steps)

    with ThreadPoolExecutor(1, thread_name_prefix="batches") as reader:
        coming = reader.submit(prepare, steps.start) if steps else None
        for step in steps:
            assert coming is not None
            batch, fault = None, None
            try:
                batch = coming.result()
            except InputError as error:
                fault = str(error)
            # Workers that go on without one of them would wait for its gradients until a time-out.
            for told in _from_every_worker(fault):
                if told is not None:
                    raise InputError(told)
            assert batch is not None
            if step + 1 in steps:
                coming = reader.submit(prepare, step + 1)
            yield step, batch


def _commit(work: Work, learner: Learner, history: list[list[float]]) -> None:
    assert learner.average is not None
    columns: dict[str, Any] = {name: [row[column] for row in history] for column, name in enumerate(METRICS)}
    documents = {"config.json": to_document(work.shape), "history.json": columns}
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


def _advice(problem: str, done: int, config: TrainConfig) -> str:
    kept = done // config.checkpoint_every * config.checkpoint_every
    last = f"the checkpoint of step {kept} is kept" if kept else "there was no checkpoint yet"
    return (
        f"{problem}; {last}; train again to another --out with a lower --learning-rate or a longer --warm-up"
    )


def _from_first_worker(value: int | None) -> int | None:
    if not _distributed():
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box)
    return box[0]


def _from_every_worker(value: str | None) -> list[str | None]:
    """What each worker has to say. The text is exchanged only if there is any: this runs every step."""
    if not _distributed():
        return [value]
    flag = torch.tensor([float(value is not None)], device=_collective_device())
    torch.distributed.all_reduce(flag)
    if not flag.item():
        return []
    told: list[str | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(told, value)
    return told


def _collective_device() -> torch.device:
    nccl = torch.distributed.get_backend() == "nccl"
    return torch.device("cuda", torch.cuda.current_device()) if nccl else torch.device("cpu")


def _distributed() -> bool:
    return torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1
