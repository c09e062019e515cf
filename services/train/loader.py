"""The batches of a worker: rows kept in memory or read ahead, made into tensors in a thread of their own."""

import contextlib
from collections.abc import Iterator

import torch

from lungforge.datasets.memory_budget import rows_budget
from lungforge.datasets.shuffling import RowStream
from lungforge.models.device_choices import batches_ahead
from lungforge.models.learner import Batch, SampleNeeds
from services.train.batches import make_batch
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

    What the batches are does not depend on the memory that there is, nor on how many workers share a batch.

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
    positions = range(rank * share, (rank + 1) * share)
    pinned = device.type == "cuda"
    with RowStream(
        run.index,
        batch=config.batch,
        positions=positions,
        seed=config.seed,
        budget=rows_budget(local_workers),
    ) as stream:

        def make(step: int) -> Batch:
            batch = make_batch(stream.rows(step), stream.samples(step), config, needs)
            return batch.pinned() if pinned else batch

        with contextlib.closing(prefetch(make, steps, batches_ahead(device))) as batches:
            yield batches
