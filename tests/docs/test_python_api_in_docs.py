"""The Python of how-to/python.md and how-to/own-detector.md runs, block after block, and is right."""

import dataclasses
import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import lungforge
from lungforge.ct.phantoms.generate import generate_phantom
from lungforge.ct.phantoms.writing import write_metaimage
from lungforge.datasets import DatasetWriter, Kind, table_from_rows
from tests.factories import sample_row, slice_row

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def run_blocks(page: str) -> dict[str, Any]:
    """Run the Python of a page in one namespace, which is the result."""
    names: dict[str, Any] = {}
    blocks = BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    assert len(blocks) >= 5
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    return names


def test_the_api_by_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_blocks("how-to/python.md")
    assert names["batch"]["image"].shape == (8, 1, 64, 64)
    assert names["batch"]["label"].dtype == torch.uint8
    assert names["batch"]["nodules"].shape == (8, 16, 4)
    assert names["images"].shape == (4, 64, 64)
    assert names["images"].dtype == np.int16
    assert names["by_map"].shape == (2, 2, 64, 64)
    assert names["own"].shape == (1, 64, 64)
    assert names["elsewhere"].shape == (2, 64, 64)
    assert names["results"].synthetic.slices == 12
    assert names["scan"].hu.shape == (40, 128, 128)
    assert names["crossing"].nodules
    assert names["image"].shape == (64, 64)
    # What the page says of its names.
    table = re.findall(
        r"^\| (`.*`) \|", (DOCS / "how-to/python.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    functions = {name for cell in table for name in re.findall(r"`(\w+)`", cell)}
    assert functions == {name for name in lungforge.__all__ if name.islower() and not name.startswith("_")}


@pytest.mark.parametrize("name", ["edits", "evaluation", "model", "slices", "volumes"])
def test_the_examples_of_the_docstrings(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    phantom = generate_phantom(0, 0, size=128, slices=40).volume
    write_metaimage("./scan.mhd", phantom.hu, phantom.geometry)
    names = {"lungforge": lungforge, "torch": torch, "dataclasses": dataclasses}
    module = importlib.import_module(f"lungforge.api.{name}")
    results = doctest.testmod(module, extraglobs=names, optionflags=doctest.ELLIPSIS)
    assert results.attempted >= 2
    assert results.failed == 0


@pytest.mark.parametrize(("hu", "verdict"), [(0, "good"), (200, "poor")])
def test_200_hu_too_many_show_with_a_dozen_slices(hu: int, verdict: str) -> None:
    real = lungforge.open_slices("lungforge://maps-64", subsets=3).rows()[:12]
    other = lungforge.open_slices("lungforge://maps-64", subsets=2).rows()[:12]
    for row in other:
        row.image[:] += hu
    assert lungforge.evaluate(real, other, extractor=None).verdict == verdict


def test_synthetic_slices_in_a_detector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rows = lungforge.open_slices("lungforge://maps-64", subsets=2).rows(range(6))
    sources = [
        slice_row(
            series_uid=row.series_uid,
            slice_index=row.slice_index,
            spacing_mm=list(row.spacing_mm),
            image=row.image,
            label=row.label,
            nodules=list(row.nodules),
        )
        for row in rows
    ]
    table = table_from_rows(
        Kind.SAMPLES, [sample_row(row, sample_id=f"s{number}") for number, row in enumerate(sources)]
    )
    writer = DatasetWriter("samples", Kind.SAMPLES, {})
    writer.commit([writer.write_part("a", table)])
    page = (DOCS / "how-to/own-detector.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^lungforge (export .*)$", page, re.MULTILINE)
    subprocess.run(
        [sys.executable, "-m", "services", *command.split()],
        check=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
    )

    names = run_blocks("how-to/own-detector.md")

    assert len(names["real"]) + len(names["synthetic"]) == 42
    # The boxes hold the nodules of the map, and nothing else does.
    for item, (picture, target) in zip(lungforge.open_slices("samples"), names["synthetic"], strict=True):
        assert picture.shape == (3, 64, 64)
        assert 0 <= picture.min() < picture.max() <= 1
        assert len(target["boxes"]) == len(target["labels"]) == item["nodule_count"]
        inside = np.zeros((64, 64), bool)
        for left, top, right, bottom in target["boxes"].int().tolist():
            inside[top:bottom, left:right] = True
        assert inside[item["label"][0].numpy() == 5].all()
    assert all(torch.isfinite(loss) for loss in names["losses"].values())
    assert {"loss_box_reg", "loss_classifier"} <= set(names["losses"])
    assert names["batch"]["image"].shape == (4, 1, 64, 64)
    assert 0 <= names["batch"]["image"].min() <= names["batch"]["image"].max() <= 1
    assert set(np.unique(names["batch"]["label"]).tolist()) <= {0, 1, 2, 3, 4, 5}
    assert len(names["boxes"]) == len(rows[0].nodules)


def test_mmdet_reads_what_the_page_configures(tmp_path: Path) -> None:
    """The dataset of the page's configuration, built by mmdet itself."""
    page = (DOCS / "how-to/own-detector.md").read_text(encoding="utf-8")
    (block,) = [block for block in BLOCK.findall(page) if "CocoDataset" in block]
    names: dict[str, Any] = {}
    exec(compile(block, "how-to/own-detector.md", "exec"), names)
    subprocess.run(
        [
            sys.executable,
            *("-m", "services", "export", "--data", "lungforge://maps-64", "--format", "coco"),
            *("--out", str(tmp_path / "coco")),
        ],
        check=True,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
    )
    from services.eval.downstream.mmcv_operators import provide

    provide()
    from mmdet.registry import DATASETS
    from mmdet.utils import register_all_modules

    register_all_modules()
    config = names["dataset"] | {"data_root": f"{tmp_path}/coco/", "pipeline": []}
    dataset = DATASETS.build(config)
    assert len(dataset) == 73
    assert dataset.get_data_info(0)["instances"][0]["bbox_label"] == 0
