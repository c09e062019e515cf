"""The raw dataset of nnU-Net, checked by the rules of its documentation, as nnU-Net itself reads it."""

import json
from pathlib import Path

import numpy as np
import SimpleITK

from lungforge.datasets import Kind
from services.export.config import ExportConfig
from services.export.job import run


def test_every_case_has_an_image_of_two_dimensions_and_labels_that_match(build, tmp_path: Path) -> None:
    rows = [build.slice(index, healthy=index == 4) for index in range(3, 6)]
    dataset = build.dataset(Kind.SLICES, rows)
    out = tmp_path / "Dataset501_LungForge"
    run(ExportConfig(data=(dataset.uri,), out=str(out), format="nnunet"))
    document = json.loads((out / "dataset.json").read_bytes())
    cases = sorted(path.name.removesuffix("_0000.nii.gz") for path in (out / "imagesTr").iterdir())
    assert cases == sorted(path.name.removesuffix(".nii.gz") for path in (out / "labelsTr").iterdir())
    assert document["numTraining"] == len(cases) == 3
    assert document["channel_names"] == {"0": "CT"}
    assert document["file_ending"] == ".nii.gz"
    assert document["labels"]["background"] == 0
    assert sorted(document["labels"].values()) == list(range(6)), "consecutive, as nnU-Net demands"
    for case, row in zip(cases, rows, strict=True):
        image = SimpleITK.ReadImage(out / "imagesTr" / f"{case}_0000.nii.gz")
        label = SimpleITK.ReadImage(out / "labelsTr" / f"{case}.nii.gz")
        # Of two dimensions: nnU-Net then takes the slice for thick, and plans in two dimensions.
        assert image.GetDimension() == label.GetDimension() == 2
        np.testing.assert_allclose(image.GetSpacing(), (0.75, 2.0))
        assert image.GetSpacing() == label.GetSpacing()
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image), row["image"])
        np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(label), row["label"])


def test_a_split_is_a_fold_with_every_case_once(build, tmp_path: Path) -> None:
    rows = [build.slice(uid=f"1.2.{index}") for index in range(12)]
    data = (build.dataset(Kind.SLICES, rows).uri,)
    run(ExportConfig(data=data, out=str(tmp_path / "out"), format="nnunet", validation_share=0.5))
    (fold,) = json.loads((tmp_path / "out" / "splits_final.json").read_bytes())
    assert fold.keys() == {"train", "val"}
    assert all(fold.values())
    assert sorted(fold["train"] + fold["val"]) == sorted(f"real_1.2.{index}_z0003" for index in range(12))
