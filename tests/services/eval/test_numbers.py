import pytest
from services.eval.numbers import plus_minus


@pytest.mark.parametrize(
    ("mean", "spread", "text"),
    [
        (238.46, 11.2, "238 ± 11"),
        (0.001145, 0.0074, "0.0011 ± 0.0074"),
        (-0.5, 0.25, "−0.50 ± 0.25"),
        (3, 0, "3 ± 0"),
    ],
)
def test_plus_minus_ends_both_at_the_same_place(mean, spread, text):
    assert plus_minus(mean, spread) == text
