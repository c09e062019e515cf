"""What a step sees: mirrored, hidden and noised by the index of the sample alone."""

import dataclasses

import numpy as np
import pytest
import torch

from lungforge.ct.window import hu_to_unit
from lungforge.datasets import Dataset
from lungforge.datasets.patches import patch_corner
from lungforge.datasets.slices import SliceRow, index_rows
from lungforge.models.learner import Batch, SampleNeeds
from lungforge.models.sdm.objectives.eps import NoisePrediction
from lungforge.randomness import numpy_generator
from services.train.batches import make_batch
from services.train.config import TrainConfig
from services.train.presets import tiny


@pytest.fixture
def rows(slices: str) -> list[SliceRow]:
    return index_rows(Dataset.open(slices)).read(range(8))


def _batch(
    rows: list[SliceRow], samples: range | list[int], config: TrainConfig, condition_dropout: float = 0.1
) -> Batch:
    return make_batch(
        rows, samples, config, SampleNeeds((1, 16, 16), NoisePrediction().draw_time, condition_dropout)
    )


@pytest.fixture
def config() -> TrainConfig:
    return tiny("slices", "model")


def test_a_sample_does_not_depend_on_its_neighbours(rows: list[SliceRow], config: TrainConfig) -> None:
    whole = _batch(rows, range(40, 48), config)
    alone = _batch([rows[5]], [45], config)
    for name in ("images", "labels", "times", "noise", "places"):
        assert torch.equal(getattr(whole, name)[5:6], getattr(alone, name))
    other = _batch([rows[5]], [46], config)
    assert not torch.equal(alone.noise, other.noise)


def test_plain_samples_are_the_rows(rows: list[SliceRow], config: TrainConfig) -> None:
    batch = _batch(rows, range(8), dataclasses.replace(config, flip=0.0), 0.0)
    assert batch.images.shape == (8, 1, 16, 16)
    assert batch.images.dtype == torch.float32
    for index, row in enumerate(rows):
        assert np.array_equal(batch.images[index, 0], hu_to_unit(row.image))
        assert np.array_equal(batch.maps[index].argmax(0), row.label)


def test_a_mirrored_sample_swaps_the_lungs(rows: list[SliceRow], config: TrainConfig) -> None:
    batch = _batch(rows[:1], [0], dataclasses.replace(config, flip=1.0), 0.0)
    assert np.array_equal(batch.images[0, 0], hu_to_unit(rows[0].image)[:, ::-1])
    swapped = np.array([0, 1, 3, 2, 4, 5])[rows[0].label[:, ::-1]]
    assert np.array_equal(batch.maps[0].argmax(0), swapped)


def test_shares_and_moments_are_as_configured(rows: list[SliceRow], config: TrainConfig) -> None:
    many = [rows[0]] * 2000
    batch = _batch(many, range(2000), config)
    hidden = (batch.maps.sum(dim=(1, 2, 3)) == 0).double().mean()
    assert hidden == pytest.approx(0.1, abs=0.025)
    plain = torch.from_numpy(hu_to_unit(rows[0].image))
    mirrored = (batch.images[:, 0] != plain).any(dim=(1, 2)).double().mean()
    assert mirrored == pytest.approx(0.5, abs=0.045)
    assert batch.times.min() >= 0
    assert batch.times.max() <= 999
    assert batch.times.double().mean() == pytest.approx(499.5, abs=26)
    assert batch.noise.mean() == pytest.approx(0, abs=0.006)
    assert batch.noise.std() == pytest.approx(1, abs=0.005)


def test_patches_are_cut_before_all_else(wide_slices: str, config: TrainConfig) -> None:
    rows = index_rows(Dataset.open(wide_slices)).read(range(4))
    batch = _batch(rows, range(4), dataclasses.replace(config, patch=16), 0.0)
    assert batch.images.shape == batch.noise.shape == (4, 1, 16, 16)
    assert batch.maps.shape == (4, 6, 16, 16)
    # Rows 1 and 3 have a nodule, and so have their patches.
    assert (batch.maps[:, 5].sum(dim=(1, 2)) > 0).tolist() == [False, True, False, True]


def test_micro_batches_are_the_batch_in_order(rows: list[SliceRow], config: TrainConfig) -> None:
    batch = make_batch(rows, range(8), config, SampleNeeds(noise_shape=(5,)))
    assert batch.noise.shape == (8, 5)
    assert (batch.times == 0).all()
    micro_batches = batch.micro_batches(4)
    assert [len(each.images) for each in micro_batches] == [2, 2, 2, 2]
    for name in ("images", "labels", "times", "noise", "places"):
        assert torch.equal(torch.cat([getattr(each, name) for each in micro_batches]), getattr(batch, name))


def test_places_are_those_of_the_patches_and_mirrored_with_them(
    rows: list[SliceRow], config: TrainConfig
) -> None:
    noise = SampleNeeds((1, 8, 8), NoisePrediction().draw_time, 0.0)
    network = dataclasses.replace(config.network, attention_sizes=())
    cut = dataclasses.replace(config, network=network, patch=8, flip=0.0)
    plain = make_batch(rows, range(8), cut, noise)
    mirrored = make_batch(rows, range(8), dataclasses.replace(cut, flip=1.0), noise)
    for index, row in enumerate(rows):
        top, left = patch_corner(row, 8, numpy_generator(config.seed, "patch", index))
        wanted = [np.log(2.0), (top + 4) / 8 - 1, (left + 4) / 8 - 1, 1.0]
        assert plain.places[index].tolist() == pytest.approx(wanted)
        assert mirrored.places[index].tolist() == pytest.approx([*wanted[:2], -wanted[2], 1.0])
    # Patches are cut in different places, or this would say little.
    assert len(set(map(tuple, plain.places.tolist()))) > 3


def test_places_are_hidden_as_often_as_maps_and_independently(
    rows: list[SliceRow], config: TrainConfig
) -> None:
    batches = [_batch(rows, range(start, start + 8), config, 0.5) for start in range(0, 800, 8)]
    maps = torch.cat([batch.maps.sum((1, 2, 3)) == 0 for batch in batches])
    places = torch.cat([(batch.places == 0).all(1) for batch in batches])
    for hidden in (maps, places):
        assert float(hidden.float().mean()) == pytest.approx(0.5, abs=0.06)
    assert float((maps & places).float().mean()) == pytest.approx(0.25, abs=0.05)
