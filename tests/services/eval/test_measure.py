import numpy as np
import pytest

from lungforge.metrics.near_duplicates import Resemblance
from services.eval.measure import agreement_table, twins_document
from services.eval.records import Fidelity, Match, Measured


def measured(dice):
    fidelity = Fidelity.empty()
    return Measured(np.zeros((1, 1), np.float32), (("scan", 0),), Fidelity(fidelity.histogram, (), dice))


def test_agreement_gives_median_5th_percentile_and_how_many_slices_hold_the_structure():
    real = measured({"body": tuple(np.linspace(0.9, 1.0, 101)), "lungs": ()})
    synthetic = measured({"body": (0.5, 1.0, 0.75), "lungs": (0.25,)})
    body, lungs = agreement_table(real, synthetic)
    assert (body["structure"], lungs["structure"]) == ("body", "lungs")
    assert body["real"] == {"images": 101, "median": 0.95, "5_percent": 0.905}
    assert body["synthetic"] == {"images": 3, "median": 0.75, "5_percent": 0.525}
    assert lungs["real"] == {"images": 0, "median": None, "5_percent": None}
    assert lungs["synthetic"] == {"images": 1, "median": 0.25, "5_percent": 0.25}


def test_twins_are_counted_and_named():
    matches = [
        Match(f"sample {index}", "scan", index, True, Resemblance(1.0, correlation, "as it is"))
        for index, correlation in enumerate([0.99, 0.1, 0.3])
    ]
    document = twins_document(matches)
    assert (document["checked"], document["near_duplicates"]) == (3, 1)
    assert document["named"][0]["sample_id"] == "sample 0"
    assert document["median_correlation"] == pytest.approx(np.median([0.99, 0.1, 0.3]))
