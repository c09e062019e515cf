import numpy as np
import pytest
from services.eval.memorised import memorisation_document, memorisation_sentence

from services.eval.records import Fidelity, Measured


def measured(features, keys):
    return Measured(np.asarray(features, np.float32), tuple(keys), Fidelity.empty())


TRAINING = np.array([[0.0], [100], [200]], np.float32)
TRAINING_KEYS = [("a", 0), ("a", 1), ("b_z007", 0)]


def document(synthetic, real):
    return memorisation_document(TRAINING, TRAINING_KEYS, synthetic, real, "set", 0)


def test_distances_of_synthetic_and_of_held_out_slices_to_the_training_slices():
    synthetic = measured([[1], [102], [203], [99]], [("a", 0), ("a", 0), ("b_z007", 0), ("a", 1)])
    # The real slice at 50.1 is of a training scan: its distance is no measure of what is new.
    real = measured([[10], [120], [230], [50.1]], [("c", 0), ("c", 1), ("d", 0), ("b_z012", 3)])
    found = document(synthetic, real)
    assert found["why_not"] is None
    assert found["training_images"] == 3
    assert found["synthetic"]["images"] == 4
    assert found["held_out"] == {
        "images": 3,
        "5_percent": 11.0,
        "25_percent": 15.0,
        "median": 20.0,
        "75_percent": 25.0,
        "95_percent": 29.0,
    }
    assert found["synthetic"]["median"] == 1.5
    assert found["ratio"] == pytest.approx(1.5 / 20)
    assert found["closer_than_5_percent"] == 1.0
    # The second is nearest to slice 1 of its scan, and was drawn from the map of slice 0.
    assert found["nearest_is_own_source"] == 3
    histogram = found["histogram"]
    assert histogram["longest"] == 30.0
    assert sum(histogram["synthetic"]) == pytest.approx(1)
    assert sum(histogram["held_out"]) == pytest.approx(1, rel=1e-5)
    assert histogram["held_out"][-1] == pytest.approx(1 / 3, rel=1e-5)  # the largest belongs to the last part


def test_without_training_slices_or_held_out_ones_it_is_said_why():
    one = measured([[1]], [("a", 0)])
    nothing = memorisation_document(np.empty((0, 1), np.float32), [], one, one, "set", 0)
    assert nothing == {"why_not": "the slices that the generator was trained on are not at hand"}
    assert "of a scan that the generator did not see" in document(one, measured([[3]], [("b", 0)]))["why_not"]
    assert "equal slices" in document(one, measured([[100]], [("c", 0)]))["why_not"]


@pytest.mark.parametrize(
    ("interval", "words"),
    [
        (
            [0.5, 0.9],
            "nearer to its training slices than real slices of other scans do, a sign of memorisation",
        ),
        ([0.9, 1.1], "shows no sign of memorisation: its median distance"),
        ([1.2, 1.5], "so that distance alone does not rule out memorisation: its median"),
        (None, "cannot be judged with slices of one scan"),
    ],
)
def test_the_sentence_is_what_the_interval_carries(interval, words):
    numbers = {"why_not": None, "ratio": 0.95, "interval_95_percent": interval}
    numbers |= {"nearest_is_own_source": 7, "synthetic": {"images": 9}}
    sentence = memorisation_sentence("set", numbers)
    assert ("for 7 of 9 the nearest is the slice" in sentence) == (interval is not None)
    assert words in sentence
    assert "0.95" in sentence
    assert "not measured: no slices." in memorisation_sentence("set", {"why_not": "no slices"})
