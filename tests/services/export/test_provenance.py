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
    run(ExportConfig(data=(dataset.uri,), out=str(tmp_path / "out")))
    said = read(tmp_path / "out")
    assert said["synthetic"] is True
    (described,) = said["datasets"]
    assert {key: described[key] for key in ("uri", "sha256", "kind")} == {
        "uri": dataset.uri,
        "sha256": dataset.manifest_sha256,
        "kind": "samples",
    }
    assert described["made_from"] == [
        {"uri": "s3://lab/model", "sha256": "e" * 64, "kind": "model"},
        {"uri": "s3://lab/slices", "sha256": "f" * 64, "kind": "slices"},
    ]
    assert described["config"] == {"data": "https://host/slices", "steps": 10}
    assert described["seed"] == 7
    assert said["edits"] == {"move": 1, "none": 2}
    assert said["models"] == ["ab" * 32]
    assert said["files"] == {"ct": 3, "hu": 3, "map": 3}
    assert described["made_by"] == said["exported_by"] == f"LungForge {__version__}"
    assert said["sources"] == []


def test_it_cites_luna16_where_a_slice_is_from_there(build, tmp_path: Path) -> None:
    uid = "1.3.6.1.4.1.14519.5.2.1.6279.6001.100225287222365663678666836860"
    dataset = build.dataset(Kind.SLICES, [build.slice()], [build.slice(uid=uid)])
    run(ExportConfig(data=(dataset.uri,), out=str(tmp_path / "out")))
    assert [source["licence"] for source in read(tmp_path / "out")["sources"]] == ["CC BY 4.0", "CC BY 3.0"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, {"format": "png", "window": [-1000, 400], "hu_offset": 32768}),
        ({"format": "metaimage"}, {"format": "metaimage"}),
        (
            {"format": "imagefolder", "crop": 16, "window": (-1350, 150)},
            {"format": "imagefolder", "window": [-1350, 150], "crop": 16},
        ),
    ],
)
def test_it_says_how_the_values_are_to_be_read(
    build, tmp_path: Path, options: dict[str, Any], said: dict[str, Any]
) -> None:
    dataset = build.dataset(Kind.SLICES, [build.slice()])
    run(ExportConfig(data=(dataset.uri,), out=str(tmp_path / "out"), **options))
    ignored = dict.fromkeys(("window", "hu_offset", "crop", "min_box_px"))
    always = {"validation_share": 0.0, "validation_subsets": []}
    assert read(tmp_path / "out")["export"] == ignored | always | said
    assert read(tmp_path / "out")["synthetic"] is False
