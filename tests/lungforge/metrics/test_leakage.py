import pytest

from lungforge.metrics.leakage import find_leak, scan_of


@pytest.mark.parametrize(
    ("series", "scan"),
    [("1.3.6.1.4.999_z158", "1.3.6.1.4.999"), ("1.3.6.1", "1.3.6.1"), ("a_z1_b", "a_z1_b"), ("p_z", "p_z")],
)
def test_scan_of(series, scan):
    assert scan_of(series) == scan


def test_two_slices_of_one_scan_are_a_leak():
    leak = find_leak(["a_z1", "b_z7"], sources=["a_z2", "c"], training=["b_z9", "a_z3"])
    assert leak.sources == ("a",)
    assert leak.training == ("a", "b")
    assert leak


def test_disjoint_scans_are_no_leak():
    assert not find_leak(["a", "b"], sources=["c"], training=["d"])
