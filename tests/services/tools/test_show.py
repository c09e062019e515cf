"""``lungforge show``: the description of a dataset, and its contact sheet."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from lungforge.ct.classes import BODY, COLOURS
from lungforge.datasets import Dataset, DatasetWriter, Kind, Parent, table_from_rows
from lungforge.errors import InputError
from lungforge.models.model_dataset import ModelDetails
from lungforge.visualisation.training_curves import plot_curves
from services.common.training_time import write_training_seconds
from services.tools.show import ShowConfig, dataset_row, run, spread
from tests.factories import slice_row


def _slice(index: int) -> dict[str, Any]:
    return slice_row(
        slice_index=index,
        z_mm=float(index),
        spacing_mm=[2.0, 2.0],
        image=np.full((16, 16), index, np.int16),
        label=np.full((16, 16), BODY, np.uint8),
    )


def _slices(folder: Path, *, config: dict[str, Any] | None = None, rows: int = 5) -> Dataset:
    writer = DatasetWriter(str(folder), Kind.SLICES, config or {"size": 16})
    first = writer.write_part("a", table_from_rows(Kind.SLICES, [_slice(index) for index in range(2)]))
    second = writer.write_part("b", table_from_rows(Kind.SLICES, [_slice(index) for index in range(2, rows)]))
    writer.commit([first, second], {"found": 1})
    return Dataset.open(str(folder))


def _model(folder: Path, *parents: Parent) -> None:
    writer = DatasetWriter(str(folder), Kind.MODEL, {}, parents=parents)
    writer.commit([writer.write_file("model.safetensors", b"weights")])


def test_what_a_dataset_is(tmp_path: Path) -> None:
    _slices(tmp_path / "slices")
    result = run(ShowConfig(data=str(tmp_path / "slices"), verify=True))
    assert (result.kind, result.rows, result.parts, result.verified) == ("slices", 5, 2, True)
    assert result.config == {"size": 16}
    assert result.details == {"found": 1}
    assert result.lineage == ()


def test_the_lineage_reaches_back_and_tells_what_has_changed(tmp_path: Path) -> None:
    slices = _slices(tmp_path / "slices")
    _model(tmp_path / "model", slices.parent())
    model = Dataset.open(str(tmp_path / "model"))
    samples = DatasetWriter(
        str(tmp_path / "samples"), Kind.SAMPLES, {}, parents=(model.parent(), slices.parent())
    )
    samples.commit([])
    lines = run(ShowConfig(data=str(tmp_path / "samples"))).lineage
    assert [line.split()[0] for line in lines] == ["model", "slices", "slices"]
    assert [line.startswith("  ") for line in lines] == [False, True, False]

    (tmp_path / "slices" / "manifest.json").unlink()
    _slices(tmp_path / "slices", config={"size": 17})
    assert "CHANGED since" in run(ShowConfig(data=str(tmp_path / "samples"))).lineage[-1]
    (tmp_path / "slices" / "manifest.json").unlink()
    assert "cannot be reached" in run(ShowConfig(data=str(tmp_path / "samples"))).lineage[-1]


def test_parents_elsewhere_are_named_and_not_asked_for(tmp_path: Path) -> None:
    _model(
        tmp_path / "model",
        Parent("http://127.0.0.1:1/slices", "a" * 64, Kind.SLICES),
        Parent(str(tmp_path / "gone"), "b" * 64, Kind.SLICES),
    )
    first, second = run(ShowConfig(data=str(tmp_path / "model"))).lineage
    assert first.startswith("slices http://127.0.0.1:1/slices (sha256 aaaaaaaaaaaa): not followed")
    assert second.endswith("cannot be reached from here")


def test_a_lineage_of_many_ways_is_shown_once(tmp_path: Path) -> None:
    """Each generation names the one before it twice."""
    parents: tuple[Parent, ...] = ()
    for generation in range(12):
        for copy in "ab":
            _model(tmp_path / f"{generation}{copy}", *parents)
        parents = tuple(Dataset.open(str(tmp_path / f"{generation}{copy}")).parent() for copy in "ab")
    assert len(run(ShowConfig(data=str(tmp_path / "11a"))).lineage) == 22


def test_verify_finds_an_altered_part(tmp_path: Path) -> None:
    dataset = _slices(tmp_path / "slices")
    part = tmp_path / "slices" / dataset.manifest.parts[1].path
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 1
    part.write_bytes(content)
    run(ShowConfig(data=str(tmp_path / "slices")))
    with pytest.raises(InputError, match="part-b"):
        run(ShowConfig(data=str(tmp_path / "slices"), verify=True))


def test_rows_by_number_cross_parts(tmp_path: Path) -> None:
    dataset = _slices(tmp_path / "slices")
    assert [dataset_row(dataset, number)["slice_index"] for number in range(5)] == [0, 1, 2, 3, 4]
    assert dataset_row(dataset, 3)["image"].tolist() == np.full((16, 16), 3).tolist()


def test_rows_of_a_sheet_are_spread_from_first_to_last() -> None:
    assert spread(100, 5) == [0, 25, 50, 74, 99]
    assert spread(3, 6) == [0, 1, 2]


def test_the_sheet_shows_the_map_in_its_colours(tmp_path: Path) -> None:
    _slices(tmp_path / "slices")
    sheet = tmp_path / "sheet.png"
    run(ShowConfig(data=str(tmp_path / "slices"), sheet=str(sheet), rows=2))
    picture = np.asarray(Image.open(sheet).convert("RGB"))
    body = (picture == COLOURS[BODY]).all(axis=-1).sum()
    assert body >= 2 * 256 * 256  # two rows, each 16 px enlarged sixteen times
    assert Image.open(sheet).text["Source"].startswith("LungForge slices")  # type: ignore[attr-defined]


def test_a_model_has_no_sheet(tmp_path: Path) -> None:
    _model(tmp_path / "model")
    with pytest.raises(InputError, match="no images to show"):
        run(ShowConfig(data=str(tmp_path / "model"), sheet=str(tmp_path / "sheet.png")))


def test_a_trained_model_is_shown_as_its_curves(tmp_path: Path) -> None:
    writer = DatasetWriter(str(tmp_path / "model"), Kind.MODEL, {})
    history = {"loss": [1.0, 0.5, 0.25], "gradient_norm": [3.0, 2.0, 1.0]}
    part = writer.write_file("history.json", json.dumps(history).encode())
    writer.commit([part], {"model": "sdm", "rows": 3})
    path = str(tmp_path / "curves.png")
    assert run(ShowConfig(data=writer.uri, sheet=path)).sheet == path
    assert Path(path).read_bytes() == plot_curves(history, "sdm, 3 slices")


def _summary(uri: str) -> list[str]:
    lines = run(ShowConfig(data=uri)).text.splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 80
    return lines


def test_a_model_is_its_network_its_training_and_its_errors(tmp_path: Path) -> None:
    weights = {"a": torch.zeros(3, 5, 2), "b": torch.zeros(7), "c": torch.zeros(())}
    writer = DatasetWriter(str(tmp_path / "model"), Kind.MODEL, {"batch": 8, "seed": 0})
    errors = {"error_low_noise_hu": 21.4, "error_middle_noise_hu": 58.0, "error_high_noise_hu": 97.6}
    details = ModelDetails(
        model="sdm",
        size=64,
        rows=1186,
        steps=3000,
        subsets=[0, 2],
        series_uids=["x", "y"],
        final_metrics={**errors, "kid": 0.5},
    )
    writer.commit([writer.write_file("model.safetensors", save(weights))], details.to_json())
    write_training_seconds(writer.uri, 4320.0)
    result = run(ShowConfig(data=writer.uri))
    assert (result.parameters, result.training_minutes) == (3 * 5 * 2 + 7 + 1, 72.0)
    flowing = " ".join(" ".join(_summary(writer.uri)).split())
    assert "network sdm, whole slices of 64 px, 38 parameters" in flowing
    assert "3,000 steps of 8 images in 72 min; on 1,186 slices of 2 scans, subsets 0 2" in flowing
    assert "error 21 HU at low noise, 58 HU at middle noise, 98 HU at high noise" in flowing
    assert "measures kid 0.5" in flowing


@pytest.mark.parametrize(
    "content",
    [b"", b"weights", (2**40).to_bytes(8, "little"), b"\x02" + bytes(7) + b"[]", b"\x02" + bytes(7) + b"{}"],
)
def test_weights_that_do_not_tell_their_parameters_are_no_error(content: bytes, tmp_path: Path) -> None:
    writer = DatasetWriter(str(tmp_path / "model"), Kind.MODEL, {})
    writer.commit([writer.write_file("model.safetensors", content)], {"model": "sdm"})
    assert run(ShowConfig(data=writer.uri)).parameters in (None, 0)
    assert "network    sdm" in "\n".join(_summary(writer.uri))


def test_a_damaged_record_of_the_time_is_none(tmp_path: Path) -> None:
    _model(tmp_path / "model")
    for content in ("{", "[]", '{"seconds": "long"}', '{"seconds": -1}', '{"seconds": 1e999}'):
        (tmp_path / "model" / "training_time.json").write_text(content, encoding="utf-8")
        assert run(ShowConfig(data=str(tmp_path / "model"))).training_minutes is None


def test_slices_are_a_screen_however_much_there_is_to_say(tmp_path: Path) -> None:
    config = {f"option_{index}": "x" * 30 for index in range(60)}
    subsets = {str(index): {"volumes": 89, "slices": 1000 + index, "nodules": 120} for index in range(10)}
    writer = DatasetWriter(str(tmp_path / "slices"), Kind.SLICES, config)
    part = writer.write_part("a", table_from_rows(Kind.SLICES, [_slice(0)]))
    writer.commit([part], {"subsets": subsets, "rejected": [{"series_uid": "a", "reason": "b"}] * 4})
    lines = _summary(writer.uri)
    assert "contents   subset 0: 89 volumes, 1,000 slices, 120 nodules" in lines
    assert any(line.startswith("options ") for line in lines)
    assert any(line.startswith("sha256 ") for line in lines)
    assert lines[-1] == "--json prints all of it."


def test_ten_subsets_have_room(tmp_path: Path) -> None:
    subsets = {str(index): {"volumes": 89, "slices": 1000 + index, "nodules": 120} for index in range(10)}
    writer = DatasetWriter(str(tmp_path / "slices"), Kind.SLICES, {"size": 16})
    part = writer.write_part("a", table_from_rows(Kind.SLICES, [_slice(0)]))
    writer.commit([part], {"subsets": subsets, "rejected": [{"series_uid": "a", "reason": "b"}] * 4})
    lines = _summary(writer.uri)
    assert "           subset 9: 89 volumes, 1,009 slices, 120 nodules" in lines
    assert "           rejected: 4" in lines
    assert "json" not in lines[-1]


def test_samples_say_how_they_were_made(tmp_path: Path) -> None:
    config = {"edits": [["move", 1.0], ["resize", 2.0]], "sampler": "heun", "steps": 12, "guidance": 1.5}
    writer = DatasetWriter(str(tmp_path / "samples"), Kind.SAMPLES, config)
    writer.commit([], {"maps": 16, "images": 30, "left_out": 2})
    flowing = " ".join(" ".join(_summary(writer.uri)).split())
    assert "from 16 maps; sampler heun, 12 steps, guidance 1.5; edits: move resize" in flowing
    assert "2 left out, as their edit had no room" in flowing


def test_a_summary_cannot_move_the_cursor(tmp_path: Path) -> None:
    _slices(tmp_path / "slices", config={"source\x1b[2J": "a\r\nb"})
    text = run(ShowConfig(data=str(tmp_path / "slices"))).text
    assert "source\\x1b[2J" in text
    assert not set(text) & {"\x1b", "\r"}


def test_details_of_anyone_are_shown_or_left_out(tmp_path: Path) -> None:
    for name, kind, details in (
        ("model", Kind.MODEL, {"model": 3, "rows": "many"}),
        ("slices", Kind.SLICES, {"rejected": 7, "subsets": {"0": 3, "1": {"volumes": "x"}}}),
        ("samples", Kind.SAMPLES, {"left_out": "a", "maps": []}),
    ):
        writer = DatasetWriter(str(tmp_path / name), kind, {"edits": 3})
        writer.commit([], details)
        assert "sha256" in "\n".join(_summary(writer.uri))
