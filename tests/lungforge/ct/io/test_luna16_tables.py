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
from lungforge.errors import ContentError, InputError


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
        ([HEADER, "1,2,3,4,5", "1,2,3,4,4500"], r"line 3: diameter_mm is 4500; .* at most 300 mm"),
        ([HEADER, "1,1_0,3,4,5"], r"line 2: coordX is '1_0'"),
        ([HEADER, "1,1e308,1e308,4,5"], r"line 2: coordX is '1e308', coordY is '1e308'; it must be a finite"),
        ([HEADER, " ,2,3,4,5"], r"line 2: seriesuid is empty"),
        ([HEADER, ".mhd,2,3,4,5"], r"line 2: seriesuid is empty"),
        # Decimal commas: in a field of its own each, quoted, and where a nameless column makes room.
        ([HEADER, "1,2,5,3,5,4,0,6,25"], r"line 2: 9 fields where the header has 5; write decimals with a p"),
        ([HEADER, '1,"2,5",3,4,5'], r"line 2: coordX is '2,5'; it must be .* with a decimal point"),
        ([HEADER + ",", "1,2,5,3,4,5"], r"line 2: 6 fields where the header has 5"),
        ([HEADER.replace(",", ";"), "1;2,5;3;4;5"], r"annotations\.csv: .* separated by semicolons"),
        ([HEADER.replace(",", "\t"), "1\t2\t3\t4\t5"], r"annotations\.csv: .* separated by tabs"),
        (
            [HEADER, "7,1,2,3,4", "8,1,2,3,5", "7,1,2,3,5"],
            r"rows of 7 contradict .* at \(1, 2, 3\) mm; leave one",
        ),
        ([HEADER + ",coordX", "1,2,3,4,5,6"], r"2 columns are named coordX"),
        # A quotation mark that is not closed would swallow the rows below it, and so would two of them.
        ([HEADER + ",note", '1,2,3,4,5,"seen', "1,2,3,4,6,"], r"line 2: not a table .*unexpected end"),
        ([HEADER + ",note", '1,2,3,4,5,"a', "1,2,3,4,6,b", '1,2,3,4,7,"c'], r"line 2: not a table"),
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


PLAIN = {"1.2.3": [Annotation("1.2.3", -1.5, 2, 30, 4.5)], "1.2.4": [Annotation("1.2.4", 0, 0, 0, 6)]}
ROWS = ["1.2.3,-1.5,2,30,4.5", "1.2.4,0,0,0,6"]


@pytest.mark.parametrize(
    "lines",
    [
        [HEADER.replace(",", " , "), *(row.replace(",", " ,\t") for row in ROWS)],
        [f" {HEADER} ", *(f"\u00a0{row}\u00a0" for row in ROWS)],
        ["", HEADER, ",,,,", *ROWS, " , ,,,", "", ",,,,"],
        [HEADER + ",,", *(f"{row},," for row in ROWS), ",,,,,,"],
        [HEADER, *ROWS, ROWS[0], "1.2.4.mhd,0.0,-0,0e0,6.00"],
        [HEADER, *(row.replace(",", ".MHD ,", 1) for row in ROWS)],
        ['"' + HEADER.replace(",", '", "') + '"', *(f'"{row}"'.replace(",", '" ,"') for row in ROWS)],
        [HEADER + ",note", f'{ROWS[0]},"two', 'lines, and ""quotes"""', ROWS[1]],
        [HEADER + ",note", f'{ROWS[0]},5" wide', f"{ROWS[1]},"],
    ],
    ids=[
        "spaces",
        "hard-spaces",
        "empty-rows",
        "empty-columns",
        "doubled",
        "file-names",
        "quotes",
        "note",
        "inch",
    ],
)
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_what_spreadsheets_make_of_a_table_says_the_same(
    tmp_path: Path, lines: list[str], ending: str
) -> None:
    (tmp_path / "a.csv").write_bytes((ending.join(lines) + ending).encode())
    annotations = read_annotations(str(tmp_path / "a.csv"))
    assert annotations == PLAIN
    assert annotations.doubled == (2 if any("6.00" in line for line in lines) else 0)


@pytest.mark.parametrize(
    "encoding", ["utf-8-sig", "latin-1", "cp1252", "utf-16", "utf-32", "utf-8-sig, latin-1"]
)
def test_the_encoding_of_other_columns_is_of_no_matter(tmp_path: Path, encoding: str) -> None:
    text = "\n".join([HEADER + ",note", *(f"{row},größer als £3" for row in ROWS)])
    first, _, second = encoding.partition(", ")
    data = b"\xef\xbb\xbf" + text.encode(second) if second else text.encode(first)
    (tmp_path / "a.csv").write_bytes(data)
    assert read_annotations(str(tmp_path / "a.csv")) == PLAIN


def test_a_uid_is_never_guessed_from_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(f"{HEADER}\nMüller,1,2,3,4\n".encode("latin-1"))
    with pytest.raises(ContentError, match=r"a\.csv, line 2: seriesuid is 'Müller'; save the table as UTF-8"):
        read_annotations(str(tmp_path / "a.csv"))
    (tmp_path / "a.csv").write_text(f"{HEADER}\n肺部,1,2,3,4\n", encoding="utf-8")
    assert list(read_annotations(str(tmp_path / "a.csv"))) == ["肺部"]
    (tmp_path / "a.csv").write_text(f"{HEADER}\n1,1,2,3,4\n", encoding="utf-16-le")
    with pytest.raises(ContentError, match=r"UTF-16 without a byte order mark\); save it as UTF-8"):
        read_annotations(str(tmp_path / "a.csv"))


def test_doubled_candidates_count_once_and_in_place(tmp_path: Path) -> None:
    rows = ["7,1,2,3,0", "8,1,2,3,0", "7,1,2,4,1", "7,1,2,3,0", "7,1,2,3.0,0"]
    candidates = read_candidates(write(tmp_path / "c.csv", "seriesuid,coordX,coordY,coordZ,class", *rows))
    assert candidates == {
        "7": [Candidate("7", 1, 2, 3, 0), Candidate("7", 1, 2, 4, 1)],
        "8": [Candidate("8", 1, 2, 3, 0)],
    }
    assert candidates.doubled == 2


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
    voxel = "voxel (-6, 2, 2) of (10, 20, 30)"
    assert outside_reason(Candidate("1.2", -3, 1, 4, 0), geometry) == (
        f"the candidate at (-3, 1, 4) mm lies outside the volume: {voxel}"
    )
    assert outside_reason(Annotation("1.2", -3, 1, 4, 5), geometry) == (
        f"an annotation of 1.2 at (-3, 1, 4) mm lies outside its volume: {voxel}"
    )
