import json
import sys

import numpy as np
import pytest
from PIL import Image

from benchmarks import fid
from lungforge.ct.window import hu_to_uint8
from lungforge.datasets import tensor_values

IMAGES = fid.PART + 8


def test_the_dataset_and_the_png_files_hold_the_same_pictures(tmp_path):
    slices = fid.write_inputs(tmp_path, IMAGES)
    assert slices.rows == IMAGES
    tables = [table for part in slices.parts for table in slices.iter_batches(part)]
    grey = np.concatenate([hu_to_uint8(tensor_values(table.column("image"))) for table in tables])
    files = sorted((tmp_path / "png").iterdir())
    np.testing.assert_array_equal(grey, np.stack([np.asarray(Image.open(file)) for file in files]))
    assert len(list((tmp_path / "few").iterdir())) == 2
    assert len({picture.tobytes() for picture in grey}) == IMAGES


def test_pytorch_fid_is_charged_for_pictures_only(monkeypatch, tmp_path):
    seconds = {"png": 30.0, "few": 10.0}
    monkeypatch.setattr(fid, "timed", lambda folder, pictures: seconds[pictures])
    assert fid.pytorch_fid(tmp_path, 102) == pytest.approx(100 / 20)


@pytest.mark.ray
@pytest.mark.slow
def test_prints_rates_and_their_ratios_round_by_round(monkeypatch, capsys):
    monkeypatch.setattr(fid, "SIDE", 32)
    monkeypatch.setattr(fid, "PART", 3)
    monkeypatch.setattr(fid, "timed", lambda folder, pictures: {"png": 12.0, "few": 4.0}[pictures])
    monkeypatch.setattr(sys, "argv", ["fid", "--images", "12", "--rounds", "2", "--json"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert fid.main() == 0
    result = json.loads(capsys.readouterr().out)
    rates = result["images_per_second"]
    assert rates["pytorch-fid"]["all"] == [10 / 8, 10 / 8]
    for ratio, some, others in (
        ("one_over_pytorch_fid", "one", "pytorch-fid"),
        ("two_over_one", "two", "one"),
    ):
        pairs = zip(rates[some]["all"], rates[others]["all"], strict=True)
        assert result[ratio]["all"] == pytest.approx([one / other for one, other in pairs])
    assert (result["images"], result["side"]) == (12, 32)
