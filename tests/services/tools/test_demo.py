"""The demonstration: its commands are ones that a user could type, and it says which it ran."""

import contextlib
from pathlib import Path
from typing import Any

import pytest

from lungforge.ct.io.patient_table import scan_of
from lungforge.datasets import Dataset, Kind
from lungforge.datasets.slices import index_rows
from lungforge.errors import InputError
from lungforge.models.model_dataset import ModelDataset
from services.cli.commands import parse
from services.tools import demo

NAMES = ["sample", "show", "sample", "show", "phantom", "preprocess", "train", "evaluate"]


def _configs(out: str) -> list[Any]:
    return [parse(name, arguments) for name, arguments in demo.steps(out)]


def test_every_step_is_a_command_that_parses_and_reads_what_one_before_it_wrote() -> None:
    samples, sheet, edited, second_sheet, phantom, preprocess, train, evaluate = _configs("a folder/demo")
    assert [name for name, _ in demo.steps("-")] == NAMES
    assert (sheet.data, second_sheet.data) == (samples.out, edited.out)
    assert preprocess.source == phantom.out
    assert train.data == preprocess.out
    assert evaluate.synthetic == (samples.out,)
    assert samples.out == "a folder/demo/samples"


def test_the_report_compares_with_scans_of_no_map_and_no_training() -> None:
    samples, *_, evaluate = _configs("build/demo")
    assert samples.data == evaluate.real == "lungforge://maps-64"
    assert not set(samples.subsets) & set(evaluate.subsets)
    assert (samples.subsets, evaluate.subsets) == ((demo.SEEN_SUBSET,), (demo.UNSEEN_SUBSET,))


def test_the_shipped_model_has_not_seen_the_scans_that_the_report_compares_with() -> None:
    model = ModelDataset.open("lungforge://slices-64")
    maps = Dataset.open("lungforge://maps-64", Kind.SLICES)
    trained = {scan_of(uid) for uid in model.details.series_uids or ()}
    unseen = {scan_of(uid) for uid in index_rows(maps, [demo.UNSEEN_SUBSET]).series_uids}
    assert len(unseen) > 20
    assert not trained & unseen


@pytest.fixture
def executed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the commands that the demo runs, which do nothing here."""
    names: list[str] = []

    def execute(name: str, arguments: list[str]) -> Any:
        names.append(name)

    monkeypatch.setattr(demo, "execute", execute)
    monkeypatch.setattr(demo, "ray_session", lambda workers: contextlib.nullcontext())
    return names


def test_the_result_is_the_report_and_the_commands(tmp_path: Path, executed: list[str]) -> None:
    result = demo.run(demo.DemoConfig(out=str(tmp_path)))
    assert executed == NAMES
    assert result.report == str(tmp_path / "report" / "report.html")
    assert result.pictures == (str(tmp_path / "samples.png"), str(tmp_path / "edited.png"))
    assert [command.split()[:2] for command in result.commands] == [["lungforge", name] for name in executed]


def test_a_bucket_is_no_place_for_the_demo() -> None:
    with pytest.raises(InputError, match="needs a local folder"):
        demo.DemoConfig(out="s3://lab/demo")
