import time
from pathlib import Path

import pytest

from lungforge.ct.geometry import Geometry
from lungforge.ct.io.luna16_tables import (
    Annotation,
    Candidate,
    outside_reason,
    read_annotations,
    read_candidates,
)
from lungforge.errors import InputError


def write(path: Path, *lines: str) -> str:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def test_annotations_are_grouped_by_series_and_other_columns_ignored(tmp_path: Path) -> None:
    uri = write(
        tmp_path / "annotations.csv",
        "\ufeffdiameter_mm, seriesuid,note,coordX,coordY,coordZ",
        "4.5,1.2.3,seen,-1.5,2,3e1",
        "",
        "6,1.2.4,,0,0,0",
        '7,1.2.3,"a, b",1,1,1',
    )
    assert read_annotations(uri) == {
        "1.2.3": [Annotation("1.2.3", -1.5, 2, 30, 4.5), Annotation("1.2.3", 1, 1, 1, 7)],
        "1.2.4": [Annotation("1.2.4", 0, 0, 0, 6)],
    }


def test_candidates_are_read_from_any_uri(tmp_path: Path) -> None:
    write(tmp_path / "c.csv", "seriesuid,coordX,coordY,coordZ,class", "1.2.3,1,2,3,0", "1.2.3,1,2,4,1")
    candidates = read_candidates(f"file://{tmp_path}/c.csv")
    assert candidates == {"1.2.3": [Candidate("1.2.3", 1, 2, 3, 0), Candidate("1.2.3", 1, 2, 4, 1)]}


HEADER = "seriesuid,coordX,coordY,coordZ,diameter_mm"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["seriesuid,x,coordY,coordZ,diameter"], r"no column coordX, diameter_mm; it has seriesuid, x"),
        ([""], r"no column seriesuid"),
        ([HEADER, "1,2,3,4,5", "1,2,three,4,5"], r"annotations\.csv, line 3: coordY is 'three'"),
        ([HEADER, "1,nan,3,4,inf"], r"line 2: coordX is 'nan', diameter_mm is 'inf'"),
        ([HEADER, "1,2,3,4"], r"line 2: 4 fields where the header has 5"),
        ([HEADER, ",2,3,4,5"], r"line 2: seriesuid is empty"),
        ([HEADER, "1,2,3,4,-5"], r"line 2: diameter_mm is -5; a diameter is positive"),
    ],
)
def test_a_bad_table_is_named_with_the_line_and_the_value(
    tmp_path: Path, lines: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        read_annotations(write(tmp_path / "annotations.csv", *lines))


def test_a_bad_class_a_missing_file_and_no_table_at_all(tmp_path: Path) -> None:
    uri = write(tmp_path / "c.csv", "seriesuid,coordX,coordY,coordZ,class", "1,2,3,4,2")
    with pytest.raises(InputError, match="line 2: class is 2; it must be 0 or 1"):
        read_candidates(uri)
    with pytest.raises(InputError, match="there is no such file"):
        read_candidates(str(tmp_path / "none.csv"))
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)))
    with pytest.raises(InputError, match="not a table of comma-separated values"):
        read_candidates(str(tmp_path / "binary.csv"))


def test_a_tenth_of_luna16s_candidates_is_read_in_a_moment(tmp_path: Path) -> None:
    rows = [f"1.2.{i // 850},{i * 0.001},{-i * 0.002},{i % 300},{int(i % 500 == 0)}" for i in range(75_500)]
    uri = write(tmp_path / "c.csv", "seriesuid,coordX,coordY,coordZ,class", *rows)
    before = time.process_time()
    candidates = read_candidates(uri)
    assert time.process_time() - before < 2, "all of it would take more than 20 s"
    assert sum(map(len, candidates.values())) == 75_500
    assert len(candidates) == 89


def test_where_a_finding_lies_is_said_in_mm_and_voxels() -> None:
    geometry = Geometry((10, 20, 30), (0.5, 0.5, 2))
    reason = outside_reason(Candidate("1", -3, 1, 4, 0), geometry)
    assert reason == (
        "the candidate at (-3, 1, 4) mm lies outside the volume: voxel (-6, 2, 2) of (10, 20, 30)"
    )
