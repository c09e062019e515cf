"""An evaluation with downstream tasks and --froc as a whole: its report, its results, its files."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lungforge.datasets import Dataset, Kind
from services.eval import job
from services.eval.config import EvalConfig
from services.eval.downstream.results import BANDS_MM, Difference, band_measure, measure_title
from services.eval.report.render import SetImages, render
from services.eval.report.verdict import downstream_sentences
from tests.services import reports
from tests.services.reports import arm_result, downstream_results, task_result

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
        froc=True,
    )


class Tables(HTMLParser):
    """The tables of a page by the names of their regions: rows of cells of lines."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.name, self.inside = {}, None, False
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if values.get("role") == "region":
            self.name = values["aria-label"]
            self.tables[self.name] = []
        if tag == "tr" and self.name:
            self.tables[self.name].append([])
        if tag in ("th", "td") and self.name:
            self.tables[self.name][-1].append([])
            self.inside = True

    def handle_endtag(self, tag):
        if tag in ("th", "td"):
            self.inside = False

    def handle_data(self, data):
        if self.inside and data.strip():
            self.tables[self.name][-1][-1].append(data.strip().replace("\N{NO-BREAK SPACE}", " "))


@pytest.fixture(scope="module")
def tables(result):
    return Tables(Path(result.report).read_text(encoding="utf-8")).tables


def _mean(value):
    return "–" if value.mean is None else f"{value.mean:.3f} ± {value.spread:.3f}"


@pytest.mark.parametrize("index", [0, 1], ids=TASKS)
def test_the_report_shows_the_results_of_the_metrics(report, tables, index):
    task = report.downstream.tasks[index]
    assert task.task == TASKS[index]
    heads, *rows = tables[f"All measures of nodule {TASKS[index]} by arm"]
    bands = {band_measure(*band) for band in BANDS_MM}
    names = [each.measure for each in task.arms[0].measures if each.measure not in bands]
    assert [head for (head,) in heads[1:-3]] == list(map(measure_title, names))
    assert len(rows) == len(task.arms) == 6
    for row, arm in zip(rows, task.arms, strict=True):
        assert row[0] == [arm.name]
        assert row[-3] == [str(count) for count in arm.training_pictures]
        least, most = min(arm.chosen_steps), max(arm.chosen_steps)
        assert row[-2] == [str(least) if least == most else f"{least} to {most}"]
        for name, lines in zip(names, row[1:-3], strict=True):
            assert lines == [_mean(arm.measure(name))]


def test_localisation_is_shown_by_diameter(report, tables):
    task = report.downstream.tasks[1]
    heads, *rows = tables["AP50 by diameter of the nodules and arm"]
    # Six slices to test on, each with a nodule of 3 mm.
    assert [head for (head,) in heads] == [
        "Arm", "0 to 6 mm, n = 6", "6 to 10 mm, n = 0", "10 mm and more, n = 0"
    ]  # fmt: skip
    for row, arm in zip(rows, task.arms, strict=True):
        assert row[1] == [_mean(arm.measure("ap50_0to6mm"))]
        assert row[2] == row[3] == ["–"]


def test_four_steps_teach_nothing_and_the_report_says_so(report, result):
    text = Path(result.report).read_text(encoding="utf-8")
    for task in report.downstream.tasks:
        assert task.not_measured is not None
        assert task.not_measured.why_not.startswith("the networks learned nothing: ")
        assert f"<strong>Not measured:</strong> {task.not_measured.why_not}." in text
        assert not any(each.differences for arm in task.arms for each in arm.measures)
        assert all(len(arm.chosen_steps) == 2 and set(arm.chosen_steps) <= {1, 2, 3, 4} for arm in task.arms)
        # A fifth of the nine scans of subsets 0 to 2.
        assert (task.steps, task.validation_scans) == (4, (2,))
        assert task.network in text
    assert 'class="forest"' not in text
    sentences = list(downstream_sentences(report.downstream, ["drawn"]))
    assert len(sentences) == 3  # of each task, and of detection in whole scans
    assert all(sentence in text and sentence in result.verdict for sentence in sentences)
    assert NOT_MEASURED not in text


def test_every_arm_has_a_score_of_whole_scans(report):
    froc = report.downstream.froc
    assert (froc.scans, froc.slices, froc.nodules, froc.networks_per_arm) == (3, 6, 3, 2)
    assert [arm.key for arm in froc.arms] == [arm.key for arm in report.downstream.tasks[1].arms]
    for arm in froc.arms:
        assert 0 <= arm.score.cpm_low <= arm.score.cpm <= arm.score.cpm_high <= 1
        assert len(arm.score.points) == 7
    # In the map of the last scan alone the nodule is within its radius of 0.3 px of its place in the row;
    # with that hit come two false positives.
    assert froc.true_boxes.cpm == pytest.approx((1 / 16 + 1 / 8 + 1 / 4 + 4 / 3) / 7)


def test_the_report_shows_the_scores_of_whole_scans(result, report):
    page = Path(result.report).read_text(encoding="utf-8")
    assert page.count('<th scope="col">CPM</th>') == 1
    assert "run on all 6 slices of 3 test scans with 3 nodules" in page
    for arm in report.downstream.froc.arms:
        assert f'<th scope="row">{arm.name}</th><td>{arm.score.cpm:.3f}' in page
    assert "--froc" in report.command
    arm = report.downstream.froc.arms[0]
    (sentence,) = [
        one for one in report.verdict if one.startswith("Detection in whole scans, CPM over 3 scans")
    ]
    score = f"{arm.name} {arm.score.cpm:.3f} ({arm.score.cpm_low:.3f} to {arm.score.cpm_high:.3f})"
    assert score in sentence


def test_every_difference_is_in_the_figures():
    classic = Difference("classic", 0.1, 0.05, 0.2, 1000)
    task = task_result(
        arm_result("classic", Difference("real", -0.3, -0.4, -0.2, 1000)),
        arm_result("set0-1x", Difference("real", 0.0, -0.1, 0.1, 990), classic, synthetic=0),
    )
    text = _render(
        dataclasses.replace(reports.report(reports.set_results()), downstream=downstream_results(task))
    )
    for title, arm, words in (
        ("Difference to real", "classic", '−0.300 (−0.400 to −0.200)<span class="judgement">worse'),
        ("Difference to real", "set0-1x", '+0.000 (−0.100 to +0.100)<span class="judgement">no difference'),
        (
            "Difference to real with classic augmentation",
            "set0-1x",
            '+0.100 (+0.050 to +0.200)<span class="judgement">better',
        ),
    ):
        (block,) = re.findall(f'<strong>{title}</strong>.*?<div class="axis"', text, re.DOTALL)
        assert re.search(
            f'<span class="name">name of {arm}</span>(?:(?!</li>).)*?<span class="value">{re.escape(words)}',
            block,
            re.DOTALL,
        )
    assert text.count('class="point"') == 3
    assert "990 or more count in every arm" in text
    # In the table below each measure the difference to what is free.
    assert '<span class="difference">+0.100 (+0.050 to +0.200)</span>' in text


def _render(report):
    return render(report, [SetImages((), (), (), ()) for _ in report.sets]).decode()


def test_missing_measures_are_stated(report):
    without = _render(dataclasses.replace(report, downstream=None))
    assert NOT_MEASURED in without
    assert "Does it help?" not in without
    assert "Networks were trained" not in without


def test_a_preset_that_only_tests_the_chain_is_not_taken_for_a_result(report):
    small = dataclasses.replace(report, downstream=dataclasses.replace(report.downstream, preset="cpu"))
    assert "only tests that everything runs" in _render(report)
    assert "only tests that everything runs" not in _render(small)


def test_an_undefined_interval_is_no_point_in_the_figure():
    task = task_result(arm_result("set0-1x", Difference("real", None, None, None, 0), synthetic=0))
    text = _render(
        dataclasses.replace(reports.report(reports.set_results()), downstream=downstream_results(task))
    )
    assert text.count("cannot be judged") >= 1
    assert 'class="point"' not in text
    assert "0 or more count in every arm" in text


def test_the_manifest_lists_the_result_of_every_network(result, config, report):
    dataset = Dataset.open(config.out, Kind.REPORT)
    dataset.verify()
    runs = [part.path for part in dataset.parts if part.path.startswith("runs-")]
    assert len(runs) == len(set(runs)) == 2 * 6 * 2  # tasks, arms, seeds
    assert sorted(path.rsplit("/", 1)[-1] for path in runs) == sorted(
        f"{task.task}-{arm.key}-fold0-seed{seed}.json"
        for task in report.downstream.tasks
        for arm in task.arms
        for seed in range(2)
    )


def test_the_same_again_writes_nothing(result, config):
    before = {path: path.stat().st_mtime_ns for path in Path(config.out).rglob("*")}
    again = job.run(config)
    assert {path: path.stat().st_mtime_ns for path in Path(config.out).rglob("*")} == before
    assert (again.written, again.verdict) == (False, result.verdict)
