from pathlib import Path

import numpy as np
import pytest

from lungforge.ct import classes
from lungforge.datasets import Part
from lungforge.datasets.patches import Cut
from lungforge.metrics.map_agreement import STRUCTURES, segment_and_compare
from lungforge.metrics.radiomics import FEATURES, radiomic_features
from services.eval import part_measures
from services.eval.part_measures import PartMeasures

PART = Part(path="parts/a.parquet", rows=3, bytes=1, sha256="a" * 64)
HU = np.random.default_rng(0).integers(-1000, 400, size=(3, 24, 24)).astype(np.int16)
LABELS = np.full(HU.shape, classes.BODY, np.uint8)
SPACINGS = [[1.0, 1.0], [2.0, 2.0], [1.0, 1.0]]
WANTED = np.array([True, True, False])


def read(cache, part=PART, cut=None, compared=(3,), segmented=True):
    """Radiomic features and overlaps of all rows, side by side."""
    measures = PartMeasures.of(cache, part, cut, compared, segmented=segmented)
    batches = (slice(0, 2), slice(2, 3))
    added = [measures.add(HU[batch], LABELS[batch], SPACINGS[batch], WANTED[batch]) for batch in batches]
    assert np.concatenate(added).tobytes() == np.ascontiguousarray(measures.dice()).tobytes()
    return np.concatenate([measures.radiomics(), measures.dice()], axis=1)


def never(*_):
    raise AssertionError("the cache has these")


def test_the_cache_gives_the_same_bits_and_nothing_is_computed(tmp_path, monkeypatch):
    plain, first = read(None), read(str(tmp_path))
    for row in (0, 1):
        given = HU[row], LABELS[row], SPACINGS[row]
        np.testing.assert_array_equal(plain[row, : len(FEATURES)], radiomic_features(*given))
        dice = segment_and_compare(*given).dice
        assert 0 < dice["body"] <= 1
        expected = np.float32([dice.get(name, np.nan) for name in STRUCTURES])
        np.testing.assert_array_equal(plain[row, len(FEATURES) :], expected)
    assert np.isfinite(plain[:2, : len(FEATURES)]).any()
    assert np.isnan(plain[2]).all()
    monkeypatch.setattr(part_measures, "radiomic_features", never)
    monkeypatch.setattr(part_measures, "segment_and_compare", never)
    again = read(str(tmp_path))
    assert plain.tobytes() == first.tobytes() == again.tobytes()
    assert len(list(tmp_path.iterdir())) == 1


def test_whatever_changes_the_features_has_a_file_of_its_own(tmp_path, monkeypatch):
    read(str(tmp_path))
    read(str(tmp_path), part=Part("parts/a.parquet", 3, 1, "b" * 64))
    read(str(tmp_path), cut=Cut(16, 0))
    read(str(tmp_path), compared=None)
    read(str(tmp_path), segmented=False)
    monkeypatch.setattr(part_measures, "FORMULAS", 0)
    read(str(tmp_path))
    monkeypatch.setattr(part_measures, "_segmentation_code", lambda: "another")
    read(str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 7


def test_patches_are_not_segmented(monkeypatch):
    monkeypatch.setattr(part_measures, "segment_and_compare", never)
    assert np.isnan(read(None, segmented=False)[:, len(FEATURES) :]).all()


@pytest.mark.parametrize("damage", ["cut short", "infinite", "of another shape"])
def test_a_file_that_is_not_these_features_is_made_anew(tmp_path, damage):
    sound = read(str(tmp_path))
    (file,) = Path(tmp_path).iterdir()
    if damage == "cut short":
        file.write_bytes(file.read_bytes()[:-1])
    else:
        wrong = np.full((3, len(FEATURES) + 2), np.inf, np.float32) if damage == "infinite" else sound[:2]
        part_measures.keep_array(str(tmp_path), file.stem, wrong)
    assert read(str(tmp_path)).tobytes() == sound.tobytes()
