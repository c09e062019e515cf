"""The report's table of detection power says what the results say."""

import re

from services.eval.report.render import SetImages, render
from services.eval.results import EvaluationReport
from services.eval.sensitivity import TITLES, sensitivity_sentence
from services.eval.set_results import NotMeasured
from tests.services.reports import SENSITIVITY, report, set_results


def _page(results: EvaluationReport) -> str:
    return render(results, [SetImages((), (), (), ()) for _ in results.sets]).decode()


def test_each_fault_has_a_row_of_powers() -> None:
    page = _page(report(set_results()))
    (table,) = re.findall(r'<table class="powers">(.*?)</table>', page, re.DOTALL)
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]
    assert rows[0] == ["Planted fault", *TITLES.values()]
    assert rows[1] == ["untouched", "0.00", "0.05", *["0.00"] * 6]
    assert rows[3] == ["+50 HU", "0.40", "0.00", "<strong>0.90</strong>", *["0.00"] * 5]
    assert rows[4] == ["blur 3x3", "–", "<strong>1.00</strong>", *["0.00"] * 6]
    assert rows[5][:1] == ["copies mirrored"]
    assert sensitivity_sentence("one", SENSITIVITY) in page
    assert '<a href="#sensitivity">Sensitivity</a>' in page


def test_what_is_not_known_is_said_without_a_table() -> None:
    page = _page(report(set_results(sensitivity=NotMeasured("there are too few scans"))))
    assert "could have missed is not known: there are too few scans." in page
    assert '<table class="powers">' not in page
