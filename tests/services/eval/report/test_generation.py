"""How the report says that slices were generated."""

import dataclasses
import re

from lungforge.metrics.hu_gate import GateCounts
from services.eval.report.render import SetImages, render
from services.eval.results import EvaluationReport
from tests.services.reports import report, set_results


def _text(results: EvaluationReport) -> str:
    page = render(results, [SetImages((), (), (), ()) for _ in results.sets]).decode()
    return " ".join(re.sub("<[^>]*>", " ", page).split())


def test_the_gate_is_named_beside_the_sampler_with_its_counts() -> None:
    plain = set_results()
    settings = dataclasses.replace(plain.generated_with, hu_gate=GateCounts(1234, 2345, 6))
    gated = dataclasses.replace(plain, images=4000, generated_with=settings)
    text = _text(report(gated))
    assert (
        "with sampler ancestral, 50 steps, guidance scale 1.5. The gate on Hounsfield units had 1,234 of "
        "4,000 images sampled again (2,345 times in all); 6 still leave the range of the training images."
    ) in text
    assert EvaluationReport.from_json(report(gated).to_json()) == report(gated)
    assert "gate on Hounsfield" not in _text(report(plain))
