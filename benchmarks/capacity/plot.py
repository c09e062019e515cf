"""Plot of the capacity model: time against workers, one panel per stage."""

from pathlib import Path
from typing import Any

import matplotlib

from benchmarks.capacity.model import WORKERS, Resources, Stage, bound, first_saturated

matplotlib.use("Agg")
from matplotlib import pyplot, ticker


def plot(resources: Resources, stages: list[Stage], rows: list[dict[str, Any]], path: Path) -> None:
    """Plot the rows of ``model.table`` to a PNG file."""
    figure, axes = pyplot.subplots(2, 2, figsize=(9, 7), sharex=True, layout="constrained")
    for axis, stage in zip(axes.flat, stages, strict=True):
        times = [row["seconds"] for row in rows if row["stage"] == stage.name]
        ideal = [stage.start_seconds + (times[0] - stage.start_seconds) / workers for workers in WORKERS]
        axis.plot(WORKERS, ideal, color="0.6", linestyle="--", label="ideal scaling")
        if not stage.exchanged_bytes:
            least = [bound(stage, resources, workers) for workers in WORKERS]
            axis.plot(WORKERS, least, color="tab:orange", linestyle=":", linewidth=2, label="lower bound")
        axis.plot(WORKERS, times, color="tab:blue", marker="o", markersize=4, label="simulated")
        first = first_saturated(stage, resources)
        if first is not None:
            name, workers = first
            axis.axvline(workers, color="tab:red", linewidth=1)
            # The curve falls to the right, so the upper right is free for text.
            left = workers < WORKERS[-3]
            axis.annotate(
                f"{name} saturated\nfrom {workers} workers",
                (workers, 1),
                (4 if left else -4, -5),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                color="tab:red",
                ha="left" if left else "right",
                va="top",
            )
        axis.set(title=f"{stage.name}: {stage.units} units", xscale="log", yscale="log")
        axis.set_xticks(WORKERS, [str(workers) for workers in WORKERS])
        axis.minorticks_off()
        axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.grid(color="0.9")
        axis.legend(loc="lower left", fontsize="small")
    for axis in axes[-1]:
        axis.set_xlabel("workers")
    for axis in axes[:, 0]:
        axis.set_ylabel("seconds")
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
