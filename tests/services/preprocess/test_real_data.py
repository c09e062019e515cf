"""The way from real slices of LUNA16 and LIDC-IDRI to datasets, by the command that a user types."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from lungforge.ct.classes import LEFT_LUNG, NODULE, RIGHT_LUNG
from lungforge.ct.io.luna16_tables import read_annotations
from lungforge.datasets import Dataset, Kind, tensor_values

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.real_data]


def real(name: str) -> Path:
    folder = os.environ.get("LUNGFORGE_REAL_DATA")
    if not folder or not (Path(folder) / name).is_dir():
        pytest.skip(f"LUNGFORGE_REAL_DATA names no folder with {name}")
    return Path(folder).resolve() / name


def preprocess(*options: str) -> dict:
    command = [sys.executable, "-m", "services", "preprocess", "--json", *options]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def rows(dataset: Dataset) -> Iterator[dict]:
    for part in dataset.parts:
        table = dataset.read_part(part)
        label = tensor_values(table.column("label")) if dataset.manifest.kind == Kind.SLICES else None
        for index, row in enumerate(table.drop(["image"]).to_pylist()):
            yield row if label is None else row | {"label": label[index]}


@pytest.mark.s3
def test_every_annotated_nodule_of_luna16_is_in_its_map(s3_uri):
    source = real("luna16_mini")
    result = preprocess("--source", str(source), "--out", s3_uri, "--size", "256", "--crops")
    assert (result["volumes"], result["slices"], result["nodules"]) == (433, 433, 476)
    # One slice's origin contradicts two of its three annotations, by 200 columns; they are named.
    assert result["rejected"] == []
    assert [bad["series_uid"][-28:] for bad in result["annotations_outside"]] == [
        "202187810895588720702176009630_z069"[-28:]
    ] * 2
    crops = Dataset.open(f"{s3_uri}/crops", Kind.CROPS)
    labels = [row["label"] for row in rows(crops)]
    assert len(labels) == result["crops"]
    # Of the other nodules' candidates the centre lies beyond the volume's only slice.
    assert labels.count(1) == 437
    assert labels.count(0) > 20
    skipped = crops.manifest.details["skipped"]
    assert len(skipped) >= 478 - 437
    assert all("lies outside the volume" in entry["reason"] for entry in skipped)
    annotations = read_annotations(str(source / "annotations.csv"))
    worst, checked = 0.0, 0
    for row in rows(Dataset.open(s3_uri, Kind.SLICES)):
        image = header_of(source, row["series_uid"])
        for nodule in annotations[row["series_uid"]]:
            x, y, _ = image.TransformPhysicalPointToContinuousIndex((nodule.x_mm, nodule.y_mm, nodule.z_mm))
            x, y = (x + 0.5) / 2 - 0.5, (y + 0.5) / 2 - 0.5
            if not (0 <= x < 256 and 0 <= y < 256):
                continue
            away = min(np.hypot(mapped["x"] - x, mapped["y"] - y) for mapped in row["nodules"])
            worst, checked = max(worst, away), checked + 1
            marked = np.argwhere(row["label"] == NODULE)[:, ::-1]
            # Its pixels are within the annotated disc dilated by two pixels of the scan, one of the map.
            reach = nodule.diameter_mm / 2 / row["spacing_mm"][0] + np.sqrt(2)
            assert np.linalg.norm(marked - (x, y), axis=1).min() <= reach, nodule
    assert checked == 476
    assert worst < 0.5


def test_stacks_of_real_slices_get_lungs_from_the_image_and_keep_their_padding(tmp_path):
    source = real("luna16_stacks")
    options = ("--size", "None", "--slices", "nodules", "--healthy-every", "4")
    result = preprocess("--source", str(source), "--out", str(tmp_path / "out"), *options)
    assert (result["volumes"], result["nodules"], result["rejected"]) == (3, 2, [])
    dataset = Dataset.open(str(tmp_path / "out"))
    assert dataset.manifest.details["masks"] == {"derived": 3}
    lowest = set()
    for part in dataset.parts:
        image = tensor_values(dataset.read_part(part, ["image"]).column("image"))
        lowest.add(int(image.min()))
    assert lowest & {-2048, -3024}
    for row in rows(dataset):
        share = np.isin(row["label"], (LEFT_LUNG, RIGHT_LUNG)).mean()
        assert 0.03 < share < 0.6
        assert (row["label"] == NODULE).any() == bool(row["nodules"])


def header_of(source: Path, series_uid: str) -> SimpleITK.Image:
    (path,) = source.glob(f"subset*/{series_uid}.mhd")
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    image = SimpleITK.Image(1, 1, 1, SimpleITK.sitkUInt8)
    image.SetOrigin(reader.GetOrigin())
    image.SetSpacing(reader.GetSpacing())
    image.SetDirection(reader.GetDirection())
    return image
