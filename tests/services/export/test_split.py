"""Training and validation: by patient, and never a synthetic slice for validation beside real ones."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from torchvision.datasets import ImageFolder

from lungforge.datasets import Dataset, DatasetWriter, Kind, table_from_rows
from lungforge.errors import InputError
from services.export.config import ExportConfig
from services.export.job import ExportResult, run


def sides(out: Path) -> dict[str, set[str]]:
    """Series uid to the sides that its files are on."""
    found: dict[str, set[str]] = {}
    with (out / "files.csv").open(encoding="utf-8", newline="") as file:
        for line in csv.DictReader(file):
            found.setdefault(line["series_uid"], set()).add(line["split"])
    return found


def slices(build, name: str = "slices", **details: Any) -> Dataset:
    """Twenty scans with two slices each, two scans in each subset."""
    rows = [
        build.slice(index, uid=f"1.2.{scan}") | {"subset": scan // 2}
        for scan in range(20)
        for index in (3, 4)
    ]
    writer = DatasetWriter(str(build.folder / name), Kind.SLICES, {"a": 1})
    writer.commit([writer.write_part("0", table_from_rows(Kind.SLICES, rows))], details)
    return Dataset.open(writer.uri)


def samples(build) -> Dataset:
    rows = [
        build.sample(f"{scan:02}") | {"source_series_uid": f"1.2.{scan}", "subset": scan // 2}
        for scan in range(20)
    ]
    return build.dataset(Kind.SAMPLES, rows, name="samples")


def export(tmp_path: Path, *datasets: Dataset, name: str = "out", **options: Any) -> ExportResult:
    data = tuple(dataset.uri for dataset in datasets)
    return run(ExportConfig(data=data, out=str(tmp_path / name), **options))


def test_a_patient_is_on_one_side_and_on_the_same_in_every_export(build, tmp_path: Path) -> None:
    export(tmp_path, slices(build), name="a", validation_share=0.3)
    export(tmp_path, samples(build), name="b", validation_share=0.3)
    assert all(len(some) == 1 for some in sides(tmp_path / "a").values())
    assert sides(tmp_path / "a") == sides(tmp_path / "b")
    chosen = sum(some == {"val"} for some in sides(tmp_path / "a").values())
    # Binomial of 20 patients: outside of 1 to 12 in less than one of 700 choices.
    assert 1 <= chosen <= 12


def test_scans_of_one_patient_stay_together(build, tmp_path: Path) -> None:
    groups = [[f"1.2.{scan}" for scan in range(first, first + 5)] for first in (0, 5, 10, 15)]
    known = {"patients": {"scans_of_one_patient": groups, "scans_without_patient": []}}
    export(tmp_path, slices(build, **known), validation_share=0.5)
    found = sides(tmp_path / "out")
    for group in groups:
        assert len(set.union(*(found[scan] for scan in group))) == 1


def test_subsets_choose_their_patients_with_all_their_scans(build, tmp_path: Path) -> None:
    known = {"patients": {"scans_of_one_patient": [["1.2.0", "1.2.19"]], "scans_without_patient": []}}
    result = export(tmp_path, slices(build, **known), validation_subsets=(9,))
    found = sides(tmp_path / "out")
    # Subset 9 has scans 18 and 19; scan 0 is of the patient of 19.
    assert {scan for scan, some in found.items() if some == {"val"}} == {"1.2.0", "1.2.18", "1.2.19"}
    assert result.splits == {"train": 34, "val": 6}


def test_synthetic_slices_of_validation_patients_are_left_out(build, tmp_path: Path) -> None:
    result = export(tmp_path, slices(build), samples(build), format="coco", validation_subsets=(8, 9))
    assert (result.splits, result.left_out, result.rows) == ({"train": 32 + 16, "val": 8}, 4, 60)
    sets = {
        side: json.loads((tmp_path / "out" / f"annotations_{side}.json").read_bytes())
        for side in ("train", "val")
    }
    assert not any(image["synthetic"] for image in sets["val"]["images"])
    assert sum(image["synthetic"] for image in sets["train"]["images"]) == 16
    on = {side: {image["series_uid"] for image in made["images"]} for side, made in sets.items()}
    assert on["val"] == {f"1.2.{scan}" for scan in (16, 17, 18, 19)}
    assert not on["train"] & on["val"]
    names = [image["file_name"] for made in sets.values() for image in made["images"]]
    assert sorted(names) == sorted(path.name for path in (tmp_path / "out").glob("*.png"))
    assert [image["id"] for image in sets["val"]["images"]] == list(range(1, 9))


def test_class_folders_are_below_their_side(build, tmp_path: Path) -> None:
    export(tmp_path, slices(build), format="imagefolder", validation_subsets=(0,))
    assert len(ImageFolder(str(tmp_path / "out" / "train"))) == 36
    assert len(ImageFolder(str(tmp_path / "out" / "val"))) == 4


def test_subsets_that_are_not_there_are_named_with_those_that_are(build, tmp_path: Path) -> None:
    dataset = build.dataset(Kind.SLICES, [build.slice() | {"subset": -1}])
    with pytest.raises(InputError, match=r"--validation-subsets is 7; the data have -1 \(-1: none\)"):
        export(tmp_path, dataset, validation_subsets=(7,))
    assert not (tmp_path / "out").exists()


def test_no_patient_for_validation_is_said(build, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    export(tmp_path, build.dataset(Kind.SLICES, [build.slice()]), validation_share=0.01)
    assert "no patient is for validation; give a larger --validation-share" in capsys.readouterr().err


def test_the_table_says_of_every_file_what_it_is(build, tmp_path: Path) -> None:
    real, made = slices(build), samples(build)
    export(tmp_path, real, made)
    with (tmp_path / "out" / "files.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert sorted(line["path"] for line in lines) == sorted(
        path.name for path in (tmp_path / "out").glob("*.png")
    )
    synthetic = [line for line in lines if line["synthetic"] == "true"]
    assert {line["dataset"] for line in synthetic} == {made.manifest_sha256}
    assert {line["dataset"] for line in lines} == {real.manifest_sha256, made.manifest_sha256}
    assert all(line["path"].startswith(f"synthetic_{line['sample_id']}_") for line in synthetic)
    said = json.loads((tmp_path / "out" / "provenance.json").read_bytes())
    assert [one["synthetic"] for one in said["datasets"]] == [False, True]
    assert said["synthetic"] is False
