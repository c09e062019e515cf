"""Plans that no result could come of are refused by the small columns alone, before anything is computed."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from lungforge.datasets import Dataset, DatasetWriter, Kind, rows_from_table, table_from_rows
from lungforge.errors import InputError
from services.eval import job
from services.eval.config import EvalConfig
from services.eval.downstream.plan import check_plan
from tests.factories import nodule_at, slice_row


def _config(world: Path, **changes: Any) -> EvalConfig:
    plain: dict[str, Any] = {
        "real": str(world / "slices"),
        "synthetic": (str(world / "drawn"),),
        "out": str(world / "refused"),
        "downstream": "tiny",
        "train_subsets": (0, 1, 2),
        "subsets": (3,),
    }
    return EvalConfig(**(plain | changes))


def _check(config: EvalConfig, patch: int | None = None) -> None:
    check_plan(config, patch, Dataset.open(config.real), {"drawn": Dataset.open(config.synthetic[0])})


def test_a_sound_plan_passes(world) -> None:
    _check(_config(world))
    _check(_config(world, folds=9, ratios=(0.5, 1.0)))
    _check(_config(world, tasks=("localisation",)), patch=16)


@pytest.mark.parametrize(
    ("changes", "patch", "message"),
    [
        ({"subsets": (2, 3)}, None, "3 scans are in --train-subsets and in the test set, first scan-02"),
        ({"train_subsets": (7,)}, None, r"no rows of the subsets \[7\]"),
        ({"folds": 10}, None, "--folds is 10, and 9 scans of --train-subsets show a nodule; give at most 9"),
        (
            {"ratios": (0.5, 2.0)},
            None,
            r"drawn has 14 slices of the scans that each network trains on, and the ratio 2 to 14 real ones "
            r"asks for 28; generate more",
        ),
        ({"ratios": (2.0,), "folds": 3}, None, "drawn has 12 slices of the scans that a fold trains on"),
        (
            {},
            16,
            "classification is of crops of 32 px, and the patches have 16 px; give --tasks localisation",
        ),
        ({}, 32, "every slice of --train-subsets shows a nodule, and patches of 32 px have no room"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(world, changes, patch, message: str) -> None:
    with pytest.raises(InputError, match=message) as refusal:
        _check(_config(world, **changes), patch)
    assert "\n" not in str(refusal.value)


def _slices(uri: str, scans: int, with_nodule: int) -> Dataset:
    """Two slices of each scan, of subset 0 but for the last two; the first scans show a nodule."""
    rows = [
        slice_row(
            series_uid=f"scan-{number // 2}",
            slice_index=number % 2,
            subset=int(number // 2 >= scans - 2),
            nodules=[nodule_at(8.0, 8.0, 4.0)] * (number // 2 < with_nodule or number // 2 >= scans - 2),
        )
        for number in range(2 * scans)
    ]
    writer = DatasetWriter(uri=uri, kind=Kind.SLICES, config={})
    writer.commit([writer.write_part("all", table_from_rows(Kind.SLICES, rows))])
    return Dataset.open(uri, Kind.SLICES)


@pytest.mark.parametrize(
    ("with_nodule", "swapped", "message"),
    [
        (0, False, "shows no nodule in --train-subsets 0, so networks cannot learn from it"),
        (1, False, "1 scan of --train-subsets shows a nodule, and scans are held out of training"),
        (1, True, "1 scans of the test set show a nodule, and an interval needs at least 2"),
    ],
)
def test_too_few_nodules_are_refused(world, tmp_path, with_nodule, swapped, message: str) -> None:
    slices = _slices(str(tmp_path / "slices"), 6, with_nodule)
    train, test = ((1,), (0,)) if swapped else ((0,), (1,))
    config = _config(world, real=slices.uri, train_subsets=train, subsets=test, tasks=("localisation",))
    with pytest.raises(InputError, match=message):
        _check(config)


def test_localisation_needs_nodules_in_the_synthetic_slices(world, tmp_path: Path) -> None:
    drawn = Dataset.open(str(world / "drawn"))
    rows = [row | {"nodules": []} for part in drawn.parts for row in rows_from_table(drawn.read_part(part))]
    writer = DatasetWriter(str(tmp_path / "healthy"), Kind.SAMPLES, {}, 0)
    writer.commit([writer.write_part("all", table_from_rows(Kind.SAMPLES, rows, extra=True))])
    config = _config(world, synthetic=(writer.uri,))
    with pytest.raises(InputError, match="drawn shows no nodule, so a network cannot learn from it alone"):
        _check(config)
    _check(dataclasses.replace(config, tasks=("classification",)))


def test_the_job_refuses_before_it_starts_ray(world, monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: Any) -> None:
        raise AssertionError("Ray was started")

    monkeypatch.setattr(job, "ray_session", started)
    with pytest.raises(InputError, match="--folds is 10"):
        job.run(_config(world, folds=10))
