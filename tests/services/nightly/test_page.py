"""The page needs no other file, gives in text what its charts show, and escapes all text."""

import dataclasses
from html.parser import HTMLParser

import pytest

from services.nightly.page import render


class NightlyPage(HTMLParser):
    """Links, headings, pictures and the rows of the table."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.headings: list[int] = []
        self.pictures: list[dict] = []
        self.rows: list[list[str]] = []
        self.tags: set[str] = set()
        self._open: str | None = None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.add(tag)
        self.links += [values[name] for name in ("href", "src", "action", "xlink:href") if name in values]
        if tag in ("h1", "h2", "h3"):
            self.headings.append(int(tag[1]))
        if tag == "svg" and values.get("role") == "img":
            self.pictures.append(values)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._open = tag

    def handle_endtag(self, tag):
        if tag == self._open:
            self._open = None

    def handle_data(self, data):
        if self._open:
            self.rows[-1][-1] += data


@pytest.fixture
def nights(make_night):
    """Done, done, failed, missed, done, done, worse."""
    failed = make_night(3, status="failed", reason="<script>alert(1)</script> & “more”")
    worse = dataclasses.replace(make_night(7, 12.0), status="worse", reason="Fréchet distance 12 is above")
    return [make_night(1), make_night(2), failed, make_night(5), make_night(6), worse]


def test_it_is_one_file_that_needs_no_network(nights):
    text = render(nights).decode()
    page = NightlyPage(text)
    assert page.links[0] == "nights/2026-03-07/report/report.html"
    assert all(link.startswith("nights/") for link in page.links)
    for word in ("url(", "@import", "http"):
        assert word not in text
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert "&lt;script&gt;alert(1)" in text


def test_every_night_is_in_the_table_the_newest_first(nights):
    rows = NightlyPage(render(nights).decode()).rows
    assert [row[:2] for row in rows[1:] if len(row) > 1] == [
        ["2026-03-07", "worse"],
        ["2026-03-06", "done"],
        ["2026-03-05", "done"],
        ["2026-03-04", "missed"],
        ["2026-03-03", "failed"],
        ["2026-03-02", "done"],
        ["2026-03-01", "done"],
    ]
    assert rows[1][2:] == [
        *("2 ± 0.5", "1.5", "4", "0.05 ± 0.001", "0.25", "12 ± 0.1", "3", "0", "2.5 %", "8"),
        "first (aaaaaaaa)",
    ]
    assert rows[2] == ["Fréchet distance 12 is above"]
    assert len({len(row) for row in rows if len(row) > 1}) == 1


def test_only_nights_with_a_report_lead_to_one(nights):
    links = NightlyPage(render(nights).decode()).links
    dates = [link.split("/")[1] for link in links]
    assert sorted(set(dates)) == ["2026-03-01", "2026-03-02", "2026-03-05", "2026-03-06", "2026-03-07"]


def test_it_can_be_read_without_seeing_it(nights):
    page = NightlyPage(render(nights).decode())
    assert len(page.pictures) == 6
    assert page.pictures[3]["aria-label"] == (
        "Fréchet distance of 5 nights from 2026-03-01 to 2026-03-07: from 10 to 12, last 12; "
        "last band 10 ± 3 × 0.1."
    )
    assert page.headings == [1, 2, 3, 3, 3, 3, 3, 3, 2]


@pytest.mark.parametrize(
    ("count", "sentence"),
    [
        (6, "worse than those of the nights before."),
        (5, "too few nights before it to judge it"),
        (3, "Nothing was measured."),
    ],
)
def test_the_first_lines_say_how_the_newest_night_was(nights, count, sentence):
    text = render(nights[:count]).decode()
    assert sentence in text
    newest = nights[count - 1]
    assert f"<strong>{newest.date}: {newest.status}.</strong>" in text


def test_a_judged_night_without_drift_is_shown_as_stable(make_night):
    text = render([make_night(day) for day in range(1, 6)]).decode()
    assert "The model is no worse than those of the nights before." in text


def test_of_a_long_history_the_last_days_are_shown(make_night):
    rows = NightlyPage(render([make_night(day) for day in range(1, 91)]).decode()).rows
    assert len(rows) == 61
    assert rows[-1][0] == "2026-03-31"
