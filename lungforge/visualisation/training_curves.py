"""Plots of the metrics of a training run."""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter
from numpy.typing import NDArray

#: Points of the smoothed curve, each the median of several steps, as single steps scatter widely.
_POINTS: Final = 60
_COLUMNS: Final = 2
#: Of single values and of their median, for each curve of a panel.
_COLOURS: Final = (("#9bb8d3", "#12507b"), ("#e6bfa8", "#a8431b"), ("#aed0ae", "#2f6b2f"))
#: Errors of the image by noise are read beside one another: the metrics of these names share a panel.
_BY_NOISE: Final = ("error_high_noise_hu", "error_middle_noise_hu", "error_low_noise_hu")


def plot_curves(history: Mapping[str, Sequence[float]], title: str) -> bytes:
    """Plot every metric over the steps: single values faintly, their running median, and its last value.

    Args:
        history: Metric name to its value after each step.
        title: Title of the figure.

    Returns:
        A PNG file.
    """
    panels = [[name] for name in history if name not in _BY_NOISE]
    by_noise = [name for name in _BY_NOISE if name in history]
    if by_noise:
        panels.insert(0, by_noise)
    rows = math.ceil(len(panels) / _COLUMNS)
    figure = Figure(figsize=(4.8 * _COLUMNS, 2.6 * rows + 0.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    for position, panel in enumerate(panels, 1):
        axes = figure.add_subplot(rows, _COLUMNS, position)
        for name, (faint, strong) in zip(panel, _COLOURS, strict=False):
            values = history[name]
            steps, medians = running_median(values)
            axes.plot(np.arange(1, len(values) + 1), values, color=faint, linewidth=0.4)
            if panel is by_noise:
                words, end = name.removeprefix("error_").removesuffix("_hu"), f"{medians[-1]:.0f}"
            else:
                words, end = name, f"{medians[-1]:.3g}"
            label = f"{words.replace('_', ' ')}: {end} in the end"
            axes.plot(steps, medians, color=strong, linewidth=1.6, label=label)
        if panel is by_noise:
            axes.set_title("error of the image estimate, in HU", fontsize=10)
            axes.legend(fontsize=8)
        else:
            axes.set_title(label, fontsize=10)
        axes.set_xlabel("step", fontsize=8)
        axes.tick_params(labelsize=8, which="both")
        axes.grid(alpha=0.3)
        if all(min(history[name]) > 0 for name in panel):
            axes.set_yscale("log")
            if panel is by_noise:
                axes.yaxis.set_major_formatter(LogFormatter())
                axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.4)))
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
