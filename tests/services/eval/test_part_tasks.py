"""A part that was altered is not measured, and leaves nothing in the cache of features."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lungforge.datasets import Dataset, DatasetWriter, Kind, table_from_rows
from lungforge.errors import ContentError
from lungforge.metrics.features import load_extractor
from services.eval import feature_cache, part_tasks
from services.eval.feature_cache import Network
from services.eval.records import RealSource
from tests.factories import slice_row


class Mean:
    """An extractor: the mean grey value, 1280 times."""

    def embed_pictures(self, grey: Any) -> Any:
        means = grey.mean(axis=(1, 2), dtype=np.float32)
        return np.repeat(means[:, None], 1280, axis=1)


def _slices(folder: Path, hu: int) -> Dataset:
    """Two slices of one grey value; the parts of two such datasets have the same name and size."""
    images = [np.full((32, 32), value, np.int16) for value in (hu, hu + 1)]
    rows = [slice_row(slice_index=index, image=image) for index, image in enumerate(images)]
    writer = DatasetWriter(str(folder), Kind.SLICES, {"size": 32})
    writer.commit([writer.write_part("a", table_from_rows(Kind.SLICES, rows))])
    return Dataset.open(str(folder))


def test_a_poisoned_part_is_not_measured_and_leaves_no_features(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feature_cache, "worker_extractor", lambda network: Mean())
    cache = tmp_path / "cache"
    network = Network(load_extractor("efficientnet-lite0").description, cache=str(cache))
    dataset, poison = _slices(tmp_path / "slices", -500), _slices(tmp_path / "poison", 200)
    (part,) = dataset.parts
    assert poison.parts[0].bytes == part.bytes
    place = Path(dataset.uri) / part.path
    sound = place.read_bytes()
    place.write_bytes((Path(poison.uri) / poison.parts[0].path).read_bytes())

    source = RealSource(dataset, None, None, network, segmented=False, cut=None)
    read = part_tasks.read_real_part._function
    with pytest.raises(ContentError, match=r"part-a.parquet: altered since it was written: its sha256 is"):
        read(source, part)
    assert not cache.exists()

    place.write_bytes(sound)
    for _ in range(2):  # computed, and from the cache
        real, *_ = read(source, part)
        np.testing.assert_allclose(real.features[:, 0], [91, 91], atol=1)  # -500 HU of -1000 to 400
    assert len(list(cache.iterdir())) == 2  # of the network, and all other measures
