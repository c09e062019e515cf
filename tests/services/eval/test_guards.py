import numpy as np
import pytest

from lungforge.datasets import Dataset, DatasetWriter, Kind, table_from_rows
from lungforge.errors import ContentError, InputError
from services.eval.guards import check_leak, check_sizes
from services.eval.lineage import trace
from services.eval.patients import patients_in
from tests.factories import slice_row


def test_scans_that_neither_model_nor_maps_saw_pass(world):
    lineage = trace(Dataset.open(str(world / "drawn")))
    real = Dataset.open(str(world / "slices"))
    assert check_leak([lineage], real, [3], allow=False) == []
    assert [dataset.manifest.kind.value for dataset in lineage.ancestors] == ["samples", "slices", "model"]


def test_maps_of_the_test_scans_are_refused_by_name(world, tmp_path, build):
    slices = Dataset.open(str(world / "slices"))
    model = build["model"](str(tmp_path / "model"), slices, subsets=(0,))
    samples = build["samples"](str(tmp_path / "samples"), slices, model, build["drawn"], subsets=(1,))
    with pytest.raises(
        InputError, match=r"generated from maps of 3 of the 6 scans .*scan-01, scan-05, scan-09"
    ):
        check_leak([trace(samples)], slices, [1, 2], allow=False)


def test_a_generator_trained_on_the_test_scans_is_refused_whatever_maps_it_used(world, tmp_path, build):
    slices = Dataset.open(str(world / "slices"))
    model = build["model"](str(tmp_path / "model"), slices, subsets=(0, 3))
    samples = build["samples"](str(tmp_path / "samples"), slices, model, build["drawn"], subsets=(0,))
    with pytest.raises(InputError, match=r"trained on 3 of the 3 scans .*scan-03, scan-07, scan-11"):
        check_leak([trace(samples)], slices, [3], allow=False)
    warnings = check_leak([trace(samples)], slices, [3], allow=True)
    assert len(warnings) == 1
    assert warnings[0].startswith("Leak guard switched off")


def test_another_scan_of_a_training_patient_is_refused_and_both_are_named(tmp_path, build):
    """Scan 2 is in training, scan 3 among the test scans, and they are of one patient."""
    details = {
        "patients": {"scans_of_one_patient": [["scan-02", "scan-03"]], "scans_without_patient": ["scan-07"]}
    }
    slices = build["slices"](str(tmp_path / "slices"), details=details)
    model = build["model"](str(tmp_path / "model"), slices, subsets=(0, 1, 2))
    samples = build["samples"](str(tmp_path / "samples"), slices, model, build["drawn"], subsets=(0,))
    lineage, patients = trace(samples), patients_in([slices])
    assert check_leak([lineage], slices, [3], allow=False) == []
    with pytest.raises(
        InputError, match=r"trained on 1 of the 3 scans .*\(scan-03 \(the same patient as scan-02\)\)"
    ):
        check_leak([lineage], slices, [3], patients, allow=False)
    assert "scan-03" in patients.known
    assert "scan-07" not in patients.known


def test_datasets_that_know_no_patients_go_by_scan(world):
    patients = patients_in([Dataset.open(str(world / "slices"))])
    assert patients.known == frozenset()
    assert patients.patient_of("scan-03") == "scan-03"


def test_patients_that_are_damaged_are_refused(tmp_path, build):
    slices = build["slices"](str(tmp_path / "slices"), scans=2, details={"patients": {"groups": 3}})
    with pytest.raises(ContentError, match="the patients in its manifest are damaged"):
        patients_in([slices])


def test_without_subsets_a_model_counts_as_trained_on_all(world, tmp_path, build):
    slices = Dataset.open(str(world / "slices"))
    writer = DatasetWriter(
        uri=str(tmp_path / "model"), kind=Kind.MODEL, config={"subsets": None}, parents=(slices.parent(),)
    )
    writer.commit([writer.write_file("config.json", b"{}")])
    model = Dataset.open(str(tmp_path / "model"))
    samples = build["samples"](str(tmp_path / "samples"), slices, model, build["drawn"], subsets=(0,))
    with pytest.raises(InputError, match="trained on 3 of the 3"):
        check_leak([trace(samples)], slices, [3], allow=False)


def test_a_lineage_that_has_gone_or_changed_is_refused(world, tmp_path, build):
    slices = build["slices"](str(tmp_path / "slices"), scans=4)
    model = build["model"](str(tmp_path / "model"), slices, subsets=(0,))
    samples = build["samples"](str(tmp_path / "samples"), slices, model, build["drawn"], subsets=(0,))
    manifest = tmp_path / "model" / "manifest.json"
    content = manifest.read_text(encoding="utf-8")
    manifest.write_text(content.replace('"seed": 0', '"seed": 1'), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"its parent model at .* is gone or changed.*scans that were used are unknown"
    ):
        check_leak([trace(samples)], slices, [3], allow=False)
    manifest.unlink()
    with pytest.raises(InputError, match="gone or changed"):
        check_leak([trace(samples)], slices, [3], allow=False)


def test_a_generator_of_unknown_training_scans_is_never_taken_for_clean(world, tmp_path, build):
    slices = Dataset.open(str(world / "slices"))
    writer = DatasetWriter(uri=str(tmp_path / "model"), kind=Kind.MODEL, config={"imported_sha256": "0"})
    writer.commit([writer.write_file("config.json", b"{}")], {"subsets": None, "series_uids": None})
    model = Dataset.open(str(tmp_path / "model"))
    samples = build["samples"](str(tmp_path / "samples"), slices, model, build["drawn"], subsets=(0,))
    with pytest.raises(
        InputError, match=r"names no slices that it was made from, so the scans that were used are unknown"
    ):
        check_leak([trace(samples)], slices, [3], allow=False)
    (warning,) = check_leak([trace(samples)], slices, [3], allow=True)
    assert warning.startswith("Leak guard switched off")
    assert "the scans that were used are unknown" in warning


def test_a_model_without_its_slices_answers_for_the_scans_that_it_names(world, tmp_path, build):
    slices = Dataset.open(str(world / "slices"))
    writer = DatasetWriter(uri=str(tmp_path / "model"), kind=Kind.MODEL, config={})
    writer.commit([writer.write_file("config.json", b"{}")], {"series_uids": ["scan-00", "scan-07"]})
    model = Dataset.open(str(tmp_path / "model"))
    samples = build["samples"](str(tmp_path / "samples"), slices, model, build["drawn"], subsets=(0,))
    assert check_leak([trace(samples)], slices, [1, 2], allow=False) == []
    with pytest.raises(InputError, match=r"trained on 1 of the 3 scans .*\(scan-07\)"):
        check_leak([trace(samples)], slices, [3], allow=False)


def test_pictures_of_another_size_are_refused(world, tmp_path):
    writer = DatasetWriter(uri=str(tmp_path / "large"), kind=Kind.SLICES, config={})
    row = slice_row(subset=3, image=np.zeros((128, 128), np.int16))
    writer.commit([writer.write_part("a", table_from_rows(Kind.SLICES, [row]))])
    with pytest.raises(InputError, match=r"64 x 64 px.*128 x 128.*--size 64"):
        check_sizes(Dataset.open(str(tmp_path / "large")), [trace(Dataset.open(str(world / "drawn")))], None)
