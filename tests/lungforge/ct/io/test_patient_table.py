import pytest

from lungforge.ct.io.luna16 import list_series
from lungforge.ct.io.patient_table import PatientGroups, group_by_patient, read_patients
from lungforge.errors import ContentError, InputError


@pytest.fixture
def table(tmp_path):
    """``table(text)`` writes a table and gives its path."""

    def table(text, name="patients.csv"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return str(path)

    return table


@pytest.mark.parametrize(
    "header",
    ["seriesuid,patient", "Series UID,Subject ID", "series_uid,patient_id", "SeriesInstanceUID,PatientID"],
)
def test_columns_go_by_several_names(table, header):
    assert read_patients(table(f"{header}\n1.2.3,LIDC-0001\n1.2.4.mhd,LIDC-0002\n")) == {
        "1.2.3": "LIDC-0001",
        "1.2.4": "LIDC-0002",
    }


def test_the_metadata_of_tcia_is_read(table):
    text = (
        "Series UID,Collection,3rd Party Analysis,Data Description URI,Subject ID,Study UID,Modality\n"
        '1.2.3,LIDC-IDRI,,"https://doi.org/x,y",LIDC-IDRI-0132,1.9,CT\n'
        "1.2.4,LIDC-IDRI,,,LIDC-IDRI-0132,1.8,CT\n"
    )
    assert read_patients(table(text, "metadata.csv")) == {
        "1.2.3": "LIDC-IDRI-0132",
        "1.2.4": "LIDC-IDRI-0132",
    }


def test_what_is_wrong_is_named_but_no_patient(table):
    with pytest.raises(
        ContentError, match=r"no column patientid or patient or subjectid; it has seriesuid, age"
    ):
        read_patients(table("seriesuid,age\n1,2\n"))
    with pytest.raises(
        ContentError, match=r"line 3: 1\.2\.3 is of another patient in an earlier line"
    ) as caught:
        read_patients(table("seriesuid,patient\n1.2.3,Smith\n1.2.3,Jones\n"))
    assert "Smith" not in str(caught.value)
    with pytest.raises(InputError, match="there is no such file"):
        read_patients("/nowhere/patients.csv")


def test_only_groups_that_concern_the_scans_are_kept_and_no_patient_id():
    patients = {"a": "p", "b": "p", "c": "q", "d": "r", "e": "r", "elsewhere": "q"}
    groups = group_by_patient(patients, ["a", "b", "c", "x", "y_z003"])
    assert groups == PatientGroups((("a", "b"), ("c", "elsewhere")), ("x", "y_z003"))


def test_single_slices_are_of_the_patient_of_their_scan():
    groups = group_by_patient({"a": "p", "b": "p"}, ["a_z001", "a_z002"])
    assert groups == PatientGroups((("a", "b"),), ())


def test_a_source_names_its_table_patients_before_metadata(tmp_path):
    folder = tmp_path / "subset0"
    folder.mkdir()
    (folder / "1.2.mhd").write_text("x", encoding="utf-8")
    assert list_series(str(tmp_path)).patients_uri is None
    (tmp_path / "metadata.csv").write_text("x", encoding="utf-8")
    assert list_series(str(tmp_path)).patients_uri == f"{tmp_path}/metadata.csv"
    (tmp_path / "patients.csv").write_text("x", encoding="utf-8")
    source = list_series(str(tmp_path))
    assert source.patients_uri == f"{tmp_path}/patients.csv"
    assert source.notes == ()
