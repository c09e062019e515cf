"""What ``provenance.json`` holds, and what it never holds."""

import json
from pathlib import Path
from typing import Any

import pytest

from lungforge import __version__
from lungforge.datasets import Kind, Parent
from services.export.config import ExportConfig
from services.export.job import run


def read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "provenance.json").read_text(encoding="utf-8"))


def test_it_says_of_samples_what_they_are_and_what_they_were_made_from(build, tmp_path: Path) -> None:
    parents = (
        Parent(uri="s3://lab/model", sha256="e" * 64, kind=Kind.MODEL),
        Parent(uri="s3://key:secret@lab/slices", sha256="f" * 64, kind=Kind.SLICES),
    )
    rows = [build.sample("a"), build.sample("b", edit="move"), build.sample("c")]
    config = {"data": "https://me:word@host/slices?X-Amz-Signature=1f", "steps": 10}
    dataset = build.dataset(Kind.SAMPLES, rows, parents=parents, config=config, seed=7)
    run(ExportConfig(data=dataset.uri, out=str(tmp_path / "out")))
    said = read(tmp_path / "out")
    assert said["synthetic"] is True
    assert said["dataset"] == {"uri": dataset.uri, "sha256": dataset.manifest_sha256, "kind": "samples"}
    assert said["made_from"] == [
        {"uri": "s3://lab/model", "sha256": "e" * 64, "kind": "model"},
        {"uri": "s3://lab/slices", "sha256": "f" * 64, "kind": "slices"},
    ]
    assert said["config"] == {"data": "https://host/slices", "steps": 10}
    assert said["seed"] == 7
    assert said["edits"] == {"move": 1, "none": 2}
    assert said["models"] == ["ab" * 32]
    assert said["files"] == {"ct": 3, "hu": 3, "map": 3}
    assert said["made_by"] == said["exported_by"] == f"LungForge {__version__}"
    assert [source["licence"] for source in said["sources"]] == ["CC BY 4.0", "CC BY 3.0"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, {"format": "png", "window": [-1000, 400], "hu_offset": 32768, "crop": None}),
        ({"format": "metaimage"}, {"format": "metaimage", "window": None, "hu_offset": None, "crop": None}),
        (
            {"format": "imagefolder", "crop": 16, "window": (-1350, 150)},
            {"format": "imagefolder", "window": [-1350, 150], "hu_offset": None, "crop": 16},
        ),
    ],
)
def test_it_says_how_the_values_are_to_be_read(
    build, tmp_path: Path, options: dict[str, Any], said: dict[str, Any]
) -> None:
    dataset = build.dataset(Kind.SLICES, [build.slice()])
    run(ExportConfig(data=dataset.uri, out=str(tmp_path / "out"), **options))
    assert read(tmp_path / "out")["export"] == said
    assert read(tmp_path / "out")["synthetic"] is False
