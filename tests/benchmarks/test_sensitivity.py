"""The powers that the benchmark gives, on features whose faults are known."""

import json
import sys

import numpy as np
import pytest

from benchmarks import planted_slices, sensitivity
from benchmarks.planted_faults import FAULTS
from benchmarks.planted_slices import MeasuredRows, measure_rows
from lungforge.ct import classes
from lungforge.datasets import DatasetWriter, Kind, table_from_rows
from lungforge.datasets.slices import SliceRow
from lungforge.errors import InputError
from lungforge.metrics.radiomics import FEATURES
from tests.factories import slice_row

COUNT = 120
SCANS = [f"scan {index // 2}" for index in range(COUNT)]


def rows_of(seed: int) -> MeasuredRows:
    generator = np.random.default_rng(seed)
    return MeasuredRows(
        features=generator.normal(size=(COUNT, 4)).astype(np.float32),
        radiomics=(10 + generator.normal(size=(COUNT, len(FEATURES)))).astype(np.float32),
        medians=generator.normal(size=(COUNT, 6)).astype(np.float32),
        contrasts=generator.normal(size=COUNT),
        copies=np.full(COUNT, False),
    )


def changed(rows: MeasuredRows, name: str, by: float) -> MeasuredRows:
    values = {field: getattr(rows, field) for field in planted_slices._FIELDS}
    return MeasuredRows(**values | {name: values[name] + by})


def test_each_measure_sees_what_changes_its_features_and_few_false_alarms(monkeypatch) -> None:
    monkeypatch.setattr(sensitivity, "_PERMUTATIONS", 59)
    clean = rows_of(0)
    measured = {
        "untouched": clean,
        "network": changed(clean, "features", 3),
        "radiomics": changed(clean, "radiomics", 3),
        "medians": changed(clean, "medians", 3),
        "contrasts": changed(clean, "contrasts", 3),
        "mirrored": MeasuredRows(
            clean.features, clean.radiomics, clean.medians, clean.contrasts, np.full(COUNT, True)
        ),
    }
    powers = sensitivity.powers(measured, SCANS, 40, 30, 0)
    sees = {
        "network": {"KID", "Fréchet distance", "precision", "recall"},
        "radiomics": {"radiomic distance"},
        "medians": {"Hounsfield units"},
        "contrasts": {"nodule contrast"},
        "mirrored": {"near-duplicates"},
    }
    for fault, measures in sees.items():
        for name, power in powers[fault].items():
            assert power >= 0.9 if name in measures else power <= 0.3, (fault, name)
    assert max(powers["untouched"].values()) <= 0.3
    assert powers["untouched"]["near-duplicates"] == 0


def test_two_slices_of_forty_are_copies_of_the_reference() -> None:
    clean, generator = rows_of(0), np.random.default_rng(0)
    copies = MeasuredRows(
        clean.features + 100, clean.radiomics, clean.medians, clean.contrasts, np.full(COUNT, True)
    )
    sets = sensitivity.draw_sets(SCANS, 40, generator)
    assert not {SCANS[row] for row in sets.reference} & {SCANS[row] for row in sets.offered}
    offered = sensitivity.plant(clean, copies, sets, "mirrored", generator)
    assert len(offered.features) == 40
    assert offered.copies.sum() == 2
    originals = clean.features[sets.reference]
    for copied in offered.features[offered.copies] - 100:
        assert np.isclose(originals, copied, atol=1e-4).all(axis=1).any()
    # A fault is in every slice.
    everywhere = sensitivity.plant(clean, copies, sets, "+50 HU", generator)
    np.testing.assert_array_equal(everywhere.features, clean.features[sets.offered] + 100)


def test_too_few_slices_are_refused() -> None:
    with pytest.raises(InputError, match=r"--images is 70, and half of the slices are 60"):
        sensitivity.draw_sets(SCANS, 70, np.random.default_rng(0))


def _slice(number: int) -> dict:
    generator = np.random.default_rng(number)
    label = np.zeros((32, 32), np.uint8)
    label[3:29, 2:30] = classes.BODY
    label[7:25, 5:14], label[7:25, 18:27] = classes.RIGHT_LUNG, classes.LEFT_LUNG
    label[14:17, 21:24] = classes.NODULE
    hu = np.array([-1000, 40, -850, -850, -1000, 30])[label] + (label > 0) * generator.normal(
        0, 30, label.shape
    )
    return slice_row(
        series_uid=f"1.2.{number}", spacing_mm=[8.0, 8.0], image=hu.astype(np.int16), label=label
    )


def test_the_command_prints_the_power_of_each_measure(tmp_path, monkeypatch, capsys) -> None:
    class Means:
        description = "means"

        def embed(self, hu):
            return np.stack([hu.mean((1, 2)), hu.std((1, 2))], axis=1).astype(np.float32)

    monkeypatch.setattr(planted_slices, "load_extractor", lambda name: Means())
    monkeypatch.setattr(sensitivity, "COPIES", {})
    monkeypatch.setattr(sensitivity, "FAULTS", {"+200 HU": FAULTS["+200 HU"]})
    writer = DatasetWriter(str(tmp_path / "slices"), Kind.SLICES, {"size": 32})
    writer.commit(
        [writer.write_part("a", table_from_rows(Kind.SLICES, [_slice(number) for number in range(24)]))]
    )
    command = ["sensitivity", "--data", str(tmp_path / "slices"), "--real", "0", "--images", "10"]
    command += ["--repeats", "4", "--json", "--features", str(tmp_path / "features")]
    monkeypatch.setattr(sys, "argv", command)
    printed = []
    for _ in range(2):  # measured, and from the files that are kept
        assert sensitivity.main() == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert len(list((tmp_path / "features").iterdir())) == 2
    result = json.loads(printed[0])
    assert (result["n"], result["repeats"], result["slices"]) == (10, 4, 24)
    assert set(result["faults"]) == {"untouched", "+200 HU"}
    assert result["faults"]["+200 HU"]["radiomic distance"] == 1.0
    assert result["faults"]["+200 HU"]["Hounsfield units"] == 1.0


def test_another_fault_is_another_file(tmp_path, monkeypatch) -> None:
    class Nothing:
        description = "nothing"

        def embed(self, hu):
            return np.zeros((len(hu), 1), np.float32)

    monkeypatch.setattr(planted_slices, "load_extractor", lambda name: Nothing())
    given = _slice(0)
    row = SliceRow("1", 0, 0, (8.0, 8.0), given["image"], given["label"], ())
    measured = measure_rows([row], {"untouched": None, **FAULTS}, 0, str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 1 + len(FAULTS)
    assert measured["+50 HU"].medians[0, classes.BODY] == measured["untouched"].medians[0, classes.BODY] + 50
    assert measured["nodules removed"].contrasts[0] < measured["untouched"].contrasts[0] - 700
