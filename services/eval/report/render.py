"""The report: one HTML file that needs nothing else, from the results and the images."""

import base64
import dataclasses
import io
import json
from collections.abc import Sequence

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from lungforge.ct import classes
from lungforge.ct.orientation import has_sides, is_turned, turn
from lungforge.metrics.froc import rate_words
from lungforge.visualisation.contact_sheets import render_map
from services.eval.copy_results import MemorisedPair
from services.eval.downstream.results import REFERENCE_TITLES, measure_title
from services.eval.records import Match, Misfit, SliceImages
from services.eval.report import downstream_figures
from services.eval.report.lineage_graph import lineage_graph
from services.eval.report.radiomic_words import feature_value, hounsfield_words
from services.eval.report.wording import (
    page_of_phantoms,
    plus_minus,
    significant,
    subsets_words,
    threshold_words,
)
from services.eval.results import EvaluationReport
from services.eval.sensitivity import SEEN, TITLES, sensitivity_sentence
from services.eval.set_results import NotMeasured

#: Smaller images are enlarged without smoothing, so that a reader sees their pixels.
_SMALL_PX = 128
#: Larger grey images lose what no eye sees: a tenth of the bytes.
_QUALITY = 85
#: Triples of map, real and synthetic slice that stand on top.
_ON_TOP = 4
#: Series ids longer than this are shown by their end; it is what differs.
_LONG_UID, _UID_END = 24, 16


@dataclasses.dataclass(frozen=True)
class SetImages:
    """The images of one set of synthetic slices that the report shows.

    Attributes:
        grid: Maps with their real and synthetic slices, spread evenly over the set.
        most_similar: The synthetic slices most like a real one.
        misfits: The synthetic slices least like their maps.
        memorised: The synthetic slices nearest to a training slice.
    """

    grid: tuple[SliceImages, ...]
    most_similar: tuple[tuple[Match, SliceImages], ...]
    misfits: tuple[Misfit, ...]
    memorised: tuple[tuple[MemorisedPair, SliceImages], ...]

    @property
    def triples(self) -> tuple[SliceImages, ...]:
        """Those of the grid with the most lung, in the order of the grid, upright: they stand on top."""
        return tuple(map(upright, self._on_top))

    @property
    def others(self) -> tuple[SliceImages, ...]:
        """The rest of the grid."""
        return tuple(images for images in self.grid if all(images is not one for one in self._on_top))

    @property
    def _on_top(self) -> tuple[SliceImages, ...]:
        largest = sorted(self.grid, key=lambda images: -_lung_share(images.label))[:_ON_TOP]
        return tuple(images for images in self.grid if any(images is one for one in largest))


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
    phantoms = report.real.origin == "phantoms"
    environment.globals |= {
        "title": f"Synthetic slices compared with {'phantoms' if phantoms else 'real chest CT'}",
        "phantoms": phantoms,
        "contents": _contents(report),
        "grey_image": _image,
        "map_image": _map_image,
        "has_sides": has_sides,
        "plus_minus": plus_minus,
        "threshold_words": threshold_words,
        "legend": list(zip(classes.NAMES, classes.COLOURS, strict=True)),
        "lineage_graph": lineage_graph,
        "feature_value": feature_value,
        "hounsfield_words": hounsfield_words,
        "sensitivity_sentence": sensitivity_sentence,
        "power_titles": TITLES,
        "seen_power": SEEN,
        "view": downstream_figures,
        "reference_titles": REFERENCE_TITLES,
        "names": [results.name for results in report.sets],
    }
    environment.filters |= {
        "significant": significant,
        "places": lambda value, digits: f"{value:.{digits}f}",
        "short": lambda uid: uid if len(uid) <= _LONG_UID else f"…{uid[-_UID_END:]}",
        "thousands": lambda value: f"{value:,}",
        "title_of": measure_title,
        "rate": rate_words,
        "subsets": subsets_words,
        "json": lambda value: json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False),
    }
    environment.tests["not_measured"] = lambda value: isinstance(value, NotMeasured)
    sets = list(zip(report.sets, images, strict=True))
    page = environment.get_template("report.html").render(report=report, sets=sets)
    return (page_of_phantoms(page) if phantoms else page).encode()


def _contents(report: EvaluationReport) -> list[tuple[str, str]]:
    """Anchors and names of the sections."""
    sections = [("verdict", "Verdict"), ("radiomics", "Brightness, noise, texture")]
    sections += [("distance", "Distances"), ("slices", "More slices")]
    sections += [("fidelity", "Fidelity to the map"), ("near-duplicates", "Near-duplicates")]
    sections += [("memorisation", "Memorisation"), ("sensitivity", "Sensitivity")]
    sections += [("lineage", "Lineage"), ("methods", "Methods")]
    if report.downstream is not None:
        sections.insert(1, ("downstream", "Does it help?"))
    return sections


def _map_image(label: NDArray[np.uint8], alternative: str) -> Markup:
    return _image(render_map(label), alternative)


def upright(images: SliceImages) -> SliceImages:
    """The images as a radiologist looks at them, the patient's right on the left.

    Some scans of LUNA16 have rows and columns reversed: their maps show the lungs on the wrong sides.
    """
    if not is_turned(images.label):
        return images
    return dataclasses.replace(
        images,
        label=turn(images.label),
        real=None if images.real is None else turn(images.real),
        synthetic=turn(images.synthetic),
    )


def _lung_share(label: NDArray[np.uint8]) -> float:
    return float(np.isin(label, (classes.LEFT_LUNG, classes.RIGHT_LUNG)).mean())


def _image(pixels: NDArray[np.uint8], alternative: str) -> Markup:
    """An ``img`` element that holds its pixels."""
    height, width = pixels.shape[:2]
    small = width < _SMALL_PX
    file = io.BytesIO()
    lossless = small or pixels.ndim == 3
    Image.fromarray(np.ascontiguousarray(pixels)).save(
        file, format="WEBP", lossless=lossless, quality=_QUALITY
    )
    data = base64.b64encode(file.getvalue()).decode()
    kind = "pixels" if small else "smooth"
    element = Markup('<img class="{}" src="data:image/webp;base64,{}" width="{}" height="{}" alt="{}">')
    return element.format(kind, data, width, height, alternative)
