"""The report: one HTML file that needs nothing else, from the results and the images."""

import base64
import dataclasses
import json
from collections.abc import Sequence

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from lungforge.ct import classes
from lungforge.visualisation.contact_sheets import png_bytes, render_map
from services.eval.downstream.results import measure_title
from services.eval.records import Match, Misfit, SliceImages
from services.eval.report import downstream_figures
from services.eval.report.lineage_graph import lineage_graph
from services.eval.report.wording import plus_minus, significant, subsets_words
from services.eval.results import EvaluationReport
from services.eval.set_results import MemorisedPair, NotMeasured

#: Smaller images are enlarged without smoothing, so that a reader sees their pixels.
_SMALL_PX = 128
#: Series ids longer than this are shown by their end; it is what differs.
_LONG_UID, _UID_END = 24, 16


@dataclasses.dataclass(frozen=True)
class SetImages:
    """The images of one set of synthetic slices that the report shows.

    Attributes:
        grid: Maps with their real and synthetic slices.
        most_similar: The synthetic slices most like a real one.
        misfits: The synthetic slices least like their maps.
        memorised: The synthetic slices nearest to a training slice.
    """

    grid: tuple[SliceImages, ...]
    most_similar: tuple[tuple[Match, SliceImages], ...]
    misfits: tuple[Misfit, ...]
    memorised: tuple[tuple[MemorisedPair, SliceImages], ...]


def render(report: EvaluationReport, images: Sequence[SetImages]) -> bytes:
    """The report as UTF-8 HTML.

    Args:
        report: The results.
        images: For each of ``report.sets``.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("services.eval.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.globals |= {
        "grey_image": _image,
        "map_image": _map_image,
        "plus_minus": plus_minus,
        "legend": list(zip(classes.NAMES, classes.COLOURS, strict=True)),
        "lineage_graph": lineage_graph,
        "view": downstream_figures,
        "names": [results.name for results in report.sets],
    }
    environment.filters |= {
        "significant": significant,
        "places": lambda value, digits: f"{value:.{digits}f}",
        "short": lambda uid: uid if len(uid) <= _LONG_UID else f"…{uid[-_UID_END:]}",
        "thousands": lambda value: f"{value:,}",
        "title_of": measure_title,
        "subsets": subsets_words,
        "json": lambda value: json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False),
    }
    environment.tests["not_measured"] = lambda value: isinstance(value, NotMeasured)
    sets = list(zip(report.sets, images, strict=True))
    return environment.get_template("report.html").render(report=report, sets=sets).encode()


def _map_image(label: NDArray[np.uint8], alternative: str) -> Markup:
    return _image(render_map(label), alternative)


def _image(pixels: NDArray[np.uint8], alternative: str) -> Markup:
    """An ``img`` element that holds its pixels."""
    data = base64.b64encode(png_bytes(pixels)).decode()
    height, width = pixels.shape[:2]
    kind = "pixels" if width < _SMALL_PX else "smooth"
    element = Markup('<img class="{}" src="data:image/png;base64,{}" width="{}" height="{}" alt="{}">')
    return element.format(kind, data, width, height, alternative)
