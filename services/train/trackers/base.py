"""What a tracker is, and where it writes: settled before training begins."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from lungforge.config import digest
from lungforge.errors import InputError
from lungforge.extras import require_extra
from lungforge.public_uri import require_public
from lungforge.storage import join_uri
from lungforge.storage.files import absolute_uri

TrackerName = Literal["mlflow", "wandb"]
#: The variable that says where a tracker writes: a server or a folder.
_PLACES: Mapping[str, str] = {"mlflow": "MLFLOW_TRACKING_URI", "wandb": "WANDB_DIR"}


class Tracker(Protocol):
    """A program that shows metrics. Whatever it raises ends it, and not the training."""

    def step(self, done: int, metrics: Mapping[str, float]) -> None:
        """Take the metrics of a step."""

    def picture(self, done: int, picture: NDArray[np.uint8]) -> None:
        """Take a preview, [H, W, 3]."""

    def close(self, *, failed: bool) -> None:
        """End; ``failed`` where an error ended the training."""


@dataclass(frozen=True)
class Target:
    """A run in a tracker. Plain data: it goes to the worker that records.

    Attributes:
        tracker: Its name.
        place: Of MLflow the tracking URI, of Weights & Biases the folder for its files.
        run: Names the run: the same work in the same folder, and so a resumed training, is the same run.
        title: What people read.
        options: Those of the training, by dotted name.
        steps: Of the whole training.
    """

    tracker: TrackerName
    place: str
    run: str
    title: str
    options: Mapping[str, Any]
    steps: int


def targets_of(
    trackers: Sequence[TrackerName], folder: str, work: str, options: Mapping[str, Any], steps: int
) -> tuple[Target, ...]:
    """The runs of a training in trackers.

    Args:
        trackers: Their names.
        folder: URI of the model.
        work: Digest of what the training does.
        options: Of the training; JSON values, nested.
        steps: Of the training.

    Raises:
        InputError: The package of a tracker is not installed, its files have no place, or the place has a
            secret in it.
    """
    run = digest({"work": work, "folder": folder})[:16]
    title = folder.rstrip("/").rpartition("/")[2]
    flat = dict(_flat(options))
    return tuple(Target(name, _place(name, folder), run, title, flat, steps) for name in trackers)


def _place(tracker: TrackerName, folder: str) -> str:
    require_extra(tracker, tracker, f"--log-to {tracker}")
    variable = _PLACES[tracker]
    given = os.environ.get(variable)
    if given:
        require_public(variable, given)
        return given
    folder = absolute_uri(folder)
    if "://" in folder:
        raise InputError(f"--log-to {tracker} cannot keep its files in {folder}; set {variable}")
    return f"file://{join_uri(folder, 'mlruns')}" if tracker == "mlflow" else folder


def _flat(options: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for name, value in options.items():
        flat += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(prefix + name, value)]
    return flat
