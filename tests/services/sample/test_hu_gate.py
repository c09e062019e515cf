"""Images that leave the range of Hounsfield units are sampled again, and what that came to is stored."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from lungforge.config import digest
from lungforge.datasets import Dataset, rows_from_table
from lungforge.errors import AccessError, InputError
from lungforge.metrics.hu_gate import GateCounts, HuRanges
from lungforge.models.base import Identity
from lungforge.models.model_dataset import ModelDataset
from services.sample.hu_gate import gate_of
from services.sample.plan import make_plan
from services.sample.worker import SamplingRun, UnitSampler

#: The fixtures of that name.
MakeRun = Callable[..., SamplingRun]
Sample = Callable[[SamplingRun], list[dict[str, Any]]]

pytestmark = pytest.mark.usefixtures("one_thread")

#: HU of each class as the fake sampler makes it once it is right, and a range around that.
HU = np.array([-1000, 20, -850, -840, -990, 10], np.int16)
RANGE = HuRanges(tuple((float(value) - 5, float(value) + 5) for value in HU))
NOTHING = HuRanges(((5000.0, 5000.0),) * 6)


class _OffAtFirst:
    """Samples every class at its HU, but 100 HU too bright before a try that depends on the replicate."""

    sampler, steps, guidance = "fake", 1, 1.0

    def __init__(self) -> None:
        self.batches: list[list[Identity]] = []

    def sample(
        self,
        labels: NDArray[np.uint8],
        identities: Sequence[Identity],
        places: NDArray[np.float32] | None = None,
    ) -> NDArray[np.int16]:
        self.batches.append(list(identities))
        images = []
        for label, identity in zip(labels, identities, strict=True):
            replicate, retry = identity[3], (*identity, 0)[5]
            images.append(HU[label] + np.int16(100 * (retry < replicate)))
        return np.stack(images)


def _fake(run: SamplingRun) -> tuple[UnitSampler, _OffAtFirst]:
    units, fake = UnitSampler(run, torch.device("cpu")), _OffAtFirst()
    units._sampler = fake
    return units, fake


def _rows(run: SamplingRun, part: Any) -> list[dict[str, Any]]:
    run.writer.commit([part])
    return rows_from_table(Dataset.open(run.writer.uri).read_part(part))


def _gated(run: SamplingRun, ranges: HuRanges) -> SamplingRun:
    return dataclasses.replace(run, gate=ranges)


def test_images_are_sampled_again_until_they_are_inside_or_tries_run_out(
    make_run: MakeRun, model: str, slices: str, tmp_path: Path
) -> None:
    run = make_run(model, slices, tmp_path, subsets=(0,), per_map=6, part_images=30, batch=4)
    run = _gated(run, RANGE)
    units, fake = _fake(run)
    unit = make_plan(run.config, run.index).unit(0)
    part = units.sample(unit)
    # Of each of the five maps six replicates, and replicate r is right from try r: 5 + 4 + 3 + 2 + 1 images
    # of a map still wait after the first, the second, ... try, but for the last, which is out of tries.
    tries = [30, 25, 20, 15, 10]
    assert [len(batch) for batch in fake.batches] == [
        size for count in tries for size in [4] * (count // 4) + [count % 4] * (count % 4 > 0)
    ]
    rows = _rows(run, part)
    assert [row["replicate"] for row in rows] == [0, 1, 2, 3, 4, 5] * 5, "the order is that of the plan"
    assert [row["hu_retries"] for row in rows] == [0, 1, 2, 3, 4, 4] * 5
    assert [row["hu_outside"] for row in rows] == [False, False, False, False, False, True] * 5
    for row in rows:
        assert np.array_equal(row["image"], HU[row["label"]] + 100 * row["hu_outside"])
        identity = {
            "seed": 0,
            "source_series_uid": row["source_series_uid"],
            "source_slice_index": row["source_slice_index"],
            "replicate": row["replicate"],
            "edit": "none",
        }
        retry = {"hu_retries": row["hu_retries"]} if row["hu_retries"] else {}
        assert row["sample_id"] == digest(identity | retry)[:20]
    assert units.gate_counts(unit) == GateCounts(resampled=25, retries=5 * (1 + 2 + 3 + 4 + 4), outside=5)


def test_counts_come_from_what_is_stored(make_run: MakeRun, model: str, slices: str, tmp_path: Path) -> None:
    run = _gated(make_run(model, slices, tmp_path, subsets=(0,), per_map=6, part_images=30), RANGE)
    unit = make_plan(run.config, run.index).unit(0)
    part = _fake(run)[0].sample(unit)
    units, fake = _fake(run)  # another process, after a kill
    assert units.sample(unit) == part
    assert fake.batches == []
    assert units.gate_counts(unit) == GateCounts(25, 70, 5)
    (tmp_path / part.path).unlink()
    with pytest.raises(AccessError, match="part 000000 is gone or altered by now; run the job again"):
        units.gate_counts(unit)


def test_tries_do_not_depend_on_the_batch(make_run: MakeRun, model: str, slices: str, tmp_path: Path) -> None:
    parts = set()
    for batch in (1, 3, 64):
        run = make_run(model, slices, tmp_path / str(batch), per_map=3, part_images=36, batch=batch)
        run = _gated(run, RANGE)
        parts.add(_fake(run)[0].sample(make_plan(run.config, run.index).unit(0)))
    assert len(parts) == 1, "every byte is the same"


def test_a_gate_that_lets_everything_pass_changes_no_image(
    make_run: MakeRun, sample: Sample, model: str, mixed_slices: str, tmp_path: Path
) -> None:
    changes = {"per_map": 2, "edits": (("none", 1.0), ("move", 1.0), ("insert", 1.0))}
    plain = sample(make_run(model, mixed_slices, tmp_path / "plain", **changes))
    for name, limits in (("wide", (-5000.0, 5000.0)), ("none", None)):
        run = _gated(make_run(model, mixed_slices, tmp_path / name, **changes), HuRanges((limits,) * 6))
        rows = sample(run)
        assert len(rows) == len(plain) > 20
        for row, other in zip(rows, plain, strict=True):
            assert (row.pop("hu_retries"), row.pop("hu_outside")) == (0, False)
            assert row.keys() == other.keys()
            assert all(np.array_equal(row[column], other[column]) for column in row)


def test_only_the_noise_of_a_retry_is_new(
    make_run: MakeRun, sample: Sample, patch_model: str, other_slices: str, tmp_path: Path
) -> None:
    changes = {"edits": (("none", 1.0), ("move", 1.0)), "per_map": 4}
    plain = sample(make_run(patch_model, other_slices, tmp_path / "plain", **changes))
    run = _gated(make_run(patch_model, other_slices, tmp_path / "gated", **changes), NOTHING)
    rows = sample(run)
    assert {row["edit"] for row in rows} == {"none", "move"}
    same = ("edit", "source_top", "source_left", "replicate", "nodules", "spacing_mm", "seed")
    sampler = ModelDataset.open(patch_model).sampler(run.config.sampling, torch.device("cpu"), classes=6)
    for row, other in zip(rows, plain, strict=True):
        assert (row["hu_retries"], row["hu_outside"]) == (4, True)
        assert [row[name] for name in same] == [other[name] for name in same]
        assert np.array_equal(row["label"], other["label"])
        assert row["sample_id"] != other["sample_id"]
        identity = (0, row["source_series_uid"], row["source_slice_index"], row["replicate"], row["edit"], 4)
        expected = sampler.sample(row["label"][None].copy(), [identity])[0]
        assert np.abs(row["image"].astype(int) - expected).max() <= 1  # of another batch
        assert np.abs(row["image"].astype(int) - other["image"]).mean() > 20


def test_a_part_without_images_has_no_counts(
    make_run: MakeRun, gaugan: str, cramped_slices: str, tmp_path: Path
) -> None:
    run = _gated(make_run(gaugan, cramped_slices, tmp_path, edits=(("insert", 1.0),)), RANGE)
    units, unit = UnitSampler(run, torch.device("cpu")), make_plan(run.config, run.index).unit(0)
    assert units.sample(unit).rows == 0
    assert units.gate_counts(unit) == GateCounts()


def test_a_model_without_a_range_is_refused(
    make_run: MakeRun, make_gated_model: Callable[[HuRanges], str], model: str, slices: str, tmp_path: Path
) -> None:
    config = make_run(model, slices, tmp_path).config
    gated = dataclasses.replace(config, hu_gate=True)
    assert gate_of(config, ModelDataset.open(model)) is None
    with pytest.raises(InputError, match=r"has no range of Hounsfield units: .* leave --hu-gate out"):
        gate_of(gated, ModelDataset.open(model))
    assert gate_of(gated, ModelDataset.open(make_gated_model(RANGE))) == RANGE
