"""The plan: every image once, the same for the same arguments, and small."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungforge.config import identity
from lungforge.errors import InputError
from lungforge.models.base import SamplingOptions
from services.sample.config import SampleConfig
from services.sample.plan import make_plan


def _config(**changes: Any) -> SampleConfig:
    return dataclasses.replace(SampleConfig(model="model", data="slices", out="samples"), **changes)


class _Index(SimpleNamespace):
    @property
    def nodules(self) -> np.ndarray:
        """Every second slice shows one."""
        return np.arange(self.rows) % 2

    def __len__(self) -> int:
        return self.rows


def _images(plan) -> list[tuple[int, int]]:
    units = [plan.unit(number) for number in range(len(plan))]
    assert len({unit.name for unit in units}) == len(plan)
    return [pair for unit in units for pair in zip(unit.rows.tolist(), unit.replicates.tolist(), strict=True)]


@given(rows=st.integers(1, 40), per_map=st.integers(1, 7), part_images=st.integers(1, 50))
def test_every_replicate_of_every_map_is_planned_once(rows: int, per_map: int, part_images: int) -> None:
    plan = make_plan(_config(per_map=per_map, part_images=part_images), _Index(rows=rows))
    assert _images(plan) == [(row, replicate) for row in range(rows) for replicate in range(per_map)]
    assert plan.images == rows * per_map
    assert all(len(plan.unit(number).rows) == part_images for number in range(len(plan) - 1))


@given(rows=st.integers(1, 40), count=st.integers(1, 200), seed=st.integers(0, 5))
def test_a_count_is_spread_evenly(rows: int, count: int, seed: int) -> None:
    images = _images(make_plan(_config(count=count, seed=seed), _Index(rows=rows)))
    assert len(images) == len(set(images)) == count
    of_rows = np.bincount([row for row, _ in images], minlength=rows)
    assert of_rows.max() - of_rows.min() <= 1
    for row in range(rows):
        assert sorted(replicate for other, replicate in images if other == row) == list(range(of_rows[row]))


def test_a_few_of_many_maps_are_chosen_at_random() -> None:
    plans = [_images(make_plan(_config(count=10, seed=seed), _Index(rows=1000))) for seed in (0, 0, 1)]
    assert plans[0] == plans[1] != plans[2]
    assert max(row for row, _ in plans[0]) > 500


@given(rows=st.integers(2, 40), count=st.integers(1, 90))
def test_only_maps_that_an_edit_applies_to_are_planned(rows: int, count: int) -> None:
    healthy = make_plan(_config(edits=(("insert", 1.0),), count=count), _Index(rows=rows))
    assert all(row % 2 == 0 for row, _ in _images(healthy))
    assert len(_images(healthy)) == count
    ill = make_plan(_config(edits=(("move", 1.0), ("remove", 2.0)), per_map=3), _Index(rows=rows))
    assert _images(ill) == [(row, replicate) for row in range(1, rows, 2) for replicate in range(3)]
    assert ill.maps == rows // 2


def test_edits_that_apply_to_no_map_are_refused() -> None:
    with pytest.raises(InputError, match=r"--edits remove applies to none of the 1 slices; .*healthy-every"):
        make_plan(_config(edits=(("remove", 1.0),)), _Index(rows=1))


def test_a_unit_outside_the_plan_is_refused() -> None:
    plan = make_plan(_config(part_images=4), _Index(rows=6))
    assert plan.unit(1).name == "000001"
    for number in (-1, 2):
        with pytest.raises(IndexError):
            plan.unit(number)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"per_map": 0}, "--per-map is 0; give at least 1"),
        ({"count": 0}, "--count is 0"),
        ({"count": 5, "per_map": 2}, "--count 5 and --per-map 2 exclude each other"),
        ({"sampler": "euler"}, "--sampler is 'euler'; choose one of ancestral, ddim, dpmpp, heun"),
        ({"steps": 1001}, "--steps is 1001; give a number from 1 to 1000"),
        ({"guidance": float("nan")}, "--guidance is nan; give at least 0"),
        ({"gpus_per_worker": 1.5}, "--gpus-per-worker is 1.5; give a number from 0 to 1"),
        ({"seed": -1}, "--seed is -1"),
        ({"subsets": ()}, "--subsets is empty"),
        ({"edits": ()}, "--edits is empty"),
        ({"edits": (("grow", 1.0),)}, "--edits has 'grow'; choose among none, move, resize, insert, remove"),
        ({"edits": (("move", 1.0), ("move", 2.0))}, "--edits has move twice"),
        ({"edits": (("move", 0.0),)}, "--edits gives move the weight 0.0"),
        ({"inpaint": True}, "--inpaint with the edit none would pass real slices off as synthetic"),
        (
            {"inpaint": True, "edits": (("move", 1.0),), "sampler": "dpmpp"},
            "--inpaint needs --sampler ancestral, not dpmpp",
        ),
        (
            {"inpaint": True, "edits": (("move", 1.0),), "hu_gate": True},
            "--hu-gate with --inpaint would judge the real pixels",
        ),
    ],
)
def test_a_wrong_value_is_named_with_its_remedy(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        _config(**values)
    assert message in str(error.value)


def test_where_and_how_fast_do_not_decide_the_images() -> None:
    elsewhere = _config(out="x", workers=9, batch=3, cpus_per_worker=2, gpus_per_worker=0.5)
    assert identity(elsewhere) == identity(_config())
    assert identity(_config(guidance=2.0)) != identity(_config())


def test_without_the_gate_the_work_is_what_it_was_before_there_was_one() -> None:
    assert "hu_gate" not in identity(_config())
    assert identity(_config(hu_gate=True)) == identity(_config()) | {"hu_gate": True}


def test_how_to_sample_is_handed_to_the_library_as_it_is() -> None:
    config = _config(sampler="dpmpp", steps=20, guidance=2.0)
    assert config.sampling == SamplingOptions(sampler="dpmpp", steps=20, guidance=2.0)
