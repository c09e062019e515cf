"""Metrics in MLflow: a server that MLFLOW_TRACKING_URI names, else files in OUT/mlruns."""

import os
import time
from collections.abc import Mapping

import numpy as np
from mlflow.entities import Metric, Param
from mlflow.tracking import MlflowClient
from numpy.typing import NDArray

from services.train.trackers.base import Target

#: The tag by which a resumed training finds its run.
TAG = "lungforge.run"
_EXPERIMENT = "lungforge"


class MlflowTracker:
    """A run in MLflow.

    Args:
        target: The run.
    """

    def __init__(self, target: Target) -> None:
        # Files need no server and no database; without this, MLflow 3 refuses them.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        self._client = MlflowClient(tracking_uri=target.place)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
        known = self._client.get_experiment_by_name(name)
        experiment = self._client.create_experiment(name) if known is None else known.experiment_id
        found = self._client.search_runs([experiment], f"tags.`{TAG}` = '{target.run}'")
        if found:
            self._run = found[0].info.run_id
            self._client.update_run(self._run, status="RUNNING")
            return
        made = self._client.create_run(experiment, tags={TAG: target.run}, run_name=target.title)
        self._run = made.info.run_id
        options = [Param(name, str(value)) for name, value in target.options.items()]
        self._client.log_batch(self._run, params=options)

    def step(self, done: int, metrics: Mapping[str, float]) -> None:
        """See ``Tracker``."""
        now = int(time.time() * 1000)
        batch = [Metric(name, value, now, done) for name, value in metrics.items()]
        self._client.log_batch(self._run, metrics=batch)

    def picture(self, done: int, picture: NDArray[np.uint8]) -> None:
        """See ``Tracker``."""
        self._client.log_image(self._run, picture, key="preview", step=done)

    def close(self, *, failed: bool) -> None:
        """See ``Tracker``."""
        self._client.set_terminated(self._run, "FAILED" if failed else "FINISHED")
