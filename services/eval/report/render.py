"""The report: one HTML file that needs nothing else, from the numbers and the pictures."""

import base64
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

from lungforge.ct import classes
from lungforge.visualisation.contact_sheets import png_bytes, render_map
from services.eval.downstream.results import name_of
from services.eval.numbers import plus_minus
from services.eval.records import Match, Misfit, Picture
from services.eval.report import downstream_figures
from services.eval.report.lineage_graph import lineage_graph, subsets_words

#: Smaller pictures are enlarged without smoothing, so that a reader sees their pixels.
_SMALL_PX = 128
#: Series ids longer than this are shown by their end; it is what differs.
_LONG_UID, _UID_END = 24, 16


@dataclasses.dataclass(frozen=True)
class SetPictures:
    """The pictures of one set of synthetic slices.

    Attributes:
        grid: Maps with their real and synthetic slices.
        worst: The synthetic slices most like a real one.
        misfits: The synthetic slices least like their maps.
    """

    grid: tuple[Picture, ...]
    worst: tuple[tuple[Match, Picture], ...]
    misfits: tuple[Misfit, ...]


def render(document: dict[str, Any], pictures: Sequence[SetPictures]) -> bytes:
    """The report as UTF-8 HTML.

    Args:
        document: What ``metrics.json`` holds.
        pictures: For each of ``document["sets"]``.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("services.eval.report", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.globals |= {
        "grey_image": _grey_image,
        "map_image": _map_image,
        "plus_minus": plus_minus,
        "legend": list(zip(classes.NAMES, classes.COLOURS, strict=True)),
        "lineage_graph": lineage_graph,
        "view": downstream_figures,
        "names": [numbers["name"] for numbers in document["sets"]],
    }
    environment.filters |= {
        "number": _number,
        "places": lambda value, digits: f"{value:.{digits}f}",
        "short": lambda uid: uid if len(uid) <= _LONG_UID else f"…{uid[-_UID_END:]}",
        "thousands": lambda value: f"{value:,}",
        "measure": name_of,
        "subsets": subsets_words,
        "json": lambda value: json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False),
    }
    sets = list(zip(document["sets"], pictures, strict=True))
    return environment.get_template("report.html").render(document=document, sets=sets).encode()


def _number(value: float | None, digits: int = 4) -> str:
    """A number for a person: so many significant digits, a true minus sign, a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.{digits}g}".replace("-", "\N{MINUS SIGN}")


def _grey_image(picture: np.ndarray, alternative: str) -> Markup:
    return _image(picture, alternative)


def _map_image(label: np.ndarray, alternative: str) -> Markup:
    return _image(render_map(label), alternative)


def _image(picture: np.ndarray, alternative: str) -> Markup:
    """An ``img`` element that holds its picture."""
    data = base64.b64encode(png_bytes(picture)).decode()
    height, width = picture.shape[:2]
    kind = "pixels" if width < _SMALL_PX else "smooth"
    element = Markup('<img class="{}" src="data:image/png;base64,{}" width="{}" height="{}" alt="{}">')
    return element.format(kind, data, width, height, alternative)
