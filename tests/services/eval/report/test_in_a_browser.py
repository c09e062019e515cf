"""The report as people open it: in Chromium, light and dark, on a desk and on a phone, without a network."""

import os
import shutil
from pathlib import Path

import pytest

from services.eval import job
from services.eval.config import EvalConfig
from services.eval.downstream import tabulate
from services.eval.downstream.results import REFERENCES
from services.eval.results import EvaluationReport

pytestmark = [pytest.mark.slow, pytest.mark.ray]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian's package is called chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as running:
        # Chromium has no sandbox for root.
        options = ["--no-sandbox"] * (os.geteuid() == 0)
        browser = running.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(browser, ray_local, world):
    """A report with everything in it: generated slices, near-duplicates, downstream tasks."""
    with pytest.MonkeyPatch.context() as patch:
        # After four steps nothing is learned; the figures of the differences are to be seen all the same.
        patch.setattr(tabulate, "_nothing_learned", lambda *_: None)
        return job.run(
            EvalConfig(
                real=str(world / "slices"),
                synthetic=(str(world / "drawn"), str(world / "copies")),
                out=str(world / "browser-report"),
                subsets=(3,),
                allow_near_duplicates=True,
                downstream="tiny",
                train_subsets=(0, 1, 2),
                seeds=2,
            )
        ).report


@pytest.fixture(params=["light", "dark"])
def scheme(request):
    return request.param


@pytest.fixture(params=[DESK, PHONE], ids=["desk", "phone"])
def page(request, browser, report, scheme):
    """The report, opened; ``page.troubles`` is what the browser complained of."""
    context = browser.new_context(viewport=request.param, color_scheme=scheme, offline=True)
    page = context.new_page()
    page.troubles = []
    page.on("console", lambda message: page.troubles.append(message.text))
    page.on("pageerror", lambda error: page.troubles.append(str(error)))
    page.on("requestfailed", lambda request: page.troubles.append(request.url[:80]))
    page.goto(Path(report).as_uri())
    yield page
    context.close()


def test_the_browser_reports_no_error_and_renders_every_picture(page):
    assert page.troubles == []
    widths = page.eval_on_selector_all(
        "img", "images => images.map(image => image.complete && image.naturalWidth)"
    )
    assert widths == [64] * (2 * (8 * 3 + 4 * 3 + 2 * 4 * 2))
    widths_of_bars = page.eval_on_selector_all(
        "svg rect", "bars => bars.map(bar => bar.getBoundingClientRect().width)"
    )
    assert len(widths_of_bars) > 4
    assert min(widths_of_bars) > 1
    # In each of three pictures of ROC curves the real slices and their group: controls, and two sets.
    curves = page.eval_on_selector_all(
        ".curves figure:has(.chance) polyline",
        "curves => curves.map(curve => curve.getBoundingClientRect().width)",
    )
    assert len(curves) == 3 * 3
    assert min(curves) > 200


def test_axe_finds_no_violation(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    accessibility = axe.run(page)
    assert accessibility.response["violations"] == [], accessibility.generate_report()


def test_nothing_but_wide_tables_and_listings_is_scrolled_sideways(page):
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_what_is_scrolled_can_be_reached_by_keyboard(page):
    unreachable = page.evaluate(
        """() => [...document.querySelectorAll("body *")].filter(element =>
            element.scrollWidth > element.clientWidth + 1
            && ["auto", "scroll"].includes(getComputedStyle(element).overflowX)
            && element.tabIndex < 0).map(element => element.outerHTML.slice(0, 80))"""
    )
    assert unreachable == []


def test_text_in_pictures_is_not_too_small_to_read(page):
    heights = page.eval_on_selector_all(
        "svg text", "texts => texts.map(text => text.getBoundingClientRect().height)"
    )
    assert len(heights) > 50
    assert min(heights) > 11


def test_differences_are_plotted_where_their_values_are(page, report):
    results = EvaluationReport.from_json(Path(report).with_name("metrics.json").read_bytes())
    plots = page.eval_on_selector_all(
        ".forest",
        """plots => plots.map(plot => {
            const middle = element => {
                const box = element.getBoundingClientRect();
                return box.left + box.width / 2;
            };
            const ticks = [...plot.querySelectorAll(".axis text:not(.side)")];
            return {
                ticks: ticks.map(tick => [tick.textContent, middle(tick)]),
                rows: [...plot.querySelectorAll("li")].map(row => [
                    row.querySelector(".name").textContent,
                    middle(row.querySelector(".zero")),
                    row.querySelector(".point") && middle(row.querySelector(".point"))])
            };
        })""",
    )
    wanted = [(task, reference) for task in results.downstream.tasks for reference in REFERENCES]
    for plot, (task, reference) in zip(plots, wanted, strict=True):
        ends = [(float(text.replace("\N{MINUS SIGN}", "-")), x) for text, x in plot["ticks"]]
        (low, left), (high, right) = ends[0], ends[-1]
        compared = {arm.name: arm.measure(task.headline).to(reference) for arm in task.arms}
        differences = {name: one for name, one in compared.items() if one is not None}
        assert [name for name, _, _ in plot["rows"]] == list(differences)
        for name, zero, point in plot["rows"]:
            assert zero == pytest.approx(left + (right - left) * -low / (high - low), abs=1.5)
            if differences[name].low is None:
                assert point is None
                continue
            share = (differences[name].difference - low) / (high - low)
            assert point == pytest.approx(left + (right - left) * share, abs=1.5)


def test_the_ground_follows_the_scheme(page, scheme):
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(17, 22, 28)"}[scheme]
