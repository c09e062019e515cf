"""What ``lungforge export`` can be asked for, and what it refuses."""

from typing import Any

import pytest

from lungforge.errors import InputError
from services.cli.commands import parse
from services.export.config import ExportConfig


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("format", "tiff", "--format is 'tiff'; choose one of png, coco, metaimage, imagefolder"),
        ("window", (400, -1000), "--window is 400 -1000; give two HU, the lower first, such as -1000 400"),
        ("window", (-40000, 0), "--window is -40000 0; give a number from -32768 to 32767"),
        ("window", (100, 100), "--window is 100 100; give two HU, the lower first, such as -1000 400"),
        ("crop", 4, "--crop is 4; give a number from 8 to 1024"),
        ("data", "", "--data is empty; give at least one value"),
        ("out", "", "--out is empty; give at least one value"),
    ],
)
def test_a_wrong_value_is_one_line_with_the_allowed_values(field: str, value: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        ExportConfig(**({"data": "a", "out": "b"} | {field: value}))
    assert str(error.value) == message


def test_a_window_below_zero_is_not_taken_for_options() -> None:
    config = parse("export", ["--data", "a", "--out", "b", "--window", "-1350", "-150", "--crop", "48"])
    assert config == ExportConfig(data="a", out="b", window=(-1350, -150), crop=48)
