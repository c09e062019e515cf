"""Training as a Ray job: workers that share each batch, replaced when they die."""

import contextlib
import os
import shlex
import threading
import time
import warnings
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import pyarrow.fs
import ray.train
import torch
from ray.train.torch import TorchTrainer, prepare_model
from torch import nn

from lungforge.datasets import Dataset, Kind, Manifest
from lungforge.errors import AccessError, InputError
from lungforge.models.cost import training_line
from lungforge.models.model_dataset import ModelDetails
from lungforge.storage import join_uri, open_uri
from services.common.config_file import keep_config
from services.common.progress import progress, say, waiting
from services.common.ray_environment import starts_by_address
from services.common.ray_resources import Needs
from services.common.ray_session import ray_session
from services.train.collectives import Fault, compress_gradients
from services.train.config import TrainConfig
from services.train.coordinator import Coordinator, start_coordinator
from services.train.loop import train
from services.train.run import TrainingRun, model_writer, prepare
from services.train.shown import SmoothedLoss, note

#: Seconds between two reports of the first worker: reporting every step would slow quick steps down.
_REPORT_INTERVAL_S = 0.5
#: Folder in OUT where Ray Train keeps its own notes while it runs: all hosts must reach it.
_NOTES = "ray-train"


@dataclass(frozen=True)
class TrainResult:
    """The model that came out.

    Attributes:
        model: Its URI.
        steps: Steps of the optimiser.
        rows: Slices in the training set.
        series: Scans in the training set.
        size: Side of its images, in px.
    """

    model: str
    steps: int
    rows: int
    series: int
    size: int

    @property
    def next_steps(self) -> tuple[str, ...]:
        """What a person does with it."""
        model = shlex.quote(self.model)
        return (
            f"lungforge show {model} --sheet curves.png",
            f"tensorboard --logdir {shlex.quote(join_uri(self.model, 'tensorboard'))}",
        )


def run(config: TrainConfig) -> TrainResult:
    """Train a model, or resume one; a finished one is left as it is.

    Raises:
        InputError: The data do not fit the configuration, or training diverged.
        AccessError: The store could not be read or written.
    """
    data = Dataset.open(config.data, Kind.SLICES)
    writer = model_writer(config, data)
    finished = writer.find_manifest()
    if finished is not None:
        say(f"{writer.uri} is finished already")
        return _result(writer.uri, finished)
    with waiting("reading the training slices", logged=False):
        training = prepare(config, data, writer)
    keep_config("train", config, writer.uri)
    scans, size = len(training.index.series_uids), training.network.image_size
    say(f"training {config.model} on {len(training.index)} slices of {scans} scans, {size} px")
    cost = config.spec.cost(training.network) if config.gpus_per_worker else None
    if cost is not None:
        images = config.batch // config.workers // config.gradient_accumulation
        say(training_line(cost, images=images, workers=config.workers, steps=config.steps))
    needs = Needs(config.cpus_per_worker, config.gpus_per_worker, config.workers)
    with ray_session(config.workers * config.cpus_per_worker, needs):
        ending = _fit(training)
    if ending.fault is not None:
        raise ending.fault.error()
    manifest = writer.find_manifest()
    assert manifest is not None, "training ended without a model"
    return _result(writer.uri, manifest)


class _LocalTrainer(TorchTrainer):
    """A trainer for a cluster of our own, which ends with the job and has no dashboard.

    Ray's watchers over the controller and over preempted hosts have nothing to do there, and would
    complain about the missing dashboard once a second.
    """

    def _create_default_callbacks(self) -> list:
        os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        callbacks = super()._create_default_callbacks()
        return [item for item in callbacks if type(item).__name__ != "PlacementGroupCleanerCallback"]


@dataclass(frozen=True)
class _Ending:
    """How the workers ended: after how many steps, or by what fault."""

    steps: int
    fault: Fault | None = None


def _fit(training: TrainingRun) -> _Ending:
    """Run the workers to their end.

    Raises:
        KeyboardInterrupt: The job was interrupted; the last step is saved.
    """
    config = training.config
    resources = {"CPU": config.cpus_per_worker, **({"GPU": 1} if config.gpus_per_worker else {})}
    coordinator = start_coordinator()
    fitted: Future[_Ending] = Future()
    fs, folder = open_uri(join_uri(training.writer.uri, _NOTES))

    def fit() -> None:
        trainer = (TorchTrainer if starts_by_address() else _LocalTrainer)(
            _train_in_ray,
            train_loop_config={"training": training, "coordinator": coordinator},
            scaling_config=ray.train.ScalingConfig(
                num_workers=config.workers,
                use_gpu=bool(config.gpus_per_worker),
                resources_per_worker=resources,
            ),
            # Checkpoints are our own, on the store; Ray keeps nothing but its own notes there.
            run_config=ray.train.RunConfig(
                storage_path=folder,
                storage_filesystem=pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs)),
                failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
                logging_config=ray.train.LoggingConfig(log_level="WARNING"),
            ),
        )
        try:
            fitted.set_result(trainer.fit().return_value)
        except BaseException as error:  # raised in the thread that waits for it
            fitted.set_exception(error)

    # Not in the main thread: there, Ray would take Ctrl-C for itself.
    threading.Thread(target=fit, name="fit", daemon=True).start()
    try:
        try:
            _show(coordinator, fitted, config.steps)
        except KeyboardInterrupt:
            _save_and_leave(coordinator, fitted)
            raise
    finally:
        if fitted.done() and fs.exists(folder):
            fs.rm(folder, recursive=True)
    return fitted.result()


def _show(coordinator: Coordinator, fitted: "Future[_Ending]", steps: int) -> None:
    """Show what the first worker reports, as progress, until training has ended."""
    shown = 0
    with progress("train", steps, unit="steps", start="starting the workers") as advance:
        while True:
            ended = fitted.done()
            done, metrics = coordinator.latest()
            # Workers that were replaced begin again at their checkpoint.
            if done > shown:
                advance(done - shown, note=note(metrics))
                shown = done
            if ended:
                return
            with contextlib.suppress(TimeoutError):
                fitted.exception(timeout=_REPORT_INTERVAL_S)


def _save_and_leave(coordinator: Coordinator, fitted: "Future[_Ending]") -> None:
    """Have the workers save their last step, and wait for them; interrupted again, don't."""
    if not coordinator.started():  # they may still be waiting for a host
        return
    say("interrupted: saving the last step (interrupt again to leave at once)")
    coordinator.stop()
    ending = fitted.result()
    if ending.fault is not None:
        say(ending.fault.message)
    else:
        say(f"saved: {ending.steps} steps are done")


def _train_in_ray(job: dict[str, Any]) -> _Ending:
    """What each worker runs. Errors of content and access are returned: raised, Ray would try them again."""
    training: TrainingRun = job["training"]
    coordinator: Coordinator = job["coordinator"]
    context = ray.train.get_context()
    torch.set_num_threads(training.config.cpus_per_worker)
    # Of 1x1 convolutions, whose strides can be written in two ways: nothing is wrong, and little is lost.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    last, smoothed = 0.0, SmoothedLoss()

    def report(done: int, metrics: dict[str, float]) -> None:
        nonlocal last
        now, metrics = time.monotonic(), smoothed.update(metrics)
        if now - last >= _REPORT_INTERVAL_S or done == training.config.steps:
            last = now
            coordinator.report(done, metrics)

    # There are no buffers to share: both kinds of network compute theirs alike on every worker. On GPUs the
    # gradients stay where they are added up, which saves their size in memory, and a copy.
    options = {
        "forward_sync_buffers": False,
        "gradient_as_bucket_view": bool(training.config.gpus_per_worker),
    }

    def distribute(module: nn.Module) -> nn.Module:
        prepared = prepare_model(module, parallel_strategy_kwargs=options)
        return compress_gradients(prepared) if training.config.compress_gradients else prepared

    try:
        steps = train(
            training,
            report,
            stop=coordinator.stop_request(),
            rank=context.get_world_rank(),
            workers=context.get_world_size(),
            local_workers=context.get_local_world_size(),
            distribute=distribute,
        )
    except (InputError, AccessError) as error:
        return _Ending(0, Fault.of(error))
    return _Ending(steps)


def _result(uri: str, manifest: Manifest) -> TrainResult:
    details = ModelDetails.of(manifest)
    assert details.steps
    assert details.rows
    assert details.size
    assert details.series_uids is not None
    return TrainResult(
        model=uri,
        steps=details.steps,
        rows=details.rows,
        series=len(details.series_uids),
        size=details.size,
    )
