"""An evaluation with downstream tasks as a whole: its report, its numbers, its files."""

import copy
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lungforge.datasets import Dataset, Kind
from services.eval import job
from services.eval.config import EvalConfig
from services.eval.downstream.results import BANDS_MM, name_of
from services.eval.report.render import SetPictures, render

pytestmark = pytest.mark.ray

TASKS = ("classification", "localisation")
NOT_MEASURED = "is not measured here"


@pytest.fixture(scope="module")
def config(world):
    return EvalConfig(
        real=str(world / "slices"),
        synthetic=(str(world / "drawn"),),
        out=str(world / "report"),
        subsets=(3,),
        downstream="tiny",
        train_subsets=(0, 1, 2),
        ratios=(0.5, 1.0),
        seeds=2,
        tasks=TASKS,
    )


class Tables(HTMLParser):
    """The tables of a page by the names of their regions: rows of cells of lines."""

    def __init__(self, text):
        super().__init__()
        self.found, self.name, self.inside = {}, None, False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if values.get("role") == "region":
            self.name = values["aria-label"]
            self.found[self.name] = []
        if tag == "tr" and self.name:
            self.found[self.name].append([])
        if tag in ("th", "td") and self.name:
            self.found[self.name][-1].append([])
            self.inside = True

    def handle_endtag(self, tag):
        if tag in ("th", "td"):
            self.inside = False

    def handle_data(self, data):
        if self.inside and data.strip():
            self.found[self.name][-1][-1].append(data.strip().replace("\N{NO-BREAK SPACE}", " "))


@pytest.fixture(scope="module")
def tables(result):
    return Tables(Path(result.report).read_text(encoding="utf-8")).found


def _mean(value):
    if value["mean"] is None:
        return "–"
    return f"{value['mean']:.3f} ± {value['spread']:.3f}"


def _difference(found):
    texts = [f"{found[name] + 0.0:+.3f}" for name in ("difference", "low", "high")]
    texts = ["+0.000" if text == "-0.000" else text.replace("-", "\N{MINUS SIGN}") for text in texts]
    return "{} ({} to {})".format(*texts)


@pytest.mark.parametrize("number", [0, 1], ids=TASKS)
def test_the_report_holds_the_numbers_of_the_metrics(document, tables, number):
    table = document["downstream"]["tasks"][number]
    assert table["task"] == TASKS[number]
    heads, *rows = tables[f"All measures of nodule {TASKS[number]} by arm"]
    bands = {f"ap50_{low:g}to{high:g}mm" for low, high in BANDS_MM}
    names = {name_of(measure): measure for measure in table["arms"][0]["values"] if measure not in bands}
    columns = [head for (head,) in heads[1:-2]]
    assert sorted(columns) == sorted(names)
    assert len(rows) == len(table["arms"]) == 6
    for row, arm in zip(rows, table["arms"], strict=True):
        assert row[0] == [arm["name"]]
        assert row[-2] == [str(count) for count in arm["training_pictures"]]
        for column, lines in zip(columns, row[1:-2], strict=True):
            wanted = [_mean(arm["values"][names[column]])]
            found = (arm["difference_to_real"] or {}).get(names[column])
            if found is not None:
                wanted.append(_difference(found))
            assert lines == wanted


def test_localisation_is_shown_by_diameter(document, tables):
    table = document["downstream"]["tasks"][1]
    heads, *rows = tables["AP50 by diameter of the nodules and arm"]
    # Six slices to test on, each with a nodule of 3 mm.
    assert [head for (head,) in heads] == [
        "Arm", "0 to 6 mm, n = 6", "6 to 10 mm, n = 0", "10 mm and more, n = 0"
    ]  # fmt: skip
    for row, arm in zip(rows, table["arms"], strict=True):
        assert row[1] == [_mean(arm["values"]["ap50_0to6mm"])]
        assert row[2] == row[3] == ["–"]


def test_every_arm_and_its_difference_stand_in_the_figures(document, result):
    text = Path(result.report).read_text(encoding="utf-8")
    for table in document["downstream"]["tasks"]:
        for arm in table["arms"][1:]:
            found = arm["difference_to_real"][table["headline"]]
            words = (
                "better than real" if found["low"] > 0
                else "worse than real" if found["high"] < 0
                else "no difference shown"
            )  # fmt: skip
            value = re.escape(
                f'<span class="value">{_difference(found)}<span class="judgement">{words}</span>'
            )
            assert re.search(
                f'<span class="name">{re.escape(arm["name"])}</span>(?:(?!</li>).)*?{value}', text, re.DOTALL
            )
    for name in TASKS:
        assert document["downstream"]["networks"][name] in text
    for sentence in document["downstream"]["verdict"]:
        assert sentence in text
        assert sentence in result.verdict
    assert len(document["downstream"]["verdict"]) == 2 * 2
    assert NOT_MEASURED not in text


def _render(document):
    return render(document, [SetPictures((), (), ()) for _ in document["sets"]]).decode()


def test_what_was_not_measured_is_said(document):
    without = _render(document | {"downstream": None})
    assert NOT_MEASURED in without
    assert "Does it help?" not in without
    assert "Networks were trained" not in without


def test_a_preset_that_only_tries_the_chain_is_not_taken_for_a_result(document):
    small = document | {"downstream": document["downstream"] | {"preset": "cpu"}}
    assert "only tries the chain" in _render(document)
    assert "only tries the chain" not in _render(small)


def test_an_undefined_interval_is_no_point_in_the_figure(document):
    changed = copy.deepcopy(document)
    arms = changed["downstream"]["tasks"][0]["arms"]
    arms[3]["difference_to_real"]["balanced_accuracy"] = {
        "difference": None, "low": None, "high": None, "draws": 0
    }  # fmt: skip
    before, after = _render(document), _render(changed)
    assert after.count("cannot be judged") == before.count("cannot be judged") + 1
    assert after.count('class="point"') == before.count('class="point"') - 1
    assert "0 or more do in every arm" in after


def test_the_manifest_lists_what_every_network_found(result, config, document):
    report = Dataset.open(config.out, Kind.REPORT)
    report.verify()
    cells = [part.path for part in report.parts if part.path.startswith("cells-")]
    assert len(cells) == len(set(cells)) == 2 * 6 * 2  # tasks, arms, seeds
    assert sorted(path.rsplit("/", 1)[-1] for path in cells) == sorted(
        f"{table['task']}-{arm['key']}-fold0-seed{seed}.json"
        for table in document["downstream"]["tasks"]
        for arm in table["arms"]
        for seed in range(2)
    )


def test_the_same_again_writes_nothing(result, config):
    before = {path: path.stat().st_mtime_ns for path in Path(config.out).rglob("*")}
    again = job.run(config)
    assert {path: path.stat().st_mtime_ns for path in Path(config.out).rglob("*")} == before
    assert (again.written, again.verdict) == (False, result.verdict)
