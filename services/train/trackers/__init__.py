"""Where the metrics of a training go beside TensorBoard: MLflow and Weights & Biases, one file each."""

from services.train.trackers.base import Target, TrackerName, targets_of
from services.train.trackers.thread import TrackerThread

__all__ = ["Target", "TrackerName", "TrackerThread", "targets_of"]
