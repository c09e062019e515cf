"""What ``lungforge export`` can be asked for, and what it refuses."""

from typing import Any

import pytest

from lungforge.errors import InputError
from services.cli.commands import parse
from services.export.config import ExportConfig


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (
            "format",
            "tiff",
            "--format is 'tiff'; choose one of png, coco, yolo, nnunet, nifti, dicom, metaimage, imagefolder",
        ),
        ("window", (400, -1000), "--window is 400 -1000; give two HU, the lower first, such as -1000 400"),
        ("window", (-40000, 0), "--window is -40000 0; give a number from -32768 to 32767"),
        ("window", (100, 100), "--window is 100 100; give two HU, the lower first, such as -1000 400"),
        ("crop", 4, "--crop is 4; give a number from 8 to 1024"),
        ("data", (), "--data is empty; give at least one value"),
        ("data", ("a", "b", "a"), "--data names a twice; give each dataset once"),
        ("min_box_px", 0, "--min-box-px is 0; give at least 1"),
        ("validation_share", 1.0, "--validation-share is 1; give a number from 0 to 0.9"),
        ("validation_subsets", (10,), "--validation-subsets is 10; give a number from 0 to 9"),
        ("out", "", "--out is empty; give at least one value"),
    ],
)
def test_a_wrong_value_is_one_line_with_the_allowed_values(field: str, value: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        ExportConfig(**({"data": ("a",), "out": "b"} | {field: value}))
    assert str(error.value) == message


def test_there_is_one_way_to_split() -> None:
    with pytest.raises(InputError, match="--validation-share and --validation-subsets are two ways to split"):
        ExportConfig(data=("a",), out="b", validation_share=0.2, validation_subsets=(9,))


def test_several_datasets_are_one_option() -> None:
    config = parse("export", ["--data", "a", "b", "--out", "c", "--validation-subsets", "8", "9"])
    assert config == ExportConfig(data=("a", "b"), out="c", validation_subsets=(8, 9))


def test_a_window_below_zero_is_not_taken_for_options() -> None:
    config = parse("export", ["--data", "a", "--out", "b", "--window", "-1350", "-150", "--crop", "48"])
    assert config == ExportConfig(data=("a",), out="b", window=(-1350, -150), crop=48)
