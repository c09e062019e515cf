"""All nights as one page that needs nothing else: charts with their bands, and a table."""

from collections.abc import Sequence
from importlib import resources

import jinja2

from services.eval.report.wording import significant
from services.nightly import chart, drift
from services.nightly.history import Night

#: Days that the page shows, up to the newest night; the history holds all.
SHOWN_DAYS = 60


def render(nights: Sequence[Night]) -> bytes:
    """The page as UTF-8 HTML.

    Args:
        nights: All of the history, by date; at least one.
    """
    days = chart.days_of(nights, SHOWN_DAYS)
    charts = [chart.chart_of(metric, days, nights) for metric in drift.METRICS]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["significant"] = significant
    template = environment.from_string(
        resources.files("services.nightly").joinpath("index.html").read_text("utf-8")
    )
    return template.render(
        days=days,
        counts={
            status: sum(day.status == status for day in days)
            for status in ("done", "worse", "failed", "missed")
        },
        newest=nights[-1],
        judged=any(each.marks[-1].band for each in charts),
        charts=charts,
        view=chart,
        rule=drift,
    ).encode()
