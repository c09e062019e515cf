"""An average of another length, made from snapshots, against one that was kept from the start."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lungforge.datasets import Dataset, DatasetWriter, Kind
from lungforge.errors import ContentError, InputError
from lungforge.models.average_profiles import SNAPSHOT_LENGTHS, combination, snapshot_steps
from lungforge.models.checkpoint import to_safetensors
from lungforge.models.ema import MovingAverages
from lungforge.models.gaugan.config import GauGANConfig
from lungforge.models.gaugan.spec import SPEC
from lungforge.models.model_dataset import ModelDetails, write_model
from lungforge.models.posthoc import combine, read_snapshots
from lungforge.models.snapshots import Snapshot, snapshot_name, to_half

STEPS = 600
REBUILT = (0.03, 0.08, 0.15)


def _path() -> Tensor:
    """Weights as they move in training, [steps, 200]: fast and far at first, then slowly, with noise."""
    generator = torch.Generator().manual_seed(0)
    places, starts = torch.randn(2, 200, generator=generator)
    time = torch.linspace(0, 1, STEPS)[:, None]
    noise = torch.randn(STEPS, 200, generator=generator).cumsum(0) * 0.01
    return places + (starts - places) * torch.exp(-6 * time) + 0.3 * time * places + noise


def _write(writer: DatasetWriter, snapshots: Sequence[Snapshot], weights: dict[str, Tensor]) -> Dataset:
    config = GauGANConfig(image_size=8, base_channels=8, channel_multipliers=(1,), latent_channels=4)
    write_model(writer, SPEC, config, weights, ModelDetails(model="gaugan"), snapshots=snapshots)
    return Dataset.open(writer.uri, Kind.MODEL)


@pytest.fixture
def writer(tmp_path: Path) -> DatasetWriter:
    return DatasetWriter(uri=str(tmp_path / "model"), kind=Kind.MODEL, config={})


def test_a_third_length_is_as_if_it_had_been_kept(writer: DatasetWriter) -> None:
    path = _path()
    averages = MovingAverages({"w": path[0], "still": torch.full((3,), 0.7)}, [*SNAPSHOT_LENGTHS, *REBUILT])
    snapshots: list[Snapshot] = []
    for step, weight in enumerate(path, 1):
        averages.update({"w": weight, "still": torch.full((3,), 0.7)})
        if step in snapshot_steps(STEPS):
            for length in SNAPSHOT_LENGTHS:
                data = to_safetensors(to_half(averages.by_length[length]))
                part = writer.write_file(snapshot_name(length, step), data)
                snapshots.append(Snapshot(length, step, part))
    model = _write(writer, snapshots, averages.weights)
    assert read_snapshots(model) == snapshots
    for length in REBUILT:
        kept = averages.by_length[length]["w"]
        factors, _ = combination(snapshots, length)
        made = combine(model, snapshots, factors.tolist())
        others = [averages.by_length[other]["w"] for other in SNAPSHOT_LENGTHS]
        error = float((made["w"] - kept).norm())
        assert error < 2e-3 * float(kept.norm())
        # It is that average, and not the nearest one of those that were kept.
        assert error < 0.1 * min(float((other - kept).norm()) for other in others)
        assert torch.allclose(made["still"], torch.tensor(0.7), atol=1e-3)
        assert made["w"].dtype == torch.float32


def test_a_model_without_snapshots_is_told_so(writer: DatasetWriter) -> None:
    model = _write(writer, (), {"w": torch.ones(3)})
    with pytest.raises(InputError, match=r"/model: a model without snapshots .* train --keep-averages"):
        read_snapshots(model)


@pytest.mark.parametrize(
    "listed",
    [
        b"{}",
        b'{"snapshots": 3}',
        b'{"snapshots": []}',
        b'{"snapshots": [{"length": 0.05, "updates": 1, "file": "a"}]}',
        b'{"snapshots": [{"length": 0.05, "updates": 1, "file": "a"}, {"updates": 1, "file": "a"}]}',
        b'{"snapshots": [{"length": 0.05, "updates": 1, "file": "a"},'
        b' {"length": 0.1, "updates": 1, "file": "b"}]}',
        b'{"snapshots": [{"length": 0.05, "updates": 1, "file": "a"},'
        b' {"length": 0.3, "updates": 1, "file": "a"}]}',
        b'{"snapshots": [{"length": 0.05, "updates": 1, "file": "a"},'
        b' {"length": 0.1, "updates": 0, "file": "a"}]}',
        b'{"snapshots": [{"length": 0.05, "updates": 1, "file": "a"},'
        b' {"length": 0.1, "updates": 1' + b"0" * 400 + b', "file": "a"}]}',
        b'{"snapshots": [{"length": 0.05, "updates": 1, "file": "a"},'
        b' {"length": [1], "updates": 1, "file": "a"}]}',
    ],
)
def test_a_list_that_is_none_of_snapshots_is_refused(writer: DatasetWriter, listed: bytes) -> None:
    writer.commit([writer.write_file("averages.json", listed), writer.write_file("a", b"")])
    with pytest.raises(ContentError, match=r"averages\.json does not list snapshots"):
        read_snapshots(Dataset.open(writer.uri))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"w": torch.ones(4)}, "b is of another network than a"),
        ({"v": torch.ones(3)}, "b is of another network than a"),
        (None, "b: the weights are not a sound safetensors file"),
    ],
)
def test_snapshots_that_cannot_be_added_are_named(writer: DatasetWriter, other: Any, message: str) -> None:
    parts = [
        writer.write_file("a", to_safetensors({"w": torch.ones(3)})),
        writer.write_file("b", b"no weights" if other is None else to_safetensors(other)),
    ]
    snapshots = [Snapshot(0.1, index + 1, part) for index, part in enumerate(parts)]
    model = _write(writer, snapshots, {"w": torch.ones(3)})
    with pytest.raises(ContentError, match=f"/model: {message}"):
        combine(model, snapshots, [0.5, 0.5])


def test_half_precision_leaves_counts_beyond_its_range_whole() -> None:
    halved = to_half(
        {"w": torch.tensor([1.0, -2.5]), "batches": torch.tensor(80_000.0), "none": torch.ones(0)}
    )
    assert {key: value.dtype for key, value in halved.items()} == {
        "w": torch.float16,
        "batches": torch.float32,
        "none": torch.float16,
    }
    assert float(halved["batches"]) == 80_000
