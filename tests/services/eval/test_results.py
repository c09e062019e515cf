"""The results as JSON: nothing is lost, and nothing is guessed."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungforge.errors import ContentError
from services.eval.copy_results import NearDuplicate, NearDuplicates
from services.eval.downstream.results import Difference
from services.eval.results import FORMAT, EvaluationReport, SubsetSelection
from services.eval.set_results import FrechetResult, NotMeasured
from tests.services.reports import ancestor, arm_result, baseline, report, set_results, task_result
from tests.services.reports import downstream_results as downstream

FULL = report(
    set_results(
        "measured",
        near_duplicates=1,
        lineage=(
            ancestor(
                "samples", "d" * 64, "s3://lab/one", selection=SubsetSelection((0, 1)), parents=("a" * 64,)
            ),
            ancestor(
                "model", "c" * 64, "m", selection=SubsetSelection(None), config={"edit": {"steps": [1, 2.5]}}
            ),
            ancestor("slices", "b" * 64, "s"),
        ),
    ),
    set_results(
        "patches",
        map_agreement=NotMeasured("patches"),
        memorisation=NotMeasured("patches"),
        sensitivity=NotMeasured("patches"),
    ),
    subsets=None,
)


def _document(results: EvaluationReport = FULL) -> dict:
    return json.loads(results.to_json())


def _read(document: object) -> EvaluationReport:
    return EvaluationReport.from_json(json.dumps(document).encode())


def test_what_is_written_is_read_back() -> None:
    assert EvaluationReport.from_json(FULL.to_json()) == FULL
    assert _document()["format"] == FORMAT
    assert _document()["sets"][0]["frechet"]["baseline"]["synthetic_mean"] == 25.0
    assert _document()["sets"][1]["memorisation"] == {"why_not": "patches"}
    assert "“good”" in FULL.to_json().decode()


def test_downstream_results_are_read_back() -> None:
    task = task_result(arm_result("set0-1x", Difference("classic", 0.1, None, None, 0), synthetic=0))
    guessed = task_result(arm_result("set0-1x", synthetic=0), not_measured="the networks learned nothing")
    results = dataclasses.replace(FULL, downstream=downstream(task, guessed))
    assert EvaluationReport.from_json(results.to_json()) == results


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_no_digit_is_lost(value: float) -> None:
    results = report(set_results(frechet=FrechetResult("F", value, 1, 1, baseline(value), None)))
    assert EvaluationReport.from_json(results.to_json()) == results


def test_nan_and_infinity_are_not_written() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        report(set_results(frechet=FrechetResult("F", float("nan"), 1, 1, None, None))).to_json()


@pytest.mark.parametrize("version", [0, FORMAT + 1, None, str(FORMAT)])
def test_another_format_is_refused(version: object) -> None:
    with pytest.raises(ContentError, match=r"are of format .*reads format 4; evaluate again"):
        _read(_document() | {"format": version})


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"null", b'{"sets": []}'])
def test_another_document_is_refused(content: bytes) -> None:
    with pytest.raises(ContentError, match="the metrics of the report are"):
        EvaluationReport.from_json(content)


def _missing(document: dict) -> None:
    del document["sets"][0]["kid"]["mean"]


def _unknown(document: dict) -> None:
    document["sets"][0]["kid"]["median"] = 1.0


def _of_another_type(document: dict) -> None:
    document["sets"][0]["images"] = "40"


def _neither_of_two(document: dict) -> None:
    document["sets"][1]["memorisation"] = {}


@pytest.mark.parametrize(
    ("damage", "place"),
    [
        (_missing, "sets.0.kid.mean"),
        (_unknown, "sets.0.kid.median"),
        (_of_another_type, "sets.0.images"),
        (_neither_of_two, "sets.1.memorisation"),
    ],
)
def test_a_damaged_field_is_named(damage, place: str) -> None:
    document = _document()
    damage(document)
    with pytest.raises(ContentError, match=rf"damaged: {place}"):
        _read(document)


def test_near_duplicates_are_typed_to_the_last_one() -> None:
    examples = (NearDuplicate("s", "scan", 3, True, 0.99, 0.75, "as it is"),)
    duplicates = NearDuplicates(4, 1, 0.75, 0.92, None, 0.2, 0.99, examples)
    results = report(dataclasses.replace(set_results(), near_duplicates=duplicates))
    assert EvaluationReport.from_json(results.to_json()).sets[0].near_duplicates.examples == examples
