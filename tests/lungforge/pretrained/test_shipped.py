"""What comes with LungForge: whole, small, without code in it, and in the wheel."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from lungforge.ct.io.patient_table import scan_of
from lungforge.datasets import Dataset, Kind
from lungforge.datasets.slices import index_rows
from lungforge.models.base import SamplingOptions
from lungforge.models.model_dataset import ModelDataset
from lungforge.storage.packaged import FOLDER, packaged_names
from services.tools.demo import UNSEEN_SUBSET

ROOT = Path(__file__).parents[3]
#: The most that all of it may take, and the maps of it.
LARGEST, LARGEST_MAPS = 25_000_000, 1_500_000
DATASETS = [Dataset.open(f"lungforge://{name}") for name in packaged_names()]
MODELS = [dataset for dataset in DATASETS if dataset.manifest.kind is Kind.MODEL]
MAPS = [dataset for dataset in DATASETS if dataset.manifest.kind is Kind.SLICES]


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_together_they_are_small() -> None:
    assert 0 < sum(path.stat().st_size for path in _files(FOLDER)) <= LARGEST


def test_they_are_models_and_maps_and_the_first_maps_are_there() -> None:
    assert len(MODELS) + len(MAPS) == len(DATASETS)
    assert "lungforge://maps-64" in [dataset.uri for dataset in MAPS]


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.uri)
def test_every_file_is_listed_sound_and_no_code(dataset: Dataset) -> None:
    dataset.verify()
    folder = FOLDER / dataset.uri.rpartition("/")[2]
    present = {path.relative_to(folder).as_posix() for path in _files(folder)}
    assert present == {part.path for part in dataset.parts} | {"manifest.json", "card.md"}
    assert {Path(path).suffix for path in present} <= {".json", ".md", ".safetensors", ".parquet"}
    assert dataset.manifest.parents == ()
    for text in ((folder / "manifest.json").read_text("utf-8"), (folder / "card.md").read_text("utf-8")):
        assert not any(place in text for place in ('"/', "/tmp/", "/work/", "/home/"))


@pytest.mark.parametrize("dataset", DATASETS, ids=lambda dataset: dataset.uri)
def test_every_card_names_licence_source_and_limits(dataset: Dataset) -> None:
    card = (FOLDER / dataset.uri.rpartition("/")[2] / "card.md").read_text("utf-8")
    for words in (
        "creativecommons.org/licenses/by/4.0",
        "10.1016/j.media.2017.06.015",
        "LIDC-IDRI",
        "Changed:",
    ):
        assert words in card
    assert "diagnosis" in card.lower()
    assert "clinical performance" in card


@pytest.mark.parametrize("dataset", MAPS, ids=lambda dataset: dataset.uri)
def test_maps_are_small_and_some_are_of_scans_that_no_model_saw(dataset: Dataset) -> None:
    assert sum(part.bytes for part in dataset.parts) < LARGEST_MAPS
    scans = set(map(scan_of, index_rows(dataset, [UNSEEN_SUBSET]).series_uids))
    assert len(scans) >= (20 if dataset.uri == "lungforge://maps-64" else 1)
    for model in MODELS:
        seen = ModelDataset.of(model).details.series_uids
        assert seen
        assert scans.isdisjoint(map(scan_of, seen))


@pytest.mark.parametrize("dataset", MODELS, ids=lambda dataset: dataset.uri)
def test_models_are_in_half_precision_and_load(dataset: Dataset) -> None:
    model = ModelDataset.of(dataset)
    floating = [value for value in model.read_weights().values() if value.is_floating_point()]
    assert {value.element_size() for value in floating} == {2}
    model.sampler(SamplingOptions(), torch.device("cpu"), classes=6)


@pytest.mark.slow
def test_the_wheel_holds_them(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("lungforge", "services"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools.build_meta import build_wheel; build_wheel('..')"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=source, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("lungforge/pretrained/")}
        assert held == {
            f"lungforge/pretrained/{path.relative_to(FOLDER).as_posix()}" for path in _files(FOLDER)
        }
        for name in held:
            assert archive.read(name) == (FOLDER / name.removeprefix("lungforge/pretrained/")).read_bytes()
