"""The table of powers is what the results say, in the order of the counts."""

import json
import sys

import pytest

from benchmarks import power_table
from services.eval.sensitivity import TITLES, read_table


def _result(images: int, **changes: object) -> dict:
    powers = {title: round(number / 10, 1) for number, title in enumerate(TITLES.values())}
    faults = {"untouched": dict.fromkeys(powers, 0.0), "+25 HU": powers, "mirrored": powers}
    common = {"slices": 433, "all_scans": 229, "side_px": 64, "extractor": "e", "subsets": [0, 1], "seed": 0}
    return {"faults": faults, "n": images, "scans": images - 5, "repeats": 40, **common, **changes}


def test_the_printed_table_is_read_back(tmp_path, monkeypatch, capsys) -> None:
    files = []
    for images in (100, 25):
        files.append(tmp_path / f"{images}.json")
        files[-1].write_text(json.dumps(_result(images)), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["power_table", "--data", "LUNA16", *map(str, files)])
    assert power_table.main() == 0
    table = read_table(capsys.readouterr().out.encode())
    assert table.data == "433 slices of 229 scans, 64 px, of LUNA16"
    assert [(entry.images, entry.scans, entry.repeats) for entry in table.entries] == [
        (25, 20, 40),
        (100, 95, 40),
    ]
    untouched, brighter, copies = table.entries[0].faults
    assert (untouched.copies, brighter.copies, copies.copies) == (False, False, True)
    assert [brighter.power(measure) for measure in TITLES] == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]


def test_results_on_other_slices_do_not_mix() -> None:
    with pytest.raises(ValueError, match="differ in slices"):
        power_table.table_of([_result(25), _result(50, slices=10)], "LUNA16")
