"""The demonstration: its commands are ones that a user could type, and it says which it ran."""

import contextlib
from pathlib import Path
from typing import Any

import pytest

from lungforge.errors import InputError
from services.cli.commands import parse
from services.tools import demo


def test_every_step_is_a_command_that_parses() -> None:
    configs = {name: parse(name, arguments) for name, arguments in demo.steps("build/demo")}
    assert list(configs) == ["phantom", "preprocess", "train", "sample", "evaluate"]
    # Each step reads what the step before it wrote.
    assert configs["preprocess"].source == configs["phantom"].out
    assert (
        configs["train"].data
        == configs["sample"].data
        == configs["evaluate"].real
        == configs["preprocess"].out
    )
    assert configs["sample"].model == configs["train"].out
    assert configs["evaluate"].synthetic == (configs["sample"].out,)


def test_no_subset_is_both_trained_on_and_tested_on() -> None:
    configs = {name: parse(name, arguments) for name, arguments in demo.steps("build/demo")}
    assert configs["train"].subsets == configs["sample"].subsets
    assert not set(configs["train"].subsets) & set(configs["evaluate"].subsets)
    assert set(configs["train"].subsets) | set(configs["evaluate"].subsets) == set(range(10))


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
    assert executed == ["phantom", "preprocess", "train", "sample", "evaluate"]
    assert result.report == str(tmp_path / "report" / "report.html")
    assert [command.split()[:2] for command in result.commands] == [["lungforge", name] for name in executed]


def test_a_bucket_is_no_place_for_the_demo() -> None:
    with pytest.raises(InputError, match="needs a local folder"):
        demo.DemoConfig(out="s3://lab/demo")
