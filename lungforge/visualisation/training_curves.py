"""The curves of a training run, as a picture."""

import io
import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

#: Points of a curve: each is the median of as many steps as that takes, as single steps scatter widely.
_POINTS = 60
_COLUMNS = 2


def draw_curves(history: Mapping[str, Sequence[float]], title: str) -> bytes:
    """Draw every metric over the steps: the single steps faintly, their running median, and its last value.

    Args:
        history: Metric to its value after each step.
        title: What was trained, and on what.

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
    """Medians of stretches of equal length, and the step in the middle of each; the last may be shorter."""
    length = math.ceil(len(values) / _POINTS)
    starts = np.arange(0, len(values), length)
    medians = np.array([np.median(stretch) for stretch in np.split(np.asarray(values), starts[1:])])
    middles = starts + (np.minimum(length, len(values) - starts) + 1) / 2
    return middles, medians
