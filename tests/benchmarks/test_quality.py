"""A fair fight: the terms of the trainings, the measures of slices whose truth is known, what is shown."""

import dataclasses
import io
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.quality import __main__ as quality
from benchmarks.quality import judge as judging
from benchmarks.quality import trainings
from benchmarks.quality.figures import figure_of, pictures
from benchmarks.quality.judge import Judge, disjoint, evenly, images_of, maps_of
from benchmarks.quality.results import QualityReport, SetQuality, TrainedModel
from benchmarks.quality.table import tables
from lungforge.ct import classes
from lungforge.ct.window import hu_to_uint8
from lungforge.datasets import Dataset, DatasetWriter, Kind, table_from_rows
from lungforge.datasets.slices import index_rows
from lungforge.errors import ContentError, InputError
from lungforge.metrics.frechet import frechet_distance_of_features
from lungforge.metrics.real_baseline import compare_with_baseline
from lungforge.randomness import numpy_generator
from services.eval.rounding import rounded_baseline
from services.eval.set_results import HounsfieldRow, HounsfieldSummary
from tests.factories import nodule_at, slice_of, slice_row
from tests.services.reports import EXTRACTOR, baseline, set_results

SIDE = 32


class Moments:
    """In place of a network: mean and spread of the quarters of a slice."""

    description = dataclasses.replace(EXTRACTOR, dimensions=8)

    def embed(self, hu):
        quarters = [half for rows in np.split(hu, 2, axis=1) for half in np.split(rows, 2, axis=2)]
        found = [value for one in quarters for value in (one.mean((1, 2)), one.std((1, 2)))]
        return np.stack(found, axis=1).astype(np.float32) / 100


def _row(scan: int, subset: int, index: int) -> dict:
    generator = np.random.default_rng([scan, index])
    label = np.zeros((SIDE, SIDE), np.uint8)
    label[2:30, 1:31] = classes.BODY
    label[6:26, 4:14], label[6:26, 18:28] = classes.RIGHT_LUNG, classes.LEFT_LUNG
    top, left = generator.integers(10, 20), generator.integers(20, 24)
    label[top : top + 3, left : left + 3] = classes.NODULE
    hu = np.array([-1000, 40, -850, -840, -1000, 30])[label] + generator.normal(0, 60, label.shape)
    return slice_row(
        series_uid=f"1.2.{scan}",
        subset=subset,
        slice_index=index,
        spacing_mm=[8.0, 8.0],
        image=hu.astype(np.int16),
        label=label,
        nodules=[nodule_at(left + 1.0, top + 1.0, 3.0, 24.0)],
    )


@pytest.fixture(scope="module")
def slices(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Subset 0 has 25 slices of 12 scans, subset 1 has 12 of 6."""
    uri = str(tmp_path_factory.mktemp("quality") / "slices")
    rows = [_row(number // 2, 0, number % 2) for number in range(25)]
    rows += [_row(100 + number // 2, 1, number % 2) for number in range(12)]
    writer = DatasetWriter(uri, Kind.SLICES, {"size": SIDE})
    writer.commit([writer.write_part("a", table_from_rows(Kind.SLICES, rows))])
    return uri


def _judge(slices: str, patch: int | None = None) -> Judge:
    data = Dataset.open(slices)
    return Judge.of(index_rows(data, [0]), index_rows(data, [1]), patch, Moments())


@pytest.fixture(scope="module")
def judge(slices: str) -> Judge:
    return _judge(slices)


def _terms(slices: str, out: Path, threads: int = 1) -> trainings.Terms:
    return trainings.Terms(Dataset.open(slices), (0,), None, threads, str(out))


def test_minutes_are_steps() -> None:
    assert trainings.steps_in(1, 2.0) == 30
    assert trainings.steps_in(0.5, 0.7) == 42  # 42.86 would be too long
    assert trainings.steps_in(0.001, 10.0) == 1


def test_every_generator_has_the_same_terms(slices, tmp_path, monkeypatch) -> None:
    pace = {"sdm-edm": 2.0, "sdm-eps": 3.0, "gaugan": 0.5}
    monkeypatch.setattr(trainings, "seconds_per_step", lambda terms, model: pace[model])
    found = trainings.plan(_terms(slices, tmp_path), [*pace], [15, 1], 2)
    assert [(one.model, one.minutes, one.config.seed) for one in found] == [
        (model, minutes, seed) for minutes in (1, 15) for seed in (0, 1) for model in pace
    ]
    assert [one.config.steps for one in found[:3]] == [30, 20, 120]
    assert [one.config.steps for one in found[-3:]] == [450, 300, 1800]
    assert len({one.config.out for one in found}) == 12
    for one in found:
        config = one.config
        terms = (config.data, config.subsets, config.patch, config.batch, config.flip, config.precision)
        assert terms == (slices, (0,), None, 8, 0.5, "float32")
        assert config.preview_every == 0
    assert [one.config.learner.objective for one in found if one.config.model == "sdm"] == ["edm", "eps"] * 4


def test_steps_are_timed_once_after_the_warm_up(slices, tmp_path, monkeypatch) -> None:
    clock = types.SimpleNamespace(now=0.0, trainings=0)

    def train(run, report):
        clock.trainings += 1
        report(0, {})
        for step in range(run.config.steps):
            # Slow at first; later two seconds, but for one step in which the machine was busy.
            clock.now += 30.0 if step < trainings.WARM_UP or step == 12 else 2.0
            report(step + 1, {})

    monkeypatch.setattr(trainings, "_PRESET", "tiny")
    monkeypatch.setattr(trainings, "train", train)
    monkeypatch.setattr(trainings, "time", types.SimpleNamespace(perf_counter=lambda: clock.now))
    terms = _terms(slices, tmp_path)
    assert trainings.seconds_per_step(terms, "gaugan") == 2.0
    assert trainings.seconds_per_step(terms, "gaugan") == 2.0
    assert clock.trainings == 1
    trainings.seconds_per_step(_terms(slices, tmp_path, threads=2), "gaugan")
    trainings.seconds_per_step(terms, "sdm-eps")
    assert clock.trainings == 3
    # A training that is resumed after 10 of 40 steps has its pace: 30 steps in 60 s are 40 in 80.
    monkeypatch.setattr(trainings, "seconds_per_step", lambda terms, model: 1.5)
    (training,) = trainings.plan(terms, ["gaugan"], [1], 1)

    def resumed(run, report):
        for done in range(10, 41):
            report(done, {})
            clock.now += 2.0

    monkeypatch.setattr(trainings, "train", resumed)
    assert trainings.minutes_taken(training) is None
    trainings.carry_out(training, terms)
    assert trainings.minutes_taken(training) == pytest.approx(80 / 60)


def test_real_slices_in_place_of_generated_ones_have_no_error(judge) -> None:
    found = judge.of_generated(images_of(judge.validation))
    assert found.hu_error == 0
    assert (found.images, found.scans) == (12, 6)
    assert [row.difference for row in found.hounsfield_units if row.real.pixels] == [0] * 5
    assert found.radiomic.distance == pytest.approx(0, abs=1e-6)
    assert found.frechet.value == pytest.approx(0, abs=1e-4)
    assert found.precision_recall.precision.value == found.precision_recall.recall.value == 1
    # Of divisions at random hardly any is as near.
    assert min(found.radiomic.p_value, found.kid.p_value) > 0.9
    for compared in (found.radiomic.baseline, found.frechet.baseline, found.kid.baseline):
        assert compared.synthetic_mean <= compared.real_mean
    assert found.near_duplicates.count == 0
    # The halves are those of benchmarks.steps.
    features = judge.measured.features
    halves = compare_with_baseline(
        features, judge.measured.scans, features, frechet_distance_of_features, numpy_generator(0, "steps")
    )
    assert found.frechet.baseline == rounded_baseline(halves)


def test_brighter_slices_and_copies_of_training_slices_are_seen(judge) -> None:
    body = maps_of(judge.validation) == classes.BODY
    brighter = judge.of_generated((images_of(judge.validation) + 50 * body).astype(np.int16))
    errors = {row.class_name: row.from_source for row in brighter.hounsfield_units if row.real.pixels}
    assert errors == {name: 50 if name == "body" else 0 for name in errors}
    assert brighter.hu_error == 10  # 50 in one of five classes
    assert brighter.radiomic.distance > 1
    copies = judge.of_generated(images_of(judge.training[:12]))
    assert copies.near_duplicates.count == copies.near_duplicates.checked == 12


def test_patches_are_measured_as_whole_slices_are(slices) -> None:
    judge = _judge(slices, 16)
    assert images_of(judge.validation).shape == (12, 16, 16)
    for row, whole in zip(judge.validation, judge.measured.keys, strict=True):
        assert (row.series_uid, row.slice_index) == whole
        assert (row.label == classes.NODULE).any()
    found = judge.of_generated(images_of(judge.validation))
    assert found.hu_error == 0
    assert (found.near_duplicates.checked, found.near_duplicates.count) == (12, 0)
    again = _judge(slices, 16)
    np.testing.assert_array_equal(images_of(again.validation), images_of(judge.validation))


def test_too_few_slices_are_refused_before_any_training(slices, monkeypatch) -> None:
    monkeypatch.setattr(judging, "FEWEST", 13)
    with pytest.raises(InputError, match=r"--validate has 12 slices; choose subsets with 13 or more"):
        _judge(slices)


def test_training_slices_are_the_real_ones_beside(judge) -> None:
    sets = judge.of_real()
    assert [one.images for one in sets] == [12, 12]  # of 25
    for one in sets:
        assert one.hu_error is None
        assert one.frechet.value > 0
        # Of each the slices of other scans are searched, so it does not meet itself.
        assert (one.near_duplicates.checked, one.near_duplicates.count) == (12, 0)
    assert [one.tolist() for one in disjoint(10, 3)] == [[0, 6, 9], [1, 4, 7], [2, 5, 8]]
    assert [one.tolist() for one in disjoint(3, 5)] == [[0, 1, 2]]


def test_the_maps_that_are_shown_are_chosen_by_rule() -> None:
    # Steps of 102 / 7 = 14.57, rounded.
    assert evenly(103, 8).tolist() == [0, 15, 29, 44, 58, 73, 87, 102]
    assert evenly(3, 8).tolist() == [0, 1, 2]
    rows = [slice_of(image=np.full((SIDE, SIDE), 60 * number - 990, np.int16)) for number in range(20)]
    generated = images_of(rows)[::-1]
    picture = np.asarray(Image.open(io.BytesIO(pictures(rows, {"one, 5 min": generated}))))
    # Tiles of 160 px, 8 px apart, below a line of headings.
    chosen = evenly(20, 8)
    down = 8 + 18 + 168 * np.arange(8) + 80
    for column, values in ((1, images_of(rows)), (2, generated)):
        expected = hu_to_uint8(values[chosen])[:, 0, 0]
        np.testing.assert_array_equal(picture[down, 8 + 168 * column + 80, 0], expected)


def _set(error: float, difference: int, contrast: float = 0.0, *, of_real: bool = False) -> SetQuality:
    found = set_results()
    pixels = HounsfieldSummary(100, -30, -40, 40)
    row = HounsfieldRow("body", pixels, pixels, difference, None if of_real else error, 0.5)
    side = found.nodule_contrast_hu.real
    return SetQuality(
        images=40,
        scans=20,
        hounsfield_units=(row,) * classes.COUNT,
        nodule_contrast_hu=dataclasses.replace(
            found.nodule_contrast_hu, synthetic=dataclasses.replace(side, median=side.median + contrast)
        ),
        radiomic=found.radiomic,
        frechet=found.frechet,
        kid=dataclasses.replace(found.kid, mean=error / 1000, baseline=baseline(0.03, real=0.01)),
        precision_recall=found.precision_recall,
        near_duplicates=dataclasses.replace(found.near_duplicates, count=1),
    )


def _model(model: str, minutes: float, seed: int, of: SetQuality) -> TrainedModel:
    return TrainedModel(model, minutes, minutes + 0.5, seed, 1200, "dpmpp", 12, 1.5, 0.25, of)


REPORT = QualityReport(
    train=(0, 1),
    validate=(3,),
    patch=None,
    size=64,
    threads=1,
    training_images=330,
    images=40,
    scans=20,
    real=(_set(0, 4, of_real=True),),
    models=(
        _model("gaugan", 15, 0, _set(28, -12, -20)),
        _model("gaugan", 15, 1, _set(32, 8, 10)),
        _model("gaugan", 60, 0, _set(20, 6)),
    ),
    diverged=("sdm-eps, 15 min, seed 0",),
)


def test_the_tables_have_means_and_ranges_over_the_seeds() -> None:
    lines = list(tables(QualityReport.from_json(REPORT.to_json())))
    assert "2 seeds, lowest to highest in brackets" in lines[0]
    assert lines[1] == "Diverged: sdm-eps, 15 min, seed 0."
    of_gaugan = [line for line in lines if line.startswith("| gaugan, 15 min |")]
    of_real = [line for line in lines if line.startswith("| real, training subsets |")]
    assert of_gaugan[0].split(" | ")[1:5] == [
        "1,200",
        "15.5",
        "0.25",
        "30.0 (28.0 to 32.0)",
    ]
    assert of_gaugan[0].endswith("| 2 of 80 |")
    assert of_real[0] == (
        "| real, training subsets |  |  |  | – | 1.5 | 12.5 | 0.0 | 0.50 | – | 0.002 | 0.400 | 1 of 40 |"
    )
    assert "| the other half, real | 1.0 | 10.0 | 10.0 | – | – |" in lines
    assert of_gaugan[2].split(" | ")[1] == "−2 (−12 to +8) / 30 (28 to 32)"
    assert of_gaugan[2].endswith("| −5 (−20 to +10) |")
    assert of_real[2].split(" | ")[1] == "+4"
    assert lines[-4].startswith("| validation slices, HU | −30 | −30 |")
    with pytest.raises(ContentError, match=r"no results of benchmarks\.quality: train"):
        QualityReport.from_json(b"{}")


def test_the_curves_go_through_the_means_of_the_seeds() -> None:
    axes = figure_of(REPORT).axes
    assert [one.get_title() for one in axes][:2] == ["HU error per slice", "radiomic distance"]
    curve = axes[0].get_lines()[-1]
    assert curve.get_label() == "gaugan"
    assert [*zip(*curve.get_data(), strict=True)] == [(15, 30), (60, 20)]
    assert [line.get_ydata()[0] for line in axes[1].get_lines() if line.get_linestyle() == "--"] == [1.5]


def test_the_command_again_trains_nothing_and_finds_the_same(slices, tmp_path, monkeypatch, capsys) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(quality, "load_extractor", lambda name: Moments())
    monkeypatch.setattr(trainings, "_PRESET", "tiny")
    monkeypatch.setattr(trainings, "seconds_per_step", lambda terms, model: 0.6)
    command = ["quality", "--data", slices, "--train", "0", "--validate", "1", "--minutes", "0.02"]
    command += ["--models", "sdm-edm", "gaugan", "--seeds", "1", "--out", str(tmp_path), "--json"]
    monkeypatch.setattr(sys, "argv", command)
    printed = []
    try:
        assert quality.main() == 0
        printed.append(capsys.readouterr().out)
        monkeypatch.setattr(trainings, "train", lambda run, report: pytest.fail("it trains again"))
        assert quality.main() == 0
        printed.append(capsys.readouterr().out)
        command[6] = "0"
        assert quality.main() == 2
        assert capsys.readouterr().err == (
            "subset 0 is in --train and in --validate; measure on other subsets\n"
        )
    finally:
        torch.set_num_threads(threads)
    first, second = (
        [{**model, "seconds_per_image": None} for model in json.loads(text)["models"]] for text in printed
    )
    assert first == second
    assert [(one["model"], one["steps"], one["quality"]["images"]) for one in first] == [
        ("sdm-edm", 2, 12),
        ("gaugan", 2, 12),
    ]
    written = QualityReport.from_json((tmp_path / "quality.json").read_bytes())
    assert written == QualityReport.from_json(printed[1].encode())
    assert {path.name for path in tmp_path.iterdir()} == {
        *("quality.json", "pictures.png", "curves.png"),
        *(f"{model}-0.02min-seed0{end}" for model in ("sdm-edm", "gaugan") for end in ("", ".json")),
    }
