import pytest

from lungforge.ct.io.patient_table import scan_of
from lungforge.metrics.leakage import Patients, SharedPatient, find_leak


@pytest.mark.parametrize(
    ("series", "scan"),
    [("1.3.6.1.4.999_z158", "1.3.6.1.4.999"), ("1.3.6.1", "1.3.6.1"), ("a_z1_b", "a_z1_b"), ("p_z", "p_z")],
)
def test_scan_of(series, scan):
    assert scan_of(series) == scan


def test_two_slices_of_one_scan_are_a_leak():
    leak = find_leak(["a_z1", "b_z7"], sources=["a_z2", "c"], training=["b_z9", "a_z3"])
    assert [str(scan) for scan in leak.sources] == ["a"]
    assert [str(scan) for scan in leak.training] == ["a", "b"]
    assert leak


def test_disjoint_scans_are_no_leak():
    assert not find_leak(["a", "b"], sources=["c"], training=["d"])


def test_two_scans_of_one_patient_are_a_leak_and_both_are_named():
    patients = Patients.of([("a", "b")])
    leak = find_leak(["a_z1", "c"], sources=[], training=["b_z9", "d"], patients=patients)
    assert leak.sources == ()
    assert leak.training == (SharedPatient("a", "b"),)
    assert str(leak.training[0]) == "a (the same patient as b)"
    assert not find_leak(["a"], sources=[], training=["b"])


def test_the_same_scan_is_named_rather_than_another_of_the_patient():
    leak = find_leak(["b"], ["a", "b"], [], Patients.of([("a", "b")]))
    assert leak.sources == (SharedPatient("b", "b"),)


def test_groups_of_several_datasets_are_joined_by_the_scans_that_they_share():
    patients = Patients.of([("c", "d"), ("e", "f"), ("d", "f"), ("x", "y")], known=["z_z3"])
    assert {patients.patient_of(scan) for scan in "cdef"} == {"c"}
    assert patients.patient_of("y_z12") == "x"
    assert patients.patient_of("z") == "z"
    assert patients.known == frozenset("cdefxyz")
