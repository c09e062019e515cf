"""The makers of what comes with LungForge: the rule of the maps, and every number of a card."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.shipped.__main__ import main
from benchmarks.shipped.measures import measures
from lungforge.ct.classes import BODY, LEFT_LUNG, NODULE, RIGHT_LUNG
from lungforge.datasets import Dataset, DatasetWriter, Kind, rows_from_table, table_from_rows
from lungforge.models.gaugan.config import GauGANConfig
from lungforge.models.gaugan.generator import Generator, fold
from lungforge.models.gaugan.spec import SPEC
from lungforge.models.model_dataset import ModelDetails, write_model
from services.eval.results import EvaluationReport
from services.eval.set_results import Coverage, NotMeasured
from tests.factories import slice_row
from tests.services.reports import ancestor, baseline, report, set_results


def _label(left: int, right: int, nodule: int) -> np.ndarray:
    """A map of 10 x 10 px with so many pixels of each."""
    label = np.full(100, BODY, np.uint8)
    label[:left], label[20 : 20 + right], label[90 : 90 + nodule] = LEFT_LUNG, RIGHT_LUNG, NODULE
    return label.reshape(10, 10)


def _slices(folder: Path) -> str:
    cases = [(3, 5, 5, 2), (3, 4, 9, 2), (3, 9, 4, 2), (3, 9, 9, 1), (2, 9, 9, 9), (3, 9, 9, 9)]
    rows = [
        slice_row(subset=subset, label=_label(*pixels), series_uid=f"1.{index}", slice_index=index)
        for index, (subset, *pixels) in enumerate(cases)
    ]
    writer = DatasetWriter(uri=str(folder), kind=Kind.SLICES, config={"size": 10, "source": "/home/someone"})
    parts = [writer.write_part(str(n), table_from_rows(Kind.SLICES, [row])) for n, row in enumerate(rows)]
    writer.commit(parts, {"window_hu": [-1000, 400], "values": "Hounsfield units"})
    return str(folder)


def test_maps_show_both_lungs_and_a_nodule_and_are_of_the_subset(tmp_path: Path) -> None:
    data = _slices(tmp_path / "slices")
    arguments = ["maps", "--data", data, "--name", "maps-10", "--subsets", "3", "--folder", str(tmp_path)]
    assert main(arguments) == 0
    dataset = Dataset.open(str(tmp_path / "maps-10"), Kind.SLICES)
    (part,) = dataset.parts
    kept = rows_from_table(dataset.read_part(part))
    assert [row["slice_index"] for row in kept] == [0, 5]
    original = rows_from_table(Dataset.open(data).read_part(Dataset.open(data).parts[0]))[0]
    assert (kept[0]["label"] == original["label"]).all()
    assert dataset.manifest.parents == ()
    assert dataset.manifest.config["original_sha256"] == Dataset.open(data).manifest_sha256
    assert dataset.manifest.details["window_hu"] == [-1000, 400]
    assert b"someone" not in dataset.manifest.to_bytes()
    card = (tmp_path / "maps-10" / "card.md").read_text(encoding="utf-8")
    assert card.startswith("# maps-10: slices and label maps of LUNA16\n\n2 slices of 2 scans, 10 x 10 px")
    assert "subset 3 of LUNA16" in card
    before = {path: path.read_bytes() for path in (tmp_path / "maps-10").rglob("*") if path.is_file()}
    assert main(arguments) == 0
    assert {path: path.read_bytes() for path in (tmp_path / "maps-10").rglob("*") if path.is_file()} == before


def test_some_of_the_maps_are_spread_evenly(tmp_path: Path) -> None:
    data = _slices(tmp_path / "slices")
    arguments = ["maps", "--data", data, "--name", "few", "--subsets", "2", "3", "--folder", str(tmp_path)]
    assert main([*arguments, "--count", "2"]) == 0
    dataset = Dataset.open(str(tmp_path / "few"), Kind.SLICES)
    kept = rows_from_table(dataset.read_part(dataset.parts[0]))
    # Of the three that fit the rule, 0, 4 and 5.
    assert [row["slice_index"] for row in kept] == [0, 5]
    card = (tmp_path / "few" / "card.md").read_text(encoding="utf-8")
    assert "2 slices, spread evenly over those of the data" in card


def test_subsets_without_a_slice_that_fits_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = _slices(tmp_path / "slices")
    arguments = ["maps", "--data", data, "--name", "maps", "--subsets", "7", "--folder", str(tmp_path)]
    assert main(arguments) == 2
    assert "no slice of the subsets" in capsys.readouterr().err
    assert not (tmp_path / "maps").exists()


def _model(folder: Path) -> Dataset:
    config = GauGANConfig(image_size=8, base_channels=8, channel_multipliers=(1,), latent_channels=4)
    details = ModelDetails(
        model="gaugan",
        size=8,
        classes=6,
        subsets=[0, 1],
        series_uids=["1_z1", "1_z2", "2"],
        rows=7,
        steps=1200,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = fold(Generator(config)).state_dict()
    writer = DatasetWriter(uri=str(folder), kind=Kind.MODEL, config={"subsets": [0, 1]})
    write_model(writer, SPEC, config, weights, details)
    return Dataset.open(str(folder))


def _report(folder: Path, document: EvaluationReport) -> str:
    writer = DatasetWriter(uri=str(folder), kind=Kind.REPORT, config={})
    writer.commit([writer.write_file("metrics.json", document.to_json())])
    return str(folder)


def _made(tmp_path: Path, model: Dataset, *options: str) -> int:
    given = ["model", "--model", model.uri, "--name", "slices-8", "--minutes", "30 on one core"]
    return main([*given, "--folder", str(tmp_path / "pretrained"), *options])


def test_a_card_says_what_a_model_is_and_how_good(tmp_path: Path) -> None:
    model = _model(tmp_path / "model")
    folder = tmp_path / "pretrained" / "slices-8"
    assert _made(tmp_path, model) == 0
    manifest = (folder / "manifest.json").read_bytes()
    first = (folder / "card.md").read_text(encoding="utf-8")
    assert "Not measured yet." in first
    assert "| training | 1,200 steps, minutes: 30 on one core |" in first
    assert "7 slices of 2 scans of LUNA16, subsets 0 1" in first
    assert "stored as float16, used as float32" in first
    assert f"| original's manifest sha256 | `{model.manifest_sha256}` |" in first
    assert "One pass of the network" in first
    of_model = set_results("one", lineage=(ancestor("model", model.manifest_sha256, model.uri),))
    document = report(of_model, set_results("two"))
    assert _made(tmp_path, model, "--report", _report(tmp_path / "report", document)) == 0
    card = (folder / "card.md").read_text(encoding="utf-8")
    assert "Of the original, before its weights were rounded, by `lungforge evaluate`" in card
    assert "40 samples from maps of 20 scans" in card
    assert "Sampler ancestral, 50 steps, guidance 1.5." in card
    assert "\n".join(measures(of_model)) in card
    assert "Diagnosis" in card
    # The weights are as they were: samples of them keep their lineage.
    assert (folder / "manifest.json").read_bytes() == manifest


def test_a_report_on_the_copy_is_told_from_one_on_the_original(tmp_path: Path) -> None:
    model = _model(tmp_path / "model")
    assert _made(tmp_path, model) == 0
    copy = Dataset.open(str(tmp_path / "pretrained" / "slices-8"))
    of_copy = set_results(lineage=(ancestor("model", copy.manifest_sha256, copy.uri),))
    assert _made(tmp_path, model, "--report", _report(tmp_path / "report", report(of_copy))) == 0
    assert "Of these weights, by" in (tmp_path / "pretrained/slices-8/card.md").read_text(encoding="utf-8")


def test_a_report_that_proves_nothing_of_the_model_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = _model(tmp_path / "model")
    assert _made(tmp_path, model, "--report", _report(tmp_path / "other", report(set_results()))) == 2
    assert "the report has 0 sets of samples of slices-8" in capsys.readouterr().err
    of_model = set_results(lineage=(ancestor("model", model.manifest_sha256, model.uri),))
    leaked = dataclasses.replace(report(of_model), leakage_allowed=True)
    assert _made(tmp_path, model, "--report", _report(tmp_path / "leaked", leaked)) == 2
    assert "evaluate on unseen scans" in capsys.readouterr().err
    assert not (tmp_path / "pretrained/slices-8/card.md").exists()


def test_every_measure_has_its_n_and_its_baseline() -> None:
    results = set_results()
    precision = Coverage(0.5, baseline(0.4, 0.8, 0.05))
    results = dataclasses.replace(
        results, precision_recall=dataclasses.replace(results.precision_recall, precision=precision)
    )
    lines = measures(results)
    for line in (
        "| Fréchet distance (EfficientNet-Lite0) | 25 ± 1 | 10 ± 1 | 30 | 12.5 (40 against 60) |",
        "| KID (efficientnet-lite0) | - | - | - | -0.001 ± 0.002, p = 0.4 |",
        "| radiomic Fréchet distance | 2 ± 1 | 1 ± 0.1 | 30 | 1.5 (40 against 60), p = 0.002 |",
        "| precision | 0.4 ± 1 | 0.8 ± 0.05 | 30 | 0.50 |",
        "| recall | - | - | - | - |",
        "| body | 30 | - | - | - | 0 and 100 |",
    ):
        assert line in lines
    text = "\n".join(lines)
    assert "850 HU in the median of 6 synthetic ones, 850 HU of 6 real ones" in text
    assert (
        "Near-duplicates of real slices: 0 of 40 (highest correlation of texture 0.20, threshold 0.75)"
        in text
    )
    assert "of real slices of other patients 1 of 200." in text
    assert "Memorisation: 0.025 (95 % interval 0.000 to 0.060) of 40 samples are nearer to one of 100" in text
    assert "0.010 is expected without memorisation" in text


def test_what_was_not_measured_says_why() -> None:
    patches = NotMeasured("the images are patches")
    lines = measures(set_results(map_agreement=patches, memorisation=patches, radiomic=patches))
    assert "Agreement with the map: not measured, as the images are patches." in lines
    assert "Memorisation: not measured, as the images are patches." in lines
    assert any(
        line.startswith("| radiomic Fréchet distance | not measured: the images are") for line in lines
    )
