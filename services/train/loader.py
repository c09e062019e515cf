"""The batches of a worker: rows kept in memory or read ahead, made into tensors in a thread of their own."""

import contextlib
from collections.abc import Generator, Iterator

import torch

from lungforge.datasets.memory_budget import rows_budget
from lungforge.datasets.row_cache import readers_within
from lungforge.datasets.shuffling import RowStream
from lungforge.models.device_choices import batches_ahead
from lungforge.models.learner import Batch, SampleNeeds
from services.train.batches import make_batch
from services.train.config import TrainConfig
from services.train.prefetch import prefetch
from services.train.run import TrainingRun


@contextlib.contextmanager
def loading(
    run: TrainingRun,
    steps: range,
    needs: SampleNeeds,
    device: torch.device,
    *,
    rank: int,
    workers: int,
    local_workers: int,
) -> Iterator[Iterator[Batch]]:
    """Within the block, this worker's share of each batch is made before it is asked for.

    What the batches are depends neither on the memory that there is nor on how many workers share them.

    Args:
        run: Of the training.
        steps: Those to come.
        needs: Of the learner.
        device: Where the batches go; they stay in the host's memory.
        rank: Which worker this is.
        workers: How many there are.
        local_workers: How many of them are on this host, and so share its memory.

    Yields:
        The batches of the steps, in order. An InputError or AccessError is raised at the step that it is of.
    """
    config, share = run.config, run.config.batch // workers
    positions, budget = range(rank * share, (rank + 1) * share), rows_budget(local_workers)
    stream = RowStream(
        run.index,
        batch=config.batch,
        positions=positions,
        seed=config.seed,
        budget=budget,
        readers=readers_within(run.index, budget),
        stop=steps.stop,
    )
    with stream, contextlib.closing(batches_of(stream, steps, config, needs, device)) as batches:
        yield batches


def batches_of(
    stream: RowStream, steps: range, config: TrainConfig, needs: SampleNeeds, device: torch.device
) -> Generator[Batch, None, None]:
    """The batches of a stream's rows, made in another thread as far ahead as the device wants."""
    pinned = device.type == "cuda"

    def make(step: int) -> Batch:
        batch = make_batch(stream.rows(step), stream.samples(step), config, needs)
        return batch.pinned() if pinned else batch

    return prefetch(make, steps, batches_ahead(device))
