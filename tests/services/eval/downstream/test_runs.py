"""A network of the downstream tasks: the same whenever it is trained, and kept so that damage shows."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from lungforge.datasets import Dataset, DatasetWriter, Kind
from services.eval.downstream.arms import Arm, all_arms, compose
from services.eval.downstream.examples import Examples, examples_of, read_rows
from services.eval.downstream.results import Task
from services.eval.downstream.runs import (
    DownstreamRun,
    RunResult,
    read_result,
    train_and_test,
    write_result,
)

ARMS = {arm.key: arm for arm in all_arms(["sdm"], [1])}


def _run(task: Task, arm: Arm, **changes: int) -> DownstreamRun:
    return dataclasses.replace(DownstreamRun(task, "tiny", arm, 1, 0, 0, 5), **changes)


@pytest.fixture(scope="module")
def examples(world) -> tuple[Examples, Examples, Examples]:
    """Real slices to train on, synthetic ones, and real ones to test on."""
    slices = Dataset.open(str(world / "slices"))
    return (
        examples_of(read_rows(slices, [0, 1, 2])),
        examples_of(read_rows(Dataset.open(str(world / "drawn")), None)),
        examples_of(read_rows(slices, [3])),
    )


def _same(one: RunResult, other: RunResult) -> bool:
    boxes = zip(one.detections, other.detections, strict=True)
    return (
        (one.pictures, one.losses, one.validation, one.step)
        == (other.pictures, other.losses, other.validation, other.step)
        and np.array_equal(one.scores, other.scores)
        and all(np.array_equal(a, b) and np.array_equal(c, d) for (a, c), (b, d) in boxes)
    )


@pytest.mark.parametrize("task", ["classification", "localisation"])
def test_a_network_is_a_function_of_its_names(task: Task, examples) -> None:
    real, synthetic, test = examples
    device = torch.device("cpu")
    torch.set_num_threads(1)
    scans = frozenset(real.scans)
    learns, validates = scans - {"scan-00", "scan-01"}, real.of_scans(frozenset({"scan-00", "scan-01"}))

    def result(arm: str, **changes: int) -> RunResult:
        run = _run(task, ARMS[arm], **changes)
        training = compose(run.arm, real, synthetic if run.arm.ratio else None, learns, 0)
        return train_and_test(run, training, validates, test, device)

    first = result("real")
    torch.manual_seed(99)  # random values used before in this process must not matter
    torch.rand(3)
    assert _same(first, result("real"))
    assert not _same(first, result("real", seed=1))
    assert first.pictures == {"classification": 28, "localisation": 14}[task]
    # The best of the checkpoints on the validation scans.
    assert [step for step, _ in first.validation] == [1, 2, 3, 4]
    scores = [score for _, score in first.validation]
    assert first.step == 4 - scores[::-1].index(max(scores))
    assert result("set0-1x").pictures == 2 * first.pictures
    assert len(first.scores) == (len(test.crops) if task == "classification" else 0)
    assert len(first.detections) == (len(test.pictures) if task == "localisation" else 0)
    assert all((scores[:-1] >= scores[1:]).all() for _, scores in first.detections)


def _writer(folder: Path) -> DatasetWriter:
    return DatasetWriter(uri=str(folder / "report"), kind=Kind.REPORT, config={}, seed=0)


def _result() -> RunResult:
    boxes = np.array([[1.25, 2.0, 3.5, 4.0], [0.0, 0.125, 9.0, 9.0]])
    return RunResult(
        12,
        (0.75, 0.5),
        ((2, 0.5), (4, 0.25)),
        2,
        np.array([0.25, 1.0]),
        ((boxes, np.array([0.5, 0.25])), (np.zeros((0, 4)), np.zeros(0))),
    )


def test_a_result_that_is_kept_is_read_back(tmp_path: Path) -> None:
    writer, run = _writer(tmp_path), _run("localisation", ARMS["real"])
    assert read_result(writer, run) is None
    part = write_result(writer, run, _result())
    kept = read_result(writer, run)
    assert kept is not None
    assert _same(kept[0], _result())
    assert kept[1] == part
    assert part.path.endswith("/localisation-real-fold0-seed0.json")
    writer.commit([part])
    Dataset.open(writer.uri).verify()


@pytest.mark.parametrize("damage", ["cut", "changed", "another", "no JSON"])
def test_what_is_damaged_counts_as_missing(tmp_path: Path, damage: str) -> None:
    writer, run = _writer(tmp_path), _run("localisation", ARMS["real"])
    path = Path(writer.uri) / write_result(writer, run, _result()).path
    text = path.read_text(encoding="utf-8")
    if damage == "cut":
        path.write_text(text[:-10], encoding="utf-8")
    elif damage == "changed":
        path.write_text(text.replace("0.25", "0.35", 1), encoding="utf-8")
    elif damage == "another":
        other = (
            Path(writer.uri)
            / write_result(writer, _run("localisation", ARMS["real"], seed=1), _result()).path
        )
        path.write_bytes(other.read_bytes())
    else:
        path.write_text(json.dumps(["nothing"]), encoding="utf-8")
    assert read_result(writer, run) is None
