"""The maps that come with LungForge are sampled from by their URI, in every process of a job."""

from pathlib import Path

import pytest

from lungforge.datasets import Dataset, Kind
from services.sample.config import SampleConfig
from services.sample.job import run
from tests.services.sample.conftest import SIDE, make_model


@pytest.mark.ray
@pytest.mark.usefixtures("ray_local")
def test_a_job_samples_from_them_and_its_lineage_names_no_place_of_the_machine(tmp_path: Path) -> None:
    model = make_model(str(tmp_path / "model"), patch=SIDE)
    out = str(tmp_path / "samples")
    result = run(
        SampleConfig(model=model, data="lungforge://maps-64", out=out, count=4, steps=2, part_images=2)
    )
    assert (result.images, result.parts) == (4, 2)
    samples = Dataset.open(out, Kind.SAMPLES)
    maps = Dataset.open("lungforge://maps-64")
    assert samples.manifest.parents[1] == maps.parent()
    assert samples.manifest.parents[1].uri == "lungforge://maps-64"
