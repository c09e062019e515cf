"""Plots of the metrics of a training run."""

import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

#: Points of the smoothed curve, each the median of several steps, as single steps scatter widely.
_POINTS = 60
_COLUMNS = 2


def plot_curves(history: Mapping[str, Sequence[float]], title: str) -> bytes:
    """Plot every metric over the steps: single values faintly, their running median, and its last value.

    Args:
        history: Metric name to its value after each step.
        title: Title of the figure.

    Returns:
        A PNG file.
    """
    rows = math.ceil(len(history) / _COLUMNS)
    figure = Figure(figsize=(4.8 * _COLUMNS, 2.6 * rows + 0.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for position, (name, values) in enumerate(history.items(), 1):
        axes = figure.add_subplot(rows, _COLUMNS, position)
        steps, medians = running_median(values)
        axes.plot(np.arange(1, len(values) + 1), values, color="#9bb8d3", linewidth=0.4)
        axes.plot(steps, medians, color="#12507b", linewidth=1.6)
        axes.set_title(f"{name.replace('_', ' ')}: {medians[-1]:.3g} in the end", fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.3)
        if min(values) > 0:
            axes.set_yscale("log")
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Description": "curves of a training run", "Software": None})
    return file.getvalue()


def running_median(values: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Steps and medians of consecutive stretches of equal length (the last may be shorter).

    Returns:
        The middle step of each stretch, and the median of its values.
    """
    length = math.ceil(len(values) / _POINTS)
    starts = np.arange(0, len(values), length)
    medians = np.array([np.median(stretch) for stretch in np.split(np.asarray(values), starts[1:])])
    middles = starts + (np.minimum(length, len(values) - starts) + 1) / 2
    return middles, medians
