"""Curves of each measure over the minutes of training, and a picture sheet of maps chosen by rule."""

import io
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from numpy.typing import NDArray

from benchmarks.quality.results import MEASURES, Measure, QualityReport
from lungforge.datasets.slices import SliceRow, evenly
from lungforge.visualisation.contact_sheets import WINDOW_TEXT, contact_sheet, map_tile, png_bytes, slice_tile

#: Maps of the picture sheet.
ROWS: Final = 8
_TILE_PX: Final = 160
_COLOURS: Final = ("#12507b", "#c4622d", "#3f8f5f", "#7a4f9a")
_REAL_COLOUR: Final = "#555555"


def curves(report: QualityReport) -> bytes:
    """The curves as a PNG file."""
    file = io.BytesIO()
    description = "measures of generated slices over minutes of training"
    metadata = {"Description": description, "Software": None}
    figure_of(report).savefig(file, format="png", metadata=metadata)
    return file.getvalue()


def figure_of(report: QualityReport) -> Figure:
    """A panel for each measure: a line for each generator, through the mean of its seeds."""
    figure = Figure(figsize=(10.5, 6.0), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3).ravel()
    for panel, measure in zip(axes, MEASURES, strict=True):
        _panel(panel, measure, report)
    handles, labels = axes[1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False, fontsize=9)
    return figure


def _panel(axes: Axes, measure: Measure, report: QualityReport) -> None:
    groups = report.groups()
    minutes = sorted({budget for _, budget in groups})
    real = measure.of(report.real)
    if real:
        axes.axhline(
            float(np.mean(real)),
            color=_REAL_COLOUR,
            linestyle="--",
            linewidth=1.2,
            label="real, training subsets",
        )
    for number, model in enumerate(dict.fromkeys(name for name, _ in groups)):
        colour = _COLOURS[number % len(_COLOURS)]
        points = {
            budget: measure.of([one.quality for one in group])
            for (name, budget), group in groups.items()
            if name == model
        }
        points = {budget: values for budget, values in points.items() if values}
        for budget, values in points.items():
            axes.plot([budget] * len(values), values, ".", color=colour, markersize=4, alpha=0.5)
        means = [float(np.mean(values)) for values in points.values()]
        axes.plot([*points], means, "o-", color=colour, linewidth=1.6, markersize=5, label=model)
    axes.set_title(measure.title, fontsize=10)
    axes.set_xlabel("minutes of training", fontsize=8)
    axes.set_xscale("log")
    axes.set_xticks(minutes, [f"{budget:g}" for budget in minutes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlim(minutes[0] / 1.3, minutes[-1] * 1.3)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)


def pictures(rows: Sequence[SliceRow], generated: Mapping[str, NDArray[np.int16]]) -> bytes:
    """Maps spread evenly over the validation slices, the real slice and that of each model; a PNG file.

    Args:
        rows: The validation slices.
        generated: A heading to the slices of a model, HU [N, H, W], in the same order.
    """
    sheet = contact_sheet(
        [
            [
                map_tile(rows[place].label, tile_px=_TILE_PX),
                *(
                    slice_tile(hu, rows[place].label, tile_px=_TILE_PX)
                    for hu in (rows[place].image, *(made[place] for made in generated.values()))
                ),
            ]
            for place in evenly(len(rows), ROWS).tolist()
        ],
        column_headings=("map", "real", *generated),
        footer=f"Maps spread evenly over the validation slices; {WINDOW_TEXT}",
        legend=True,
        tile_px=_TILE_PX,
    )
    return png_bytes(sheet, {"Description": "maps, real and generated CT slices"})
