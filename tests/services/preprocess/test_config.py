import pytest

from lungforge.config import identity
from lungforge.errors import InputError
from services.preprocess.config import PreprocessConfig


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("source", "", "--source"),
        ("out", "", "--out"),
        ("size", 8, "--size is 8"),
        ("spacing_mm", -1.0, "--spacing-mm is -1"),
        ("spacing_mm", float("nan"), "--spacing-mm is nan"),
        ("healthy_every", -1, "--healthy-every is -1"),
        ("minimum_diameter_mm", -0.1, "--minimum-diameter-mm is -0.1"),
        ("minimum_diameter_mm", float("nan"), "--minimum-diameter-mm is nan"),
        ("subsets", (0, 10), "--subsets is 0 10"),
        ("subsets", (), "--subsets is empty"),
        ("readers", 5, "--readers is 5"),
        ("workers", 0, "--workers is 0"),
        ("seed", -1, "--seed is -1"),
    ],
)
def test_a_wrong_value_is_named_with_the_remedy(field, value, named):
    with pytest.raises(InputError) as raised:
        PreprocessConfig(**{"source": "a", "out": "b", field: value})
    assert str(raised.value).startswith(named)
    assert "\n" not in str(raised.value)


def test_healthy_slices_are_not_added_to_all_slices():
    with pytest.raises(InputError, match="--healthy-every adds to chosen slices"):
        PreprocessConfig("a", "b", slices="all", healthy_every=2)


def test_where_and_how_fast_it_runs_is_not_part_of_the_work():
    slow = PreprocessConfig("a", "b", workers=1, strict=True, dry_run=True, retry_rejected=True)
    assert identity(slow) == identity(PreprocessConfig("a", "c", workers=8))
    assert identity(slow) != identity(PreprocessConfig("a", "b", seed=1))
