"""The raw dataset of nnU-Net, against the checks that nnU-Net makes before it plans."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from lungforge.datasets import Kind
from services.export.config import ExportConfig
from services.export.job import run

REQUIRED = {"channel_names", "labels", "numTraining", "file_ending"}


def integrity_problems(folder: Path) -> list[str]:
    """What nnU-Net refuses or warns of, in the order of its own steps.

    These are the steps of ``nnUNetv2_plan_and_preprocess --verify_dataset_integrity`` in nnU-Net 2.8 for the
    reader SimpleITKIO, and those of its ``LabelManager``, written from what they check.
    """
    document = json.loads((folder / "dataset.json").read_bytes())
    # A key "dataset" would list the cases instead of the two folders.
    if not document.keys() >= REQUIRED or "dataset" in document:
        return ["keys of dataset.json"]
    problems = []
    ending = document["file_ending"]
    names = sorted(path.name for path in (folder / "imagesTr").iterdir())
    # A case is what stands before the underscore and the four digits of the channel.
    cases = sorted({name[: -len(ending) - 5] for name in names if name.endswith(ending)})
    channels = [f"_{int(index):04d}{ending}" for index in document["channel_names"]]
    if sorted(case + channel for case in cases for channel in channels) != names:
        problems.append("names of images")
    if len(cases) != document["numTraining"]:
        problems.append("numTraining")
    labels = document["labels"]
    if labels.get("background") != 0 or np.any(np.diff(sorted(labels.values())) != 1):
        problems.append("labels are not 0, 1, 2, ...")
    for case in cases:
        path = folder / "labelsTr" / f"{case}{ending}"
        if not path.is_file():
            problems.append("no label")
            continue
        label = SimpleITK.ReadImage(path)
        if not set(np.unique(SimpleITK.GetArrayFromImage(label))) <= set(labels.values()):
            problems.append("undeclared label")
        for channel in channels:
            image = SimpleITK.ReadImage(folder / "imagesTr" / f"{case}{channel}")
            if not np.isfinite(SimpleITK.GetArrayFromImage(image)).all():
                problems.append("not a number")
            problems += [
                what
                for what in ("Size", "Spacing", "Origin", "Direction")
                if getattr(image, f"Get{what}")() != getattr(label, f"Get{what}")()
            ]
    return problems


@pytest.fixture
def exported(build, tmp_path: Path) -> Path:
    """Real and synthetic slices, with and without a nodule, split by patient."""
    real = [build.slice(3, uid=f"1.2.{scan}", healthy=scan % 2 == 0) for scan in range(6)]
    # Of the map of a scan that is for training.
    sample = build.sample("0123abcd") | {"source_series_uid": "1.2.1"}
    data = (
        build.dataset(Kind.SLICES, real, name="real").uri,
        build.dataset(Kind.SAMPLES, [sample], name="synthetic").uri,
    )
    out = tmp_path / "Dataset501_LungForge"
    run(ExportConfig(data=data, out=str(out), format="nnunet", validation_share=0.5))
    return out


def test_nnunet_has_nothing_to_object_to(exported: Path) -> None:
    assert integrity_problems(exported) == []
    document = json.loads((exported / "dataset.json").read_bytes())
    # This name chooses the normalisation for HU, and is not free.
    assert document["channel_names"] == {"0": "CT"}
    assert document["labels"] == {
        "background": 0,
        "body": 1,
        "left lung": 2,
        "right lung": 3,
        "trachea": 4,
        "nodule": 5,
    }
    assert document["numTraining"] == 7
    assert document["file_ending"] == ".nii.gz"
    assert document["overwrite_image_reader_writer"] == "SimpleITKIO"


def _rewrite(path: Path, change: Callable[[SimpleITK.Image], SimpleITK.Image]) -> None:
    SimpleITK.WriteImage(change(SimpleITK.ReadImage(path)), path)


def _spaced(image: SimpleITK.Image) -> SimpleITK.Image:
    image.SetSpacing((1.0, 1.0))
    return image


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda label: label.unlink(), "no label"),
        (lambda label: _rewrite(label, lambda image: image + 3), "undeclared label"),
        (lambda label: _rewrite(label, lambda image: image[:-1, :]), "Size"),
        (lambda label: _rewrite(label, _spaced), "Spacing"),
    ],
)
def test_a_label_that_does_not_match_is_noticed(
    exported: Path, harm: Callable[[Path], None], problem: str
) -> None:
    harm(min((exported / "labelsTr").iterdir()))
    assert problem in integrity_problems(exported)


def test_a_case_that_is_missing_is_noticed(exported: Path) -> None:
    min((exported / "imagesTr").iterdir()).unlink()
    assert integrity_problems(exported) == ["numTraining"]


def test_values_come_back_in_two_dimensions(build, tmp_path: Path) -> None:
    rows = [build.slice(index, healthy=index == 4) for index in range(3, 6)]
    dataset = build.dataset(Kind.SLICES, rows)
    out = tmp_path / "Dataset501_LungForge"
    run(ExportConfig(data=(dataset.uri,), out=str(out), format="nnunet"))
    cases = [f"real_1.2.3_z{index:04d}" for index in range(3, 6)]
    assert sorted(path.name for path in (out / "imagesTr").iterdir()) == [f"{c}_0000.nii.gz" for c in cases]
    for case, row in zip(cases, rows, strict=True):
        image = SimpleITK.ReadImage(out / "imagesTr" / f"{case}_0000.nii.gz")
        label = SimpleITK.ReadImage(out / "labelsTr" / f"{case}.nii.gz")
        # Of two dimensions: nnU-Net then takes the slice for thick, and plans in two dimensions.
        assert image.GetDimension() == label.GetDimension() == 2
        np.testing.assert_allclose(image.GetSpacing(), (0.75, 2.0))
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), row["image"])
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(label), row["label"])
    assert not (out / "splits_final.json").exists()


def test_a_split_is_a_fold_with_every_case_once(exported: Path) -> None:
    # Beside dataset.json, from where nnU-Net's planner copies it to the preprocessed data.
    (fold,) = json.loads((exported / "splits_final.json").read_bytes())
    assert fold.keys() == {"train", "val"}
    assert all(fold.values())
    cases = [path.name.removesuffix(".nii.gz") for path in (exported / "labelsTr").iterdir()]
    assert sorted(fold["train"] + fold["val"]) == sorted(cases)
    assert "synthetic_0123abcd" in fold["train"]
