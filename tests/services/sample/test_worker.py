"""What a worker samples, without Ray: rows by identity, and models that do not fit."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from lungforge.datasets import Dataset, DatasetWriter, Part
from lungforge.datasets.slices import index_rows
from lungforge.errors import ContentError, InputError
from lungforge.models.place import place_of
from services.sample.plan import make_plan
from services.sample.worker import SamplingRun, UnitSampler, sample_id

#: The fixtures of that name.
MakeRun = Callable[..., SamplingRun]
Sample = Callable[[SamplingRun], list[dict[str, Any]]]

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_row_says_all_about_its_image(
    make_run: MakeRun, sample: Sample, model: str, slices: str, tmp_path: Path
) -> None:
    rows = sample(make_run(model, slices, tmp_path, seed=7))
    assert len(rows) == 12
    source = index_rows(Dataset.open(slices)).read([6])[0]
    row = rows[6]
    image, label = row.pop("image"), row.pop("label")
    assert row == {
        "sample_id": sample_id((7, "scan-1", 11, 0, "none")),
        "source_series_uid": "scan-1",
        "source_slice_index": 11,
        "source_top": 0,
        "source_left": 0,
        "subset": 1,
        "replicate": 0,
        "seed": 7,
        "edit": "none",
        "inpainted": False,
        "sampler": "ancestral",
        "steps": 3,
        "guidance": 1.5,
        "model_sha256": Dataset.open(model).manifest_sha256,
        "spacing_mm": [0.8, 0.7],
        "nodules": list(source.nodules),
    }
    assert np.array_equal(label, source.label)
    assert image.dtype == np.int16
    assert -1000 <= image.min() < image.max() <= 400
    assert len({row["sample_id"] for row in rows}) == 12


def test_the_sampler_is_given_the_places_of_the_patches(
    make_run: MakeRun, patch_model: str, other_slices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(patch_model, other_slices, tmp_path / "samples")
    units, given = UnitSampler(run, torch.device("cpu")), []
    sample = units._sampler.sample

    def noting(labels: Any, identities: Any, places: Any) -> Any:
        given.extend(places)
        return sample(labels, identities, places)

    monkeypatch.setattr(units._sampler, "sample", noting)
    rows = units._sample_all(units._requests(make_plan(run.config, run.index).unit(0)))
    assert len(given) == len(rows)
    for row, place in zip(rows, given, strict=True):
        corner = (row["source_top"], row["source_left"])
        assert np.array_equal(place, place_of(row["spacing_mm"], run.index.size, row["label"].shape, corner))


def test_sample_ids_stay_what_they_are() -> None:
    assert sample_id((7, "scan-1", 11, 0, "none")) == "2f8878fb5a48fdf05386"


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpmpp"])
def test_the_batch_changes_rounding_at_most(
    make_run: MakeRun, sample: Sample, model: str, slices: str, tmp_path: Path, sampler: str
) -> None:
    batches = [
        sample(
            make_run(
                model, slices, tmp_path / str(batch), batch=batch, per_map=2, subsets=(2,), sampler=sampler
            )
        )
        for batch in (1, 3, 8)
    ]
    for rows in batches[1:]:
        assert [row["sample_id"] for row in rows] == [row["sample_id"] for row in batches[0]]
        for row, other in zip(rows, batches[0], strict=True):
            assert np.abs(row["image"].astype(int) - other["image"]).max() <= 1


def test_identity_and_map_decide_the_image(
    make_run: MakeRun, sample: Sample, model: str, slices: str, tmp_path: Path
) -> None:
    rows = sample(make_run(model, slices, tmp_path / "a", per_map=2))
    assert not np.array_equal(rows[0]["image"], rows[1]["image"])  # replicates
    other_seed = sample(make_run(model, slices, tmp_path / "b", per_map=2, seed=1))
    assert not np.array_equal(rows[0]["image"], other_seed[0]["image"])
    # One subset alone gives what it gives among the others.
    alone = sample(make_run(model, slices, tmp_path / "c", per_map=2, subsets=(2,)))
    whole = {row["sample_id"]: row["image"] for row in rows}
    assert len(alone) == 8
    for row in alone:
        assert np.abs(row["image"].astype(int) - whole[row["sample_id"]]).max() <= 1


def test_a_part_that_is_there_is_not_sampled_again(
    make_run: MakeRun, model: str, slices: str, tmp_path: Path
) -> None:
    run = make_run(model, slices, tmp_path)
    plan = make_plan(run.config, run.index)
    part = UnitSampler(run, torch.device("cpu")).sample(plan.unit(0))
    path = tmp_path / part.path
    written = path.stat().st_mtime_ns
    assert UnitSampler(run, torch.device("cpu")).sample(plan.unit(0)) == part
    assert path.stat().st_mtime_ns == written


def test_the_next_unit_is_computed_while_the_last_is_being_written(
    make_run: MakeRun, model: str, slices: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serial = make_run(model, slices, tmp_path / "serial", part_images=4)
    plan = make_plan(serial.config, serial.index)
    sampler = UnitSampler(serial, torch.device("cpu"))
    expected = [sampler.sample(plan.unit(number)) for number in range(3)]

    run = make_run(model, slices, tmp_path / "overlapping", part_images=4)
    sampler, computing = UnitSampler(run, torch.device("cpu")), list[int]()
    computed = [threading.Event() for _ in range(3)]
    write, sample = DatasetWriter.write_part, sampler._sampler.sample

    def slow(writer: DatasetWriter, name: str, table: pa.Table) -> Part:
        # The last one has none to wait for.
        if int(name) < 2:
            assert computed[int(name) + 1].wait(60), "the next unit waited for this one to be written"
        return write(writer, name, table)

    def noting(*given: Any) -> Any:
        computing.append(1)
        assert len(computing) == 1, "two units computed at a time"
        images = sample(*given)
        computing.clear()
        next(event for event in computed if not event.is_set()).set()
        return images

    monkeypatch.setattr(DatasetWriter, "write_part", slow)
    monkeypatch.setattr(sampler._sampler, "sample", noting)
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(sampler.sample, map(plan.unit, range(3))))
    # The same names, sizes and checksums.
    assert [part.name for part in parts] == [f"part-00000{number}.parquet" for number in range(3)]
    assert [(part.bytes, part.sha256) for part in parts] == [(part.bytes, part.sha256) for part in expected]


def test_a_model_of_patches_samples_patches_around_nodules(
    make_run: MakeRun, sample: Sample, patch_model: str, other_slices: str, tmp_path: Path
) -> None:
    rows = sample(make_run(patch_model, other_slices, tmp_path / "samples"))
    assert [row["image"].shape for row in rows] == [(16, 16)] * 3
    assert all((row["label"] == 5).any() and row["nodules"] for row in rows)
    # The row of a patch has the place of the cut in the real slice.
    sources = {row.slice_index: row for row in index_rows(Dataset.open(other_slices)).read(range(3))}
    for row in rows:
        top, left = row["source_top"], row["source_left"]
        there = sources[row["source_slice_index"]].label[top : top + 16, left : left + 16]
        assert (there == row["label"]).all()
    assert any(row["source_top"] or row["source_left"] for row in rows)


def test_a_model_of_another_size_or_of_other_classes_is_refused(
    make_run: MakeRun, model: str, other_model: str, slices: str, other_slices: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"of 16 x 16 px and .* holds 24 x 24; .*preprocess --size 16"):
        make_run(model, other_slices, tmp_path)
    with pytest.raises(InputError, match="has 5 classes and the maps have 6"):
        make_run(other_model, slices, tmp_path)


def test_altered_weights_are_refused(
    make_run: MakeRun, patch_model: str, other_slices: str, tmp_path: Path
) -> None:
    run = make_run(patch_model, other_slices, tmp_path / "samples")
    path = next(Path(patch_model).glob("*/model.safetensors"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ContentError, match=r"model.safetensors: altered since it was written"):
        UnitSampler(run, torch.device("cpu"))


def test_a_model_that_was_replaced_is_refused(
    make_run: MakeRun, patch_model: str, other_slices: str, tmp_path: Path
) -> None:
    run = make_run(patch_model, other_slices, tmp_path / "samples")
    manifest = Path(patch_model) / "manifest.json"
    document = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps({**document, "seed": 9}), encoding="utf-8")
    with pytest.raises(InputError, match="was replaced while it was in use"):
        UnitSampler(run, torch.device("cpu"))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpmpp"])
def test_an_image_that_is_no_number_stops_sampling_with_its_name(
    make_run: MakeRun, model: str, slices: str, tmp_path: Path, sampler: str, value: float
) -> None:
    """Also where the network overflows at the last step only: clipped, infinity would pass for white."""
    run = make_run(model, slices, tmp_path / "samples", sampler=sampler, guidance=1.0, seed=7)
    units = UnitSampler(run, torch.device("cpu"))
    calls = 0

    def overflow(network: Any, inputs: Any, output: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:  # of as many steps
            output[1, 0, 2, 3] = value
        return output

    units._sampler.network.out.register_forward_hook(overflow)  # type: ignore[attr-defined]
    named = sample_id((7, "scan-0", 11, 0, "none"))
    with pytest.raises(ContentError, match=f"sample {named}: the image is not finite"):
        units.sample(make_plan(run.config, run.index).unit(0))
    assert not list((tmp_path / "samples").rglob("*.parquet"))
