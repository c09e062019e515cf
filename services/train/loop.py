"""The training loop: fetch a batch, agree with the other workers, step, record."""

from torch import Tensor

from lungforge.errors import AccessError, InputError
from lungforge.models.device_choices import steps_between_reads
from lungforge.models.learner import Distribute, DivergedError
from services.train.checkpoints import CheckpointStore
from services.train.collectives import Fault, agree
from services.train.divergence import require_no_rise, settled_after, with_advice
from services.train.loader import loading
from services.train.monitoring import Rates
from services.train.run import TrainingRun
from services.train.worker import FirstTrainWorker, Report, Stop, TrainWorker, is_recorded


def train(
    run: TrainingRun,
    report: Report,
    *,
    stop: Stop = lambda: False,
    rank: int = 0,
    workers: int = 1,
    local_workers: int = 1,
    distribute: Distribute = lambda module: module,
) -> int:
    """Train to the end, from the newest checkpoint if there is one; the first worker commits the model.

    A run ends before its last step in one of three ways: a worker has a fault, the first worker is asked to
    stop (the last step is saved), or training has diverged. Each reaches all workers at the same step.

    Args:
        run: What to train.
        report: Called by the first worker after every step.
        stop: Asked by the first worker before every step; where it says yes, all workers leave.
        rank: Which worker this is.
        workers: How many there are.
        local_workers: How many of them are on this host.
        distribute: As for ``ModelSpec.learner``.

    Returns:
        Steps that are done; fewer than asked for when it was stopped.

    Raises:
        InputError: A row is wrong, or training diverged; on every worker alike.
        AccessError: The store could not be read or written; on every worker alike.
    """
    config = run.config
    with CheckpointStore(
        run.writer.uri, run.writer.work, config.keep, settled=settled_after()
    ) as checkpoints:
        worker = FirstTrainWorker(run, checkpoints, report, stop) if rank == 0 else TrainWorker(checkpoints)
        learner = run.make_learner(distribute=distribute, averages=worker.averages)
        history = worker.resume(learner)
        steps = range(len(history), config.steps)

        rates, unread = Rates(config.batch), list[Tensor]()
        every = steps_between_reads(learner.device)

        def read() -> None:
            """Read back what the last steps have measured, and record them."""
            try:
                for metrics in learner.read(unread, len(history)):
                    history.append(metrics)
                    require_no_rise(learner, history)
                    worker.on_step_end(history, rates.values())
            except DivergedError as error:
                raise with_advice(error, checkpoints) from None
            unread.clear()

        loaded = loading(
            run,
            steps,
            learner.needs,
            learner.device,
            rank=rank,
            workers=workers,
            local_workers=local_workers,
        )
        with worker.recording(learner, len(history)), loaded as batches:
            for step in steps:
                batch, fault = None, None
                try:
                    with rates.waiting():
                        batch = next(batches)
                    worker.require_recorded()
                except (InputError, AccessError) as error:
                    fault = Fault.of(error)
                status = agree(fault, stop=worker.stop())
                if status.fault is not None:
                    raise status.fault.error()
                if status.stop:
                    break
                assert batch is not None
                unread.append(learner.step(batch.micro_batches(config.gradient_accumulation), step))
                rates.step_done()
                # Whatever is kept of a step is read first, so that nothing of a diverged run is kept. All
                # workers read after the same steps, and end there together.
                if (step + 1) % every == 0 or is_recorded(config, step + 1):
                    read()
            read()
        if steps.start < len(history) < config.steps:
            worker.save(learner, history)
    if len(history) == config.steps:
        worker.commit(learner, history)
    return len(history)
