"""Training as a Ray job: workers that share each batch, replaced when they die."""

import contextlib
import functools
import os
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

from lungforge.config import identity
from lungforge.datasets import Dataset, DatasetWriter, Kind, Manifest
from lungforge.datasets.slices import index_rows
from lungforge.errors import AccessError, InputError
from lungforge.storage import join_uri, open_uri
from services.common.progress import progress, say
from services.common.ray_session import ray_session
from services.train.config import TrainConfig
from services.train.coordinator import Desk, open_desk
from services.train.loop import Work, train

#: Seconds between two reports of the first worker: telling every step would slow quick steps down.
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


def run(config: TrainConfig) -> TrainResult:
    """Train a model, or go on with one; a finished one is left as it is.

    Raises:
        InputError: The data do not fit the configuration, or training diverged.
    """
    data = Dataset.open(config.data, Kind.SLICES)
    writer = DatasetWriter(
        uri=config.out, kind=Kind.MODEL, config=identity(config), seed=config.seed, parents=(data.parent(),)
    )
    finished = writer.find_manifest()
    if finished is not None:
        say(f"{writer.uri} is there already")
        return _result(writer.uri, finished)
    work = plan(config, data, writer)
    scans = len(work.index.series_uids)
    say(f"training {config.model} on {len(work.index)} slices of {scans} scans, {work.shape.image_size} px")
    with ray_session(config.workers * config.cpus_per_worker):
        ending = _fit(work)
    if ending.fault is not None:
        raise InputError(ending.fault)
    manifest = writer.find_manifest()
    assert manifest is not None, "training ended without a model"
    return _result(writer.uri, manifest)


def plan(config: TrainConfig, data: Dataset, writer: DatasetWriter) -> Work:
    """Find the rows to train on, and the network that they ask for.

    Raises:
        InputError: There are no rows, or no network of the configuration can take them.
    """
    index = index_rows(data, config.subsets)
    height, width = index.size
    remedy = "choose another size with `lungforge preprocess --size N`"
    if config.patch is not None:
        if config.patch > min(height, width):
            raise InputError(
                f"--patch is {config.patch} and the images are {height} x {width}; give a smaller patch"
            )
        size = config.patch
    elif height != width:
        raise InputError(f"{data.uri} holds images of {height} x {width} px, and models are square; {remedy}")
    else:
        size = height
    try:
        shape = config.network(size)
    except InputError as error:
        raise InputError(
            f"no network for the images of {size} px in {data.uri}: {error}; or {remedy}"
        ) from None
    return Work(config, shape, index, writer)


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
    fault: str | None = None


def _fit(work: Work) -> _Ending:
    """Run the workers to their end.

    Raises:
        KeyboardInterrupt: The job was interrupted; the step that it had come to is saved.
    """
    config = work.config
    resources = {"CPU": config.cpus_per_worker, **({"GPU": 1} if config.gpus_per_worker else {})}
    desk = open_desk()
    fitted: Future[_Ending] = Future()
    fs, folder = open_uri(join_uri(work.writer.uri, _NOTES))

    def fit() -> None:
        trainer = (TorchTrainer if os.environ.get("RAY_ADDRESS") else _LocalTrainer)(
            _work_in_ray,
            train_loop_config={"work": work, "desk": desk},
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
        except BaseException as error:  # told in the thread that waits for it
            fitted.set_exception(error)

    # Not in the main thread: there, Ray would take Ctrl-C for itself.
    threading.Thread(target=fit, name="fit", daemon=True).start()
    try:
        try:
            _show(desk, fitted, config.steps)
        except KeyboardInterrupt:
            _save_and_leave(desk, fitted)
            raise
    finally:
        if fitted.done() and fs.exists(folder):
            fs.rm(folder, recursive=True)
    return fitted.result()


def _show(desk: Desk, fitted: "Future[_Ending]", steps: int) -> None:
    """Show what the first worker tells, as progress, until training has ended."""
    shown = 0
    with progress("train", steps, unit="steps") as advance:
        while True:
            ended = fitted.done()
            done, metrics = desk.latest()
            # Workers that were replaced begin again at their checkpoint.
            if done > shown:
                note = " ".join(f"{name} {value:.4g}" for name, value in metrics.items())
                advance(done - shown, note=note)
                shown = done
            if ended:
                return
            with contextlib.suppress(TimeoutError):
                fitted.exception(timeout=_REPORT_INTERVAL_S)


def _save_and_leave(desk: Desk, fitted: "Future[_Ending]") -> None:
    """Have the workers save the step that they are at, and wait for them; interrupted again, don't."""
    say("interrupted: saving the step that training has come to (interrupt again to leave at once)")
    desk.stop()
    ending = fitted.result()
    if ending.fault is not None:
        say(ending.fault)
    else:
        say(f"saved: {ending.steps} steps are done")


def _work_in_ray(job: dict[str, Any]) -> _Ending:
    """What each worker runs. A user's mistake is returned: raised, it would be tried again in vain."""
    work: Work = job["work"]
    desk: Desk = job["desk"]
    context = ray.train.get_context()
    torch.set_num_threads(work.config.cpus_per_worker)
    # Of 1x1 convolutions, whose strides can be written in two ways: nothing is wrong, and little is lost.
    warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
    last = 0.0

    def report(done: int, metrics: dict[str, float]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _REPORT_INTERVAL_S or done == work.config.steps:
            last = now
            desk.report(done, metrics)

    # There are no buffers to share: both kinds of network compute theirs alike on every worker.
    distribute = functools.partial(prepare_model, parallel_strategy_kwargs={"broadcast_buffers": False})
    rank = context.get_world_rank()
    try:
        steps = train(
            work,
            report,
            stop=desk.stop_request() if rank == 0 else lambda: False,
            rank=rank,
            workers=context.get_world_size(),
            distribute=distribute,
        )
    except (InputError, AccessError) as error:
        return _Ending(0, str(error))
    return _Ending(steps)


def _result(uri: str, manifest: Manifest) -> TrainResult:
    details = manifest.details
    return TrainResult(
        model=uri,
        steps=details["steps"],
        rows=details["rows"],
        series=len(details["series_uids"]),
        size=details["size"],
    )
