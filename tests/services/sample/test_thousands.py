"""Two thousand images: the same with one and with four workers, and the batch changes rounding only."""

import numpy as np
import pytest

from lungforge.datasets import Dataset, Kind, tensor_values
from services.sample.config import SampleConfig
from services.sample.job import run

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.usefixtures("ray_local")]

IMAGES = 2_000


@pytest.fixture(scope="module")
def drawn(
    model: str, slices: str, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[int, int], Dataset]:
    """By workers and batch; the last batch of a part, and the last part, are smaller than the others."""
    folder = tmp_path_factory.mktemp("thousands")
    found = {}
    for workers, batch in ((1, 16), (4, 16), (2, 4)):
        config = SampleConfig(
            model=model,
            data=slices,
            out=str(folder / f"{workers}-{batch}"),
            count=IMAGES,
            steps=2,
            sampler="dpmpp",
            part_images=90,
            batch=batch,
            workers=workers,
        )
        assert run(config).images == IMAGES
        found[workers, batch] = Dataset.open(config.out, Kind.SAMPLES)
    return found


def _images(dataset: Dataset) -> dict[str, np.ndarray]:
    images: dict[str, np.ndarray] = {}
    for part in dataset.parts:
        for table in dataset.iter_batches(part, columns=["sample_id", "image"]):
            names = table.column("sample_id").to_pylist()
            images |= dict(zip(names, tensor_values(table.column("image")), strict=True))
    return images


def test_the_number_of_workers_changes_no_byte(drawn: dict[tuple[int, int], Dataset]) -> None:
    one = drawn[1, 16]
    assert len(one.parts) == 23
    # Every part's sha256 is in the manifest; parts are named by what they hold.
    assert drawn[4, 16].manifest.parts == one.manifest.parts
    images = _images(one)
    assert len(images) == IMAGES
    assert len({image.tobytes() for image in images.values()}) == IMAGES


def test_the_batch_changes_rounding_only(drawn: dict[tuple[int, int], Dataset]) -> None:
    small, large = _images(drawn[2, 4]), _images(drawn[1, 16])
    assert small.keys() == large.keys()
    furthest = max(int(np.abs(small[name].astype(int) - large[name]).max()) for name in small)
    assert furthest <= 1
