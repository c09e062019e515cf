"""The report as people open it: in Chromium, light and dark, on a desk and on a phone, without a network."""

import os
import shutil
from pathlib import Path

import pytest

from services.eval import job
from services.eval.config import EvalConfig

pytestmark = pytest.mark.ray

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian's package is called chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as running:
        # Chromium refuses its own sandbox to root.
        options = ["--no-sandbox"] * (os.geteuid() == 0)
        browser = running.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def report(browser, ray_local, world):
    """A report with everything in it: drawn slices, and near-copies that were let through."""
    return job.run(
        EvalConfig(
            real=str(world / "slices"),
            synthetic=(str(world / "drawn"), str(world / "copies")),
            out=str(world / "browser-report"),
            subsets=(3,),
            allow_twins=True,
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


def test_nothing_is_complained_of_and_every_picture_is_drawn(page):
    assert page.troubles == []
    widths = page.eval_on_selector_all(
        "img", "images => images.map(image => image.complete && image.naturalWidth)"
    )
    assert widths == [64] * (2 * (8 * 3 + 4 * 3 + 4 * 2))
    drawn = page.eval_on_selector_all(
        "svg rect", "bars => bars.map(bar => bar.getBoundingClientRect().width)"
    )
    assert len(drawn) > 4
    assert min(drawn) > 1


def test_axe_finds_no_violation(page):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed").Axe()
    found = axe.run(page)
    assert found.response["violations"] == [], found.generate_report()


def test_nothing_but_wide_tables_and_listings_is_scrolled_sideways(page):
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_the_ground_follows_the_scheme(page, scheme):
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(17, 22, 28)"}[scheme]
