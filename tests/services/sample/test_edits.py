"""What an image is made from: the edit of its map, chosen by its identity, and the real pixels it keeps."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lungforge.ct.classes import NODULE
from lungforge.ct.edits import surroundings
from lungforge.datasets.slices import SliceRow
from lungforge.errors import InputError
from services.sample.plan import make_plan
from services.sample.worker import SamplingRun, UnitSampler, choose_edit, request_image

#: The fixtures of that name.
MakeRun = Callable[..., SamplingRun]
Sample = Callable[[SamplingRun], list[dict[str, Any]]]

pytestmark = pytest.mark.usefixtures("one_thread")

ALL = (("none", 1.0), ("move", 1.0), ("resize", 1.0), ("insert", 2.0), ("remove", 1.0))


def _sources(run: SamplingRun) -> dict[tuple[str, int], SliceRow]:
    rows = run.index.read(range(len(run.index)))
    return {(row.series_uid, row.slice_index): row for row in rows}


def test_every_row_says_what_was_done_to_its_map(
    make_run: MakeRun, sample: Sample, gaugan: str, mixed_slices: str, tmp_path: Path
) -> None:
    run = make_run(gaugan, mixed_slices, tmp_path, per_map=12, edits=ALL)
    rows, sources = sample(run), _sources(run)
    distances: list[float] = []
    for row in rows:
        source = sources[row["source_series_uid"], row["source_slice_index"]]
        changed = row["label"] != source.label
        assert changed.any() == (row["edit"] != "none"), row["edit"]
        assert bool(source.nodules) == (row["edit"] in ("move", "resize", "remove")) or row["edit"] == "none"
        assert bool(row["nodules"]) == (row["label"] == NODULE).any()
        # Nothing but nodules and the lung around them has changed.
        assert np.isin(source.label[changed], (2, 3, NODULE)).all()
        for nodule in row["nodules"]:
            rows_of_nodules, columns = np.nonzero(row["label"] == NODULE)
            distances.append(np.hypot(rows_of_nodules - nodule["y"], columns - nodule["x"]).min())
    assert max(distances) < 1, "each nodule of the list is in the map"
    assert set(Counter(row["edit"] for row in rows)) == {name for name, _ in ALL}
    assert not any(row["inpainted"] for row in rows)
    assert len({row["sample_id"] for row in rows}) == len(rows)


def test_edits_follow_their_weights(
    make_run: MakeRun, gaugan: str, mixed_slices: str, tmp_path: Path
) -> None:
    run = make_run(gaugan, mixed_slices, tmp_path, edits=(("none", 1.0), ("insert", 3.0), ("remove", 1.0)))
    healthy, ill = run.index.read([0, 1])
    chosen = Counter(choose_edit(run.config, healthy, replicate) for replicate in range(2000))
    assert chosen["insert"] / 2000 == pytest.approx(3 / 4, abs=0.04)
    assert set(chosen) == {"none", "insert"}
    chosen = Counter(choose_edit(run.config, ill, replicate) for replicate in range(2000))
    assert chosen["remove"] / 2000 == pytest.approx(1 / 2, abs=0.045)


def test_an_edit_depends_on_the_identity_alone(
    make_run: MakeRun, gaugan: str, mixed_slices: str, tmp_path: Path
) -> None:
    run = make_run(gaugan, mixed_slices, tmp_path, edits=ALL)
    # Diameters to insert come from the nodules of the run's subsets, here of the same size in each.
    alone = make_run(gaugan, mixed_slices, tmp_path, edits=ALL, subsets=(2,), per_map=9, batch=1, workers=3)
    row = run.index.read([8])[0]
    for replicate in range(20):
        one, other = request_image(run, row, replicate), request_image(alone, row, replicate)
        assert one is not None
        assert other is not None
        assert one.identity == other.identity
        assert np.array_equal(one.edited.label, other.edited.label)
    labels = [request_image(run, row, replicate).edited.label.tobytes() for replicate in range(20)]  # type: ignore[union-attr]
    assert len(set(labels)) > 10


def test_images_whose_edit_has_no_room_are_left_out(
    make_run: MakeRun, sample: Sample, gaugan: str, cramped_slices: str, tmp_path: Path
) -> None:
    run = make_run(gaugan, cramped_slices, tmp_path, edits=(("none", 1.0), ("insert", 1.0)), per_map=6)
    rows = sample(run)
    assert {row["edit"] for row in rows} == {"none"}
    assert 36 < len(rows) < 72, "those that were to be inserted into healthy slices are missing"


def test_a_part_may_be_empty(
    make_run: MakeRun, sample: Sample, gaugan: str, cramped_slices: str, tmp_path: Path
) -> None:
    run = make_run(gaugan, cramped_slices, tmp_path, edits=(("insert", 1.0),))
    assert sample(run) == []
    with pytest.raises(InputError, match="have no room"):
        UnitSampler(run, torch.device("cpu")).time_batch(make_plan(run.config, run.index).unit(0))


def test_inpainted_images_are_real_outside_the_mask(
    make_run: MakeRun, sample: Sample, model: str, mixed_slices: str, tmp_path: Path
) -> None:
    edits = tuple(item for item in ALL if item[0] != "none")
    run = make_run(model, mixed_slices, tmp_path, edits=edits, inpaint=True, per_map=2, steps=4)
    rows, sources = sample(run), _sources(run)
    assert {row["edit"] for row in rows} == {name for name, _ in edits}
    for row in rows:
        source = sources[row["source_series_uid"], row["source_slice_index"]]
        generated = surroundings(row["label"] != source.label, (0.8, 0.7))
        assert row["inpainted"]
        # To the last bit, also where the slice is brighter or darker than the window of the model.
        assert np.array_equal(row["image"][~generated], source.image[~generated])
        assert (source.image[~generated] > 400).any()
        assert np.abs(row["image"][generated].astype(int) - source.image[generated]).mean() > 20
    plain = make_run(model, mixed_slices, tmp_path / "plain", edits=edits, per_map=2, steps=4)
    assert {row["sample_id"] for row in rows}.isdisjoint(row["sample_id"] for row in sample(plain))


def test_inpainted_images_do_not_depend_on_the_batch(
    make_run: MakeRun, sample: Sample, model: str, mixed_slices: str, tmp_path: Path
) -> None:
    changes = {"edits": (("insert", 1.0), ("remove", 1.0)), "inpaint": True, "steps": 4}
    one = sample(make_run(model, mixed_slices, tmp_path / "1", batch=1, **changes))
    five = sample(make_run(model, mixed_slices, tmp_path / "5", batch=5, **changes))
    for row, other in zip(one, five, strict=True):
        assert row["sample_id"] == other["sample_id"]
        # The walk magnifies rounding: by 157 at its noisiest step, and where a random network is steep. A few
        # pixels in a thousand change by an HU or two; noise of another batch would change all, by hundreds.
        difference = np.abs(row["image"].astype(int) - other["image"])
        assert (difference > 0).mean() < 0.1
        assert difference.max() <= 20


def test_a_gaugan_samples_in_one_pass(
    make_run: MakeRun, sample: Sample, gaugan: str, mixed_slices: str, tmp_path: Path
) -> None:
    rows = sample(make_run(gaugan, mixed_slices, tmp_path, per_map=2))
    assert {(row["sampler"], row["steps"], row["guidance"]) for row in rows} == {("gaugan", 1, 1.0)}
    assert not np.array_equal(rows[0]["image"], rows[1]["image"])


def test_a_gaugan_cannot_inpaint(make_run: MakeRun, gaugan: str, mixed_slices: str, tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match=r"of the GauGAN baseline .*, which cannot inpaint; leave --inpaint",
    ):
        make_run(gaugan, mixed_slices, tmp_path, inpaint=True, edits=(("insert", 1.0),))
