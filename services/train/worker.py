"""The workers of a run: each computes its share, and the first one also records."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

from lungforge.errors import AccessError, InputError
from lungforge.models.average_profiles import SNAPSHOT_LENGTHS, snapshot_steps
from lungforge.models.checkpoint import to_safetensors
from lungforge.models.ema import MovingAverages
from lungforge.models.learner import Learner
from lungforge.models.model_dataset import write_model
from lungforge.models.snapshots import Snapshot, snapshot_name, to_half
from lungforge.storage import join_uri, write_bytes_atomic
from services.common.progress import say
from services.train.checkpoints import Checkpoint, CheckpointStore, history_tensor
from services.train.collectives import state_from_first_worker
from services.train.config import TrainConfig
from services.train.monitoring import Monitor
from services.train.preview import preview_picture
from services.train.run import TrainingRun

#: Called after steps: how many are done, and the metrics of the last one, by name.
Report = Callable[[int, dict[str, float]], None]
#: Asked before every step: whether to save and leave.
Stop = Callable[[], bool]
#: The metrics of every step.
History = list[list[float]]


def is_recorded(config: TrainConfig, done: int) -> bool:
    """Whether something is kept after so many steps: a checkpoint, averages, a picture, the model."""
    return (
        done == config.steps
        or done % config.checkpoint_every == 0
        or bool(config.preview_every and done % config.preview_every == 0)
        or bool(config.keep_averages and done in snapshot_steps(config.steps))
    )


class TrainWorker:
    """A worker that records nothing: every one but the first."""

    #: Whether its learner keeps the moving averages of the weights.
    averages = False

    def __init__(self, checkpoints: CheckpointStore) -> None:
        self.checkpoints = checkpoints

    def resume(self, learner: Learner) -> History:
        """Load the newest checkpoint, the same on every worker; returns the metrics of the steps done."""
        groups = state_from_first_worker(None)
        return [] if groups is None else self._load(learner, Checkpoint.of_groups(groups))

    @contextlib.contextmanager
    def recording(self, learner: Learner, done: int) -> Iterator[None]:
        """Within the block, steps are recorded."""
        yield

    def require_recorded(self) -> None:
        """Raise what kept this worker from recording an earlier step, if anything did."""

    def stop(self) -> bool:
        """Whether this worker has been asked to save and leave."""
        return False

    def on_step_end(self, history: History, rates: dict[str, float]) -> None:
        """Record a step that is done."""

    def save(self, learner: Learner, history: History) -> None:
        """Save the step that the run has come to."""

    def commit(self, learner: Learner, history: History) -> None:
        """Write the model."""

    def _load(self, learner: Learner, checkpoint: Checkpoint) -> History:
        metrics = checkpoint.history.shape[1]
        if metrics != len(learner.METRICS):
            raise InputError(
                f"{self.checkpoints.uri}: the checkpoints have {metrics} metrics a step and this version of "
                f"LungForge records {len(learner.METRICS)}; finish with the version that began, or give "
                "another --out"
            )
        learner.load_state(checkpoint.state, checkpoint.steps)
        history: History = checkpoint.history.tolist()
        return history


class FirstTrainWorker(TrainWorker):
    """The worker that reports, saves checkpoints and previews, and writes the model.

    Args:
        run: The run.
        checkpoints: Its checkpoints.
        report: Called after every step.
        stop: Asked before every step.
    """

    averages = True

    def __init__(self, run: TrainingRun, checkpoints: CheckpointStore, report: Report, stop: Stop) -> None:
        super().__init__(checkpoints)
        self._run, self._report, self._stop = run, report, stop
        self._snapshots: tuple[Snapshot, ...] = ()
        self._fault: InputError | AccessError | None = None

    def resume(self, learner: Learner) -> History:
        """See ``TrainWorker``."""
        newest = self.checkpoints.newest()
        if newest is None:
            state_from_first_worker(None)
            if self.checkpoints.of_any_run():
                say(
                    f"{self._run.writer.uri} has checkpoints, but none to resume from: they are of other "
                    "options or data, of another release, or damaged; training starts at step 0"
                )
            return []
        # The others keep no average.
        state_from_first_worker({name: group for name, group in newest.groups.items() if name != "average"})
        self._snapshots = newest.snapshots
        return self._load(learner, newest)

    @contextlib.contextmanager
    def recording(self, learner: Learner, done: int) -> Iterator[None]:
        """See ``TrainWorker``."""
        self._learner = learner
        with Monitor(self._run.writer.uri, done, self._run.trackers) as self._monitor:
            self._report(done, {})
            yield

    def require_recorded(self) -> None:
        """See ``TrainWorker``."""
        if self._fault is not None:
            raise self._fault
        self.checkpoints.require_written()

    def stop(self) -> bool:
        """See ``TrainWorker``."""
        return self._stop()

    def on_step_end(self, history: History, rates: dict[str, float]) -> None:
        """See ``TrainWorker``. A fault is kept for ``require_recorded``, where it reaches every worker."""
        config, done = self._run.config, len(history)
        metrics = dict(zip(self._learner.METRICS, history[-1], strict=True)) | rates
        self._report(done, metrics)
        self._monitor.step(done, metrics)
        if config.keep_averages and done in snapshot_steps(config.steps):
            assert self._learner.average is not None
            self._keep(self._learner.average)
        if done % config.checkpoint_every == 0 and done < config.steps:
            self.save(self._learner, history)
        if config.preview_every and done % config.preview_every == 0:
            try:
                picture, data = preview_picture(self._learner.sampler(), self._run.index, config)
                self._monitor.picture(done, picture)
                write_bytes_atomic(join_uri(self._run.writer.uri, "previews", f"step-{done:08d}.png"), data)
            except (InputError, AccessError) as error:
                self._fault = error

    def save(self, learner: Learner, history: History) -> None:
        """See ``TrainWorker``."""
        metrics = history_tensor(history, len(learner.METRICS))
        self.checkpoints.save(Checkpoint(len(history), learner.state(), metrics, self._snapshots))
        self._monitor.keep_time()

    def commit(self, learner: Learner, history: History) -> None:
        """See ``TrainWorker``."""
        assert learner.average is not None
        run = self._run
        columns = {name: [row[column] for row in history] for column, name in enumerate(learner.METRICS)}
        # More digits would be noise of the last images.
        final = {name: float(f"{columns[name][-1]:.4g}") for name in learner.SUMMARY}
        details = dataclasses.replace(run.details(), final_metrics=final or None)
        write_model(
            run.writer,
            run.config.spec,
            run.network,
            learner.average.weights,
            details,
            columns,
            self._snapshots,
        )

    def _keep(self, average: MovingAverages) -> None:
        """Take snapshots of the averages; they are written while training continues."""
        writer, files = self._run.writer, {}
        for length in SNAPSHOT_LENGTHS:
            name = snapshot_name(length, average.updates)
            files[name] = data = to_safetensors(to_half(average.by_length[length]))
            self._snapshots += (Snapshot(length, average.updates, writer.file_part(name, data)),)

        def write() -> None:
            for name, data in files.items():
                writer.write_file(name, data)

        self.checkpoints.write_ahead(write)
